"""Sources that users describe in a YAML mapping, for files without a preset; see `docs/sources.md`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from retail_core.errors import InputError
from retail_core.sources.identity import Identity
from retail_core.sources.presets import CANONICAL, PRESETS
from retail_core.sources.source import REQUIRED, Layout, Source, TimeFormat
from retail_core.sources.value_parsing import parse_times
from retail_core.times import zone

EventField = Literal[
    "event_id", "user_id", "event_time", "event_type", "item_id", "category", "brand", "price", "quantity",
    "currency", "session_id", "platform", "order_id",
]  # fmt: skip
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Text], Field(min_length=1)]
_UNITS: dict[str, Literal["s", "ms", "us"]] = {"unix_s": "s", "unix_ms": "ms", "unix_us": "us"}


class SourceMapping(BaseModel):
    """Keys of a mapping file. Absent ones have the value of the preset `extends`, else of `canonical`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] | None = None
    extends: str | None = None
    columns: dict[EventField, Text | Names] = Field(default_factory=dict)
    event_types: dict[str, Text] | None = None
    constants: dict[EventField, Text] = Field(default_factory=dict)
    time: Literal["iso", "unix_s", "unix_ms", "unix_us"] | Names | None = None
    timezone: str | None = None
    policy: Literal["daily", "in-session", "first-visit"] | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encoding: str | None = None
    header: Names | None = None
    properties: Literal["all"] | list[Text] | None = None
    attributes: dict[str, Literal["number", "text"]] | None = None
    identity: Names | None = None
    repeats: Literal["duplicates", "count"] | None = None

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                zone(value)
            except InputError as error:
                raise ValueError(error.message.removesuffix(".")) from error
        return value

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                "a".encode(value)
            except (LookupError, UnicodeError) as error:
                raise ValueError(f"there is no text encoding named {value!r}") from error
        return value

    @field_validator("delimiter")
    @classmethod
    def _delimiter(cls, value: str | None) -> str | None:
        if value is not None and value in '"\r\n\0':
            raise ValueError("a quotation mark or a line break cannot separate fields")
        return value

    @field_validator("time")
    @classmethod
    def _formats(cls, value: str | list[str] | None) -> str | list[str] | None:
        for form in value if isinstance(value, list) else ():
            try:
                parse_times(pa.array(["never"]), TimeFormat("strptime", formats=(form,)), "UTC")
            except ValueError as error:
                raise ValueError(f"{form!r} is not a time format ({error})") from error
        return value

    @field_validator("extends")
    @classmethod
    def _preset(cls, value: str | None) -> str | None:
        if value is not None and value not in PRESETS:
            raise ValueError(f"there is no preset {value!r}; there are {', '.join(PRESETS)}")
        return value

    @model_validator(mode="after")
    def _complete(self) -> SourceMapping:
        if self.extends is None:
            if self.name is None or self.name in PRESETS:
                raise ValueError("name: give the source a name of its own that no preset has")
            absent = [name for name in REQUIRED if name not in {*self.columns, *self.constants}]
            if absent:
                raise ValueError(f"columns: state which column is {absent[0]}, or set it under constants")
        return self


def from_mapping(path: Path) -> Source:
    """The source that a mapping file describes.

    Raises:
        InputError: no such file, not YAML, or a key that is missing, unknown or has a wrong value.
    """
    remedy = "correct the mapping; docs/sources.md has a worked example."
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no mapping file {path}.", remedy="check the path.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        detail = " ".join(str(error).split())
        raise InputError(f"The mapping {path} is not readable YAML: {detail}.", remedy=remedy) from error
    if not isinstance(content, dict):
        raise InputError(f"The mapping {path} has no keys.", remedy=remedy)
    try:
        return _source(SourceMapping.model_validate(content))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(name) for name in first["loc"][:2])
        detail = first["msg"].removeprefix("Value error, ")
        problem = f"key {key}: {detail}" if key else detail
        raise InputError(f"The mapping {path}, {problem}.", remedy=remedy) from error


def _source(mapping: SourceMapping) -> Source:
    base = PRESETS[mapping.extends] if mapping.extends else replace(CANONICAL, columns={}, properties=())
    columns = {name: (raw,) if isinstance(raw, str) else tuple(raw) for name, raw in mapping.columns.items()}
    properties = base.properties if mapping.properties is None else tuple(mapping.properties)
    return replace(
        base,
        name=mapping.name or base.name,
        columns=dict(base.columns) | columns,
        timezone=mapping.timezone or base.timezone,
        policy=mapping.policy or base.policy,
        layout=_layout(mapping, base.layout),
        time=base.time if mapping.time is None else _time(mapping.time),
        vocabulary=base.vocabulary if mapping.event_types is None else mapping.event_types,
        constants=dict(base.constants) | dict(mapping.constants),
        properties=None if mapping.properties == "all" else properties,
        attributes=base.attributes if mapping.attributes is None else mapping.attributes,
        identity=_identity(mapping, base.identity if mapping.extends else Identity()),
    )


def _identity(mapping: SourceMapping, base: Identity) -> Identity:
    return replace(
        base,
        columns=base.columns if mapping.identity is None else tuple(mapping.identity),
        repeats=mapping.repeats or base.repeats,
    )


def _layout(mapping: SourceMapping, base: Layout) -> Layout:
    return replace(
        base,
        delimiter=mapping.delimiter or base.delimiter,
        encoding=mapping.encoding or base.encoding,
        header=base.header if mapping.header is None else tuple(mapping.header),
    )


def _time(time: str | list[str]) -> TimeFormat:
    if isinstance(time, list):
        return TimeFormat("strptime", formats=tuple(time))
    return TimeFormat("unix", _UNITS[time]) if time in _UNITS else TimeFormat("iso")
