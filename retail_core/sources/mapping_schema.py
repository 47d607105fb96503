"""Keys of a mapping file, with their checks. Separate from `mapping.py`, which makes a source of them."""

from __future__ import annotations

import re
from itertools import chain
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from retail_core.errors import InputError
from retail_core.sources.nested_paths import exploded_lists
from retail_core.sources.number_parsing import minor_units, parse_quantity
from retail_core.sources.presets import PRESETS, RESERVED_NAMES
from retail_core.sources.raw_paths import path_root
from retail_core.sources.source import REQUIRED
from retail_core.sources.source_options import TimeFormat
from retail_core.sources.time_parsing import ambiguous_formats, parse_times
from retail_core.times import zone


def _scalar(value: object) -> object:
    """YAML integers as text; other values that are not text are refused."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str | list | dict | None):
        raise ValueError(f"{str(value)[:100]} is no text: write it in quotes")  # noqa: TRY004 - what Pydantic reports
    return value


MAX_TEXT_LENGTH = 1_000
"""Characters of a name, value or format."""

MAX_FORMATS = 20
"""Time formats: each is compared with every other."""

_USER_KEYS = frozenset(
    {
        *(
            "name",
            "columns",
            "attributes",
            "valid_from",
            "time",
            "timezone",
            "delimiter",
            "encoding",
            "header",
        ),
        *("skip_lines", "comment", "nulls", "where", "drop"),
    }
)
"""Keys of a mapping of users."""

EventField = Literal[
    "event_id", "user_id", "event_time", "event_type", "item_id", "category", "brand", "price", "quantity",
    "currency", "session_id", "platform", "order_id",
]  # fmt: skip
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH), BeforeValidator(_scalar)]
ShortText = Annotated[str, Field(max_length=100)]
Names = Annotated[list[Text], Field(min_length=1)]
Formats = Annotated[list[Text], Field(min_length=1, max_length=MAX_FORMATS)]
Conditions = dict[Text, Text | list[Text | None] | None]


def as_names(names: str | list[str] | None) -> list[str]:
    """One name, a list of names or none, as a list."""
    return [names] if isinstance(names, str) else list(names or ())


class FillDownMapping(BaseModel):
    """Columns that the rows of one order share; `by` is the column of the order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Text
    columns: Names


class ListMapping(BaseModel):
    """A column whose cells hold several values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: Text
    separator: Annotated[str, Field(min_length=1, max_length=8)] = ","
    fields_: Names | None = Field(None, alias="fields")
    field_separator: Annotated[str, Field(min_length=1, max_length=8)] = ";"
    first_of: Names | None = None
    strip: Annotated[str, Field(min_length=1, max_length=16)] | None = None

    @model_validator(mode="after")
    def _one_reading(self) -> ListMapping:
        if (self.fields_ is None) == (self.first_of is None):
            raise ValueError("give either the fields of each value, or first_of")
        return self


class RefundMapping(BaseModel):
    """Which purchases are refunds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    negative: bool = False
    where: Conditions = Field(default_factory=dict)


class JoinMapping(BaseModel):
    """A second file whose columns are joined to each row; `on` has its key by column of the log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Text
    on: Annotated[dict[Text, Text], Field(min_length=1)]
    columns: Names
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encoding: ShortText | None = None

    @model_validator(mode="before")
    @classmethod
    def _on(cls, value: object) -> object:
        """YAML 1.1 reads the key `on` as true."""
        if not isinstance(value, dict):
            return value
        return {"on" if key is True else key: content for key, content in value.items()}


class SourceMapping(BaseModel):
    """Keys of a mapping file. Absent ones have the value of the preset `extends`, else of `canonical`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] | None = None
    extends: ShortText | None = None
    columns: dict[EventField, Text | Names] = Field(default_factory=dict)
    event_types: dict[Text, Text | None] | None = None
    constants: dict[EventField, Text] = Field(default_factory=dict)
    time: Literal["iso", "unix_s", "unix_ms", "unix_us"] | Formats | None = None
    timezone: ShortText | None = None
    policy: Literal["daily", "in-session", "first-visit"] | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encoding: ShortText | None = None
    header: Names | None = None
    skip_lines: Annotated[int, Field(ge=0, le=1000)] | None = None
    comment: Text | None = None
    quoted: bool | None = None
    properties: Literal["all"] | list[Text] | None = None
    attributes: dict[Text, Literal["number", "text"]] | None = None
    valid_from: Text | None = None
    nulls: list[Text] | None = None
    decimal: Literal[".", ","] | None = None
    currency_signs: dict[Text, Annotated[str, Field(min_length=1, max_length=8)]] | None = None
    price_per: Literal["unit", "line", "row"] | None = None
    price_unit: Literal["whole", "hundredths"] | None = None
    where: Conditions = Field(default_factory=dict)
    drop: Conditions = Field(default_factory=dict)
    fill_down: FillDownMapping | None = None
    refunds: RefundMapping | None = None
    lists: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], ListMapping] = Field(default_factory=dict)
    identity: Names | None = None
    repeats: Literal["duplicates", "count", "once_per_order"] | None = None
    join: JoinMapping | Annotated[list[JoinMapping], Field(min_length=1, max_length=10)] | None = None
    anonymous_id: Text | Names | None = None
    previous_id: Text | Names | None = None
    identity_events: list[Text] | None = None

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
            except (LookupError, UnicodeError, ValueError) as error:
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
        if not isinstance(value, list):
            return value
        for form in value:
            try:
                parse_times(pa.array(["never"]), TimeFormat("strptime", formats=(form,)), "UTC")
            except (ValueError, re.error) as error:
                raise ValueError(f"{form!r} is not a time format ({error})") from error
        if pair := ambiguous_formats(value):
            raise ValueError(
                f"{pair[0]!r} and {pair[1]!r} read the same text as different dates, so that the order of "
                "day and month is ambiguous: name only the format that the file uses"
            )
        return value

    @field_validator("extends")
    @classmethod
    def _preset(cls, value: str | None) -> str | None:
        if value is not None and value not in PRESETS:
            raise ValueError(f"there is no preset {value!r}; there are {', '.join(PRESETS)}")
        return value

    @field_validator("constants")
    @classmethod
    def _constants(cls, value: dict[str, str]) -> dict[str, str]:
        for name, parse in (("price", minor_units), ("quantity", parse_quantity)):
            if name in value and isinstance(parse(value[name]), str):
                raise ValueError(f"{name}: {value[name]!r} is no number of at least 0 with a decimal point")
        return value

    @property
    def joins(self) -> list[JoinMapping]:
        """The files to join, in order."""
        if self.join is None:
            return []
        return self.join if isinstance(self.join, list) else [self.join]

    @field_validator("join")
    @classmethod
    def _joined(cls, value: JoinMapping | list[JoinMapping] | None) -> JoinMapping | list[JoinMapping] | None:
        joins = value if isinstance(value, list) else [value] if value else []
        for join in joins:
            cls._delimiter(join.delimiter)
            cls._encoding(join.encoding)
        return value

    @property
    def describes_users(self) -> bool:
        """Whether the rows are users with attributes, without events."""
        named = {*self.columns, *self.constants}
        return bool(self.attributes) and self.extends is None and not named & {"event_time", "event_type"}

    @model_validator(mode="after")
    def _of_users(self) -> SourceMapping:
        if not self.describes_users:
            if self.valid_from is not None:
                raise ValueError(
                    "valid_from: only a mapping of users has it, with attributes and without event_time and "
                    "event_type; attributes of events are known from the time of the event"
                )
            return self
        names = [name for name in (*self.columns, *self.constants) if name != "user_id"]
        surplus = sorted(self.model_fields_set - _USER_KEYS) + [f"columns.{name}" for name in names]
        if surplus:
            raise ValueError(
                f"{surplus[0]}: a mapping without event_time and event_type describes users, which have only "
                "user_id, valid_from and attributes"
            )
        return self

    @model_validator(mode="after")
    def _complete(self) -> SourceMapping:
        if self.extends is None:
            if self.name is None or self.name in RESERVED_NAMES:
                raise ValueError("name: give the source a name of its own that no preset has")
            required = ("user_id",) if self.describes_users else REQUIRED
            described = {*self.columns, *self.constants, *(["user_id"] if self.anonymous_id else ())}
            absent = [name for name in required if name not in described]
            if absent:
                raise ValueError(f"columns: state which column is {absent[0]}, or set it under constants")
            if self.repeats == "once_per_order" and "order_id" not in self.columns:
                raise ValueError("columns: state which column is order_id, for repeats: once_per_order")
        if self.joins and self.extends and PRESETS[self.extends].prepare is not None:
            raise ValueError(f"join: not possible with preset {self.extends}")
        columns = [name for raw in self.columns.values() for name in ([raw] if isinstance(raw, str) else raw)]
        nested = PRESETS[self.extends].nested.values() if self.extends else ()
        lists = sorted(exploded_lists([*self.raw_names(), *columns, *chain(*nested)]))
        if len(lists) > 1:
            raise ValueError(f"columns: a row can be split by one list only, not by {' and '.join(lists)}")
        return self

    def raw_names(self) -> list[str]:
        """Raw columns of the mapping, with the mark of optional ones."""
        columns = [[raw] if isinstance(raw, str) else raw for raw in self.columns.values()]
        conditions = [*self.where, *self.drop, *(self.refunds.where if self.refunds else ())]
        filled = [self.fill_down.by, *self.fill_down.columns] if self.fill_down else []
        properties = self.properties if isinstance(self.properties, list) else []
        listed = [cells.column for cells in self.lists.values()]
        names = [name for names in columns for name in names if path_root(name) not in self.lists]
        names += [name for ids in (self.anonymous_id, self.previous_id) for name in as_names(ids)]
        dated = (self.valid_from,) if self.valid_from else ()
        return [*names, *listed, *properties, *(self.attributes or ()), *dated, *conditions, *filled]
