"""A source describes one dialect of raw files, and what is parsed of a window of a file.

A file is read as `RawTable`s (text columns), which the event parser turns into `Chunk`s (typed events, user
attributes and refused rows).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, cast

import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from retail_core.arrays import IntArray
from retail_core.schemas import EVENT_COLUMNS, EventFrame, UserAttributes
from retail_core.sources.identity import Identity
from retail_core.sources.identity_links import LinkColumns, no_links
from retail_core.sources.number_parsing import NumberFormat
from retail_core.sources.parse_notes import ParseNotes
from retail_core.sources.raw_paths import has_column, names_by_folded_case, path_root
from retail_core.sources.raw_table import RawTable
from retail_core.sources.refusals import Refusal
from retail_core.sources.source_options import CellList, JoinedFile, Layout, RowRules, TimeFormat
from retail_core.sources.text_cleaning import NULL_MARKERS
from retail_core.times import zone

REQUIRED = ("user_id", "event_time", "event_type")
"""Event fields that every source must provide."""


@dataclass(frozen=True)
class Chunk:
    """The events, user attributes and refused rows of one window of a file.

    Attributes:
        events: valid events.
        users: user attributes.
        refused: rows that could not become events, by line.
        source_ids: event ids of the file's column `id_column`, shape (events,), null where it has none.
        lines: line of each event, shape (events,).
        raw: `raw(i)` is the raw row of event i.
        first: first line of the window.
        last: last line of the window.
        header: field names of a raw CSV row; empty if a raw row is JSON.
        id_column: raw column of the event id.
        position: bytes of the (compressed) file read so far.
        v1_ids: computes the id of each event as release 0.1.0 made it; None where the file has event ids.
        notes: warnings about values of events, and rows that the mapping left out.
        mapped_fields: event fields with a column in this window.
        absent_columns: raw columns that the source maps and the window lacks.
        unread_columns: raw columns of the window that nothing reads.
        has_user_rows: whether its file has one row of attributes per user and no events.
        once_per_order: whether a further message about a user's order gives no purchase of its own.
        blocks: block of each event, shape (events,), within which equal rows are counted; None: the file.
        lines_are_messages: whether a line has all items of its message.
        links: identity links of the window, a table of `LINKS_ARROW`.
        joined_user_ids: ids of users that its rows have from joined files only, by line.
    """

    events: EventFrame
    users: DataFrame[UserAttributes]
    refused: tuple[Refusal, ...]
    source_ids: pa.Array
    lines: IntArray
    raw: Callable[[int], str]
    first: int
    last: int
    header: tuple[str, ...] = ()
    id_column: str = "event_id"
    position: int = 0
    v1_ids: Callable[[], list[str | None]] = list
    notes: ParseNotes = field(default_factory=ParseNotes)
    mapped_fields: tuple[str, ...] = ()
    absent_columns: tuple[str, ...] = ()
    unread_columns: tuple[str, ...] = ()
    has_user_rows: bool = False
    once_per_order: bool = False
    blocks: IntArray | None = None
    lines_are_messages: bool = False
    links: pa.Table = field(default_factory=no_links)
    joined_user_ids: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def rows_read(self) -> int:
        """Events, or the user attributes of a file of users, plus refusals."""
        return len(self.users if self.has_user_rows else self.events) + len(self.refused)


@dataclass(frozen=True)
class RowFormat:
    """How the raw rows of a window are written, so that a refused one can be parsed without its file.

    Attributes:
        header: field names of a CSV row; empty if a row is a JSON object.
        delimiter: of CSV fields.
        user_columns: raw columns of ids of the user.
    """

    header: tuple[str, ...] = ()
    delimiter: str = ","
    user_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One dialect of raw file. The names of its attributes are part of `options_hash`: do not rename them.

    Attributes:
        name: of the source; part of every event id.
        columns: raw columns by event field; of several, the first with a value is used.
        timezone: IANA zone of times without an offset.
        policy: cut-off policy that the dialect requires, None if it leaves that open.
        layout: of a text file.
        time: format of times.
        vocabulary: event types by raw event name; None drops the rows, other names are used unchanged.
        constants: values of event fields that the file does not have.
        properties: raw columns stored as properties; None means all that are not mapped.
        attributes: raw columns of user attributes with their kind.
        needs: further raw columns that must be present.
        derived: event fields that `prepare` provides.
        prepare: turns the dialect's peculiarities into plain columns.
        nulls: text that stands for a missing value.
        numbers: how prices and quantities are written.
        rules: which rows are used.
        required_columns: raw columns that a mapping names and does not mark as optional.
        identity: which rows without an event id are the same event.
        reads: further raw columns and paths that `prepare` reads where a file has them.
        reads_matching: regular expression of such columns.
        forms: sets of raw columns, of which a file must have one completely: a vendor's forms of export.
        spellings: column name of the source by another name that some editions of a file use.
        rows: what a row is: an event, or a user's attributes.
        valid_from: raw column of the time from which the attributes of a row of a user are known.
        joins: further files of the log whose columns are joined to each row.
        nested: for columns that a nested file lacks, paths of which the first with a value is used.
        derive: columns to add or replace, computed of nested values before rows are filtered.
        unused: raw columns of the dialect that are left out on purpose, so not reported as unread.
        v1_reading: how release 0.1.0 read the dialect; None if it is the same.
        lists: columns made of cells with several values, by the name under which `columns` reads them.
        links: columns and event types that link two ids of one person.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    timezone: str = "UTC"
    policy: str | None = None
    layout: Layout = field(default_factory=Layout)
    time: TimeFormat = field(default_factory=TimeFormat)
    vocabulary: Mapping[str, str | None] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    properties: tuple[str, ...] | None = ()
    attributes: Mapping[str, Literal["number", "text"]] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    prepare: Callable[[RawTable, Source], RawTable] | None = None
    nulls: tuple[str, ...] = NULL_MARKERS
    numbers: NumberFormat = field(default_factory=NumberFormat)
    rules: RowRules = field(default_factory=RowRules)
    required_columns: tuple[str, ...] = ()
    identity: Identity = field(default_factory=Identity)
    reads: tuple[str, ...] = ()
    reads_matching: str | None = None
    forms: tuple[tuple[str, ...], ...] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)
    rows: Literal["events", "users"] = "events"
    valid_from: str | None = None
    joins: tuple[JoinedFile, ...] = ()
    nested: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    derive: Callable[[RawTable, Source], Mapping[str, pa.Array]] | None = None
    unused: tuple[str, ...] = ()
    v1_reading: Source | None = None
    lists: Mapping[str, CellList] = field(default_factory=dict)
    links: LinkColumns = field(default_factory=LinkColumns)

    def with_timezone(self, name: str | None) -> Source:
        """This source with times without an offset read in zone `name`; None changes nothing.

        Raises:
            InputError: there is no such zone.
        """
        if name is None:
            return self
        zone(name)
        return replace(self, timezone=name)

    def raw_name(self, event_field: str) -> str:
        """The (first) raw column of an event field, for messages."""
        anonymous = self.links.anonymous if event_field == "user_id" else ()
        return (*self.columns.get(event_field, ()), *anonymous, event_field)[0]

    def user_columns(self) -> tuple[str, ...]:
        """Raw columns of the user id, those of the anonymous id last: of several, the first with a value."""
        columns = (*self.links.logged_in, *self.columns.get("user_id", ()), *self.links.anonymous)
        return tuple(dict.fromkeys(columns))

    def mapped_columns(self) -> tuple[str, ...]:
        """Raw columns of event fields, properties, attributes and rules, without those all files may lack."""
        mapped = [raw for names in self.columns.values() for raw in names]
        dated = (self.valid_from,) if self.valid_from else ()
        described = (*(self.properties or ()), *self.attributes, *dated, *self.identity.columns)
        keys = [name for joined in self.joins for name, _ in joined.on]
        formed = (name for form in self.forms for name in form)
        listed = (cells.column for cells in self.lists.values())
        further = (*self.reads, *formed, *listed)
        rules = (*self.rules.columns(), *self.links.columns)
        named = (*mapped, *described, *keys, *self.needs, *rules, *further)
        return tuple(dict.fromkeys(named))

    def spelled(self, names: Iterable[str]) -> tuple[str, ...]:
        """Column names of a file as this source spells them; names that it maps itself stay."""
        names = tuple(names)
        replaced = {
            other: name
            for other, name in self.spellings.items()
            if name not in names and other not in self.mapped_columns()
        }
        return self._in_own_case(tuple(replaced.get(name, name) for name in names))

    def _in_own_case(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """`names` with the letter case of this source, where only that makes a file readable.

        Mappings and the canonical format name columns exactly, and a file that can be read without this keeps
        its columns.
        """
        is_exact = self.required_columns or self.properties is None or self.layout.kind == "jsonl"
        if is_exact or not self._missing(names):
            return names
        known_names = (*self.mapped_columns(), *map(path_root, self.mapped_columns()), *self.spellings)
        own_names = names_by_folded_case(known_names, self.forms, names)
        in_own_case = tuple(own_names.get(name.casefold(), name) for name in names)
        in_own_case = tuple(self.spellings.get(name, name) for name in in_own_case)
        is_usable = len(set(in_own_case)) == len(set(names)) and not self._missing(in_own_case)
        return in_own_case if is_usable else names

    def absent_columns(self, present: Collection[str]) -> tuple[str, ...]:
        """Mapped raw columns that are not `present`; of several of one field only those a mapping names."""
        spellings: dict[str, tuple[str, ...]] = {}
        for name in (*(self.properties or ()), *self.attributes):
            first = self.identity.spellings.get(name, name)
            spellings[first] = (*spellings.get(first, ()), name)
        groups = [*self.columns.values(), *spellings.values()]
        absent = [names[0] for names in groups if not any(name in present for name in names)]
        named = [name for name in self.required_columns if name not in present]
        return tuple(dict.fromkeys([*absent, *named]))

    def unread_columns(self, present: Collection[str]) -> tuple[str, ...]:
        """Raw columns among `present` that nothing reads."""
        if self.properties is None or self.layout.kind == "jsonl":
            return ()
        read = {*self.mapped_columns(), *map(path_root, self.mapped_columns()), *self.unused}
        pattern = re.compile(self.reads_matching) if self.reads_matching else None
        return tuple(
            name for name in present if name not in read and not (pattern and pattern.fullmatch(name))
        )

    def missing_columns(self, header: tuple[str, ...]) -> list[str]:
        """Raw columns that this source requires and `header` lacks."""
        return self._missing(self.spelled(header))

    def _missing(self, names: tuple[str, ...]) -> list[str]:
        fields = {**self.columns, "user_id": (*self.columns.get("user_id", ()), *self.links.anonymous)}
        required = (
            [] if self.layout.kind == "jsonl" else [fields.get(name) or (name,) for name in self._required()]
        )
        groups = required + [(name,) for name in self.needs]
        present = set(names)
        present |= {name for name, cells in self.lists.items() if cells.column in present}
        missing = [names[0] for names in groups if not any(has_column(name, present) for name in names)]
        absent_of_forms = [[name for name in form if not has_column(name, present)] for form in self.forms]
        return missing + min(absent_of_forms, key=len, default=[])

    def _required(self) -> list[str]:
        names = REQUIRED if self.rows == "events" else ("user_id",)
        return [name for name in names if name not in self.constants and name not in self.derived]

    def options_hash(self) -> str:
        """Hash of all options that decide how a file is read, 16 hex digits; part of a file's ledger id.

        An option that was added later is left out at its default, so that the hash of a source without it
        never changes. `forms` and `spellings` are left out always: they decide only which files are accepted.
        """
        options: dict[str, object] = {name: getattr(self, name) for name in _FIRST_OPTIONS}
        options["layout"] = {name: getattr(self.layout, name) for name in _FIRST_LAYOUT}
        options["time"] = vars(self.time)
        default = Source("", {})
        for name in ("nulls", "numbers", "rules"):
            if getattr(self, name) != getattr(default, name):
                options[name] = getattr(self, name)
        layout = vars(self.layout)
        options |= {name: layout[name] for name in layout if name not in _FIRST_LAYOUT and layout[name]}
        options |= {name: getattr(self, name) for name in ("reads", "lists") if getattr(self, name)}
        if identity := self.identity.options():
            options["identity"] = identity
        if self.joins:
            options["joins"] = [joined.options() for joined in self.joins]
        if self.rows != default.rows:
            options |= {"rows": self.rows, "valid_from": self.valid_from}
        if links := self.links.options():
            options["links"] = links
        encoded = json.dumps(options, sort_keys=True, default=_as_dict)
        return hashlib.blake2b(encoded.encode(), digest_size=8).hexdigest()

    def options_json(self) -> str:
        """All options that decide how a file is read, as JSON, to say what differs between two readings."""
        names = [entry.name for entry in fields(self) if entry.name not in _NOT_SHOWN]
        options = {name: getattr(self, name) for name in names}
        options["joins"] = [{"file": joined.name, **joined.options()} for joined in self.joins]
        return json.dumps(options, sort_keys=True, ensure_ascii=False, default=_as_dict)


_FIRST_OPTIONS = (
    "name", "columns", "timezone", "policy", "vocabulary", "constants", "properties", "attributes", "needs",
    "derived",
)  # fmt: skip
_NOT_SHOWN = ("prepare", "derive", "v1_reading", "joins", "reads_matching")
_FIRST_LAYOUT = ("kind", "delimiter", "encoding", "header")


def _as_dict(value: object) -> object:
    if isinstance(value, CellList | NumberFormat):
        return value.options()
    if isinstance(value, Identity):
        return {name: option for name, option in vars(value).items() if name != "order"}
    return dict(value) if isinstance(value, Mapping) else vars(value)


def empty_events() -> EventFrame:
    """A frame of `Event` without rows."""
    types: dict[str, object] = dict.fromkeys(EVENT_COLUMNS, "str")
    types["event_time"] = pd.DatetimeTZDtype(unit="ms", tz="UTC")
    types |= dict.fromkeys(("price_minor", "quantity"), "Int64")
    frame = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})  # type: ignore[call-overload]
    return cast("EventFrame", frame)


def empty_users() -> DataFrame[UserAttributes]:
    """A frame of `UserAttributes` without rows."""
    frame = pd.DataFrame(
        {
            "user_id": pd.Series(dtype="str"),
            "valid_from": pd.Series(dtype=pd.DatetimeTZDtype(unit="ms", tz="UTC")),
            "attributes": pd.Series(dtype="str"),
        }
    )
    return cast("DataFrame[UserAttributes]", frame)
