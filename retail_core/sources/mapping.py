"""Sources that users describe in a YAML mapping, for files without a preset; see `docs/sources.md`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from retail_core.errors import InputError
from retail_core.sources.identity import Identity
from retail_core.sources.identity_links import LinkColumns
from retail_core.sources.joined_files import read_joined_file
from retail_core.sources.mapping_schema import JoinMapping, ListMapping, SourceMapping, as_names
from retail_core.sources.number_parsing import NumberFormat
from retail_core.sources.presets import PRESETS
from retail_core.sources.presets.canonical import CANONICAL
from retail_core.sources.source import Source
from retail_core.sources.source_options import (
    CellList,
    ColumnValues,
    JoinedFile,
    Layout,
    RowRules,
    TimeFormat,
)
from retail_core.sources.time_parsing import UNIX_UNITS

MAX_TEXT_BYTES = 64 * 1024
"""Largest mapping that is accepted as text."""

_OTHER_KINDS = frozenset({"literal_error", "list_type", "string_type"})
"""Errors of a value with alternatives may be of the alternative that is not meant."""

MAX_KEY_LENGTH = 100
"""Characters of a key in a message."""

_UNION_MEMBERS = ("literal[", "list[", "constrained-str", "JoinMapping")
"""Parts of the location of an error that are no keys, but the alternatives of a value."""

_REMEDY = "correct the mapping; docs/sources.md has a worked example."


class MappingError(InputError):
    """A mapping cannot be used.

    Args:
        subject: which mapping, the beginning of the message.
        rule: what is wrong.
        key: the key at fault (`columns.price`), empty for the whole text.
    """

    def __init__(self, subject: str, rule: str, key: str = "") -> None:
        problem = f", key {key}: {rule}." if key else f" {rule}."
        super().__init__(f"{subject}{problem}", remedy=_REMEDY)
        self.key = key
        self.rule = rule


def from_mapping(path: Path) -> Source:
    """The source that a mapping file describes.

    Raises:
        InputError: no such file, not YAML, or a key that is missing, unknown or has a wrong value; or a file
            to join is missing, too large, or has a key twice.
    """
    subject = f"The mapping {path}"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"There is no mapping file {path}.", remedy="check the path.") from error
    except (OSError, ValueError) as error:
        raise MappingError(subject, f"is not readable YAML: {error}") from error
    mapping = _checked_mapping(_load_yaml(text, _Loader, subject), subject)
    source = _source(mapping)
    return replace(source, joins=tuple(_joined(join, path.parent, source) for join in mapping.joins))


def mapping_from_text(text: str, *, users: bool = False) -> Source:
    """The source of events (with `users` also of users) that the text of a mapping describes.

    The text may come from anyone.
    Text of more than `MAX_TEXT_BYTES` and YAML aliases are refused, so that time and memory are bounded.

    Raises:
        MappingError: too long, not YAML, or a key that is missing, unknown or has a wrong value.
    """
    subject = "The mapping"
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise MappingError(subject, f"is larger than {MAX_TEXT_BYTES // 1024} KiB")
    mapping = _checked_mapping(_load_yaml(text, _TextLoader, subject), subject)
    if mapping.describes_users and not users:
        rule = "event_time and event_type are missing: a log of events is needed"
        raise MappingError(subject, rule, "columns")
    if mapping.joins:
        rule = "no file is opened here: join the files before, or use `retail ingest --mapping`"
        raise MappingError(subject, rule, "join")
    return _source(mapping)


def _checked_mapping(content: object, subject: str) -> SourceMapping:
    if not isinstance(content, dict):
        raise MappingError(subject, "has no keys")
    try:
        return SourceMapping.model_validate({str(key): value for key, value in content.items()})
    except ValidationError as error:
        errors = error.errors()
        first = next((problem for problem in errors if problem["type"] not in _OTHER_KINDS), errors[0])
        names = [
            str(name)[:MAX_KEY_LENGTH] for name in first["loc"] if not str(name).startswith(_UNION_MEMBERS)
        ]
        key = ".".join(names[:2])
        rule = first["msg"].removeprefix("Value error, ")
        raise MappingError(subject, rule if key else f"is wrong: {rule}", key) from error


class _Loader(yaml.SafeLoader):
    """Safe YAML in which no key may be given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys_so_far = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in keys_so_far:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key} is given twice", node.start_mark
                    )
                keys_so_far.add(key)
        return super().construct_mapping(node, deep)


class _TextLoader(_Loader):
    """Without aliases, with which a short text describes a mapping of any size."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "an alias (*name) is not accepted: write the value again", mark
            )
        return super().compose_node(parent, index)


def _load_yaml(text: str, loader: type[_Loader], subject: str) -> object:
    try:
        return yaml.load(text, loader)  # nosec B506 # noqa: S506 - a safe loader
    except (ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        detail = " ".join(str(error).split())
        raise MappingError(subject, f"is not readable YAML: {detail}") from error


def _source(mapping: SourceMapping) -> Source:
    base = PRESETS[mapping.extends] if mapping.extends else replace(CANONICAL, columns={}, properties=())
    source = _with_options(mapping, base)
    if base.v1_reading is not None:
        source = replace(source, v1_reading=_with_options(mapping, base.v1_reading))
    return source


def _with_options(mapping: SourceMapping, base: Source) -> Source:
    columns = {
        name: (_column(raw),) if isinstance(raw, str) else tuple(map(_column, raw))
        for name, raw in mapping.columns.items()
    }
    attributes = {_column(name): kind for name, kind in (mapping.attributes or {}).items()}
    required = [_column(name) for name in mapping.raw_names() if not _is_optional(name)]
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
        properties=_properties(mapping, base),
        attributes=base.attributes if mapping.attributes is None else attributes,
        nulls=base.nulls if mapping.nulls is None else tuple(mapping.nulls),
        numbers=_numbers(mapping, base.numbers),
        rules=_rules(mapping, base.rules),
        required_columns=tuple(dict.fromkeys(required)),
        lists=dict(base.lists) | {name: _cell_list(cells) for name, cells in mapping.lists.items()},
        identity=_identity(mapping, base.identity if mapping.extends else Identity()),
        rows="users" if mapping.describes_users else "events",
        valid_from=_column(mapping.valid_from) if mapping.valid_from else None,
        links=_links(mapping, base.links if mapping.extends else LinkColumns()),
    )


def _joined(join: JoinMapping, folder: Path, source: Source) -> JoinedFile:
    layout = replace(
        source.layout,
        delimiter=join.delimiter or source.layout.delimiter,
        encoding=join.encoding or source.layout.encoding,
        header=None,
        skip_lines=0,
    )
    return read_joined_file(folder / join.file, tuple(join.on.items()), join.columns, layout, source.nulls)


def _cell_list(cells: ListMapping) -> CellList:
    return CellList(
        cells.column,
        cells.separator,
        tuple(cells.fields_ or ()),
        cells.field_separator,
        tuple(cells.first_of or ()),
        cells.strip or "",
    )


def _identity(mapping: SourceMapping, base: Identity) -> Identity:
    return replace(
        base,
        columns=base.columns if mapping.identity is None else tuple(mapping.identity),
        of_format=base.of_format and mapping.identity is None,
        repeats=mapping.repeats or base.repeats,
    )


def _links(mapping: SourceMapping, base: LinkColumns) -> LinkColumns:
    anonymous, previous = (
        tuple(map(_column, as_names(names))) for names in (mapping.anonymous_id, mapping.previous_id)
    )
    if not (anonymous or previous or mapping.identity_events is not None):
        return base
    return replace(
        base,
        anonymous=anonymous or base.anonymous,
        previous=previous or base.previous,
        events=base.events if mapping.identity_events is None else tuple(mapping.identity_events),
        of_format=False,
    )


def _is_optional(name: str) -> bool:
    """Whether a column is marked as optional by one question mark at its end."""
    return name.endswith("?") and not name.endswith("??")


def _column(name: str) -> str:
    """The column's name without the mark: `price?` is `price`, and `really??` the column `really?`."""
    return name.removesuffix("?")


def _properties(mapping: SourceMapping, base: Source) -> tuple[str, ...] | None:
    if mapping.properties is None:
        return base.properties
    return None if mapping.properties == "all" else tuple(map(_column, mapping.properties))


def _layout(mapping: SourceMapping, base: Layout) -> Layout:
    return replace(
        base,
        delimiter=mapping.delimiter or base.delimiter,
        encoding=mapping.encoding or base.encoding,
        header=base.header if mapping.header is None else tuple(mapping.header),
        skip_lines=base.skip_lines if mapping.skip_lines is None else mapping.skip_lines,
        comment=mapping.comment or base.comment,
        unquoted=base.unquoted if mapping.quoted is None else not mapping.quoted,
    )


def _time(time: str | list[str]) -> TimeFormat:
    if isinstance(time, list):
        return TimeFormat("strptime", formats=tuple(time))
    return TimeFormat("unix", UNIX_UNITS[time]) if time in UNIX_UNITS else TimeFormat("iso")


def _numbers(mapping: SourceMapping, base: NumberFormat) -> NumberFormat:
    signs = mapping.currency_signs
    return replace(
        base,
        decimal=mapping.decimal or base.decimal,
        currency_signs=base.currency_signs if signs is None else signs,
        price_per=mapping.price_per or base.price_per,
        price_unit=mapping.price_unit or base.price_unit,
    )


def _rules(mapping: SourceMapping, base: RowRules) -> RowRules:
    fill, refunds = mapping.fill_down, mapping.refunds
    return replace(
        base,
        keep=_conditions(mapping.where) or base.keep,
        drop=_conditions(mapping.drop) or base.drop,
        fill_key=_column(fill.by) if fill else base.fill_key,
        fill_columns=tuple(map(_column, fill.columns)) if fill else base.fill_columns,
        refund_if=_conditions(refunds.where) if refunds else base.refund_if,
        negative_refunds=refunds.negative if refunds else base.negative_refunds,
    )


def _conditions(conditions: Mapping[str, str | list[str | None] | None]) -> tuple[ColumnValues, ...]:
    return tuple(
        ColumnValues(_column(name), tuple(values) if isinstance(values, list) else (values,))
        for name, values in conditions.items()
    )
