"""A source describes one dialect of raw files, and the tables that pass between the stages of reading one.

A file is read as `RawTable`s (text columns), which the event parser turns into `Chunk`s (typed events, user
attributes and refused rows).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from retail_core.arrays import IntArray
from retail_core.schemas import EventFrame, UserAttributes
from retail_core.sources.identity import Identity
from retail_core.sources.refusals import Refusal, refusal
from retail_core.times import zone

Problems = dict[int, tuple[str | None, str, object]]
"""Record number -> (raw field, rule, value) of the first problem of each record."""

REQUIRED = ("user_id", "event_time", "event_type")
"""Event fields that every source must provide."""


@dataclass(frozen=True)
class TimeFormat:
    """How a source writes times.

    Times without an offset are in the source's time zone.

    Attributes:
        kind: `iso` is ISO 8601, also with a trailing " UTC"; `unix` a number since 1970; `strptime` tries
            each of `formats` in turn.
        unit: unit of `unix` times.
        formats: `strptime` formats.
    """

    kind: Literal["iso", "unix", "strptime"] = "iso"
    unit: Literal["s", "ms", "us"] = "s"
    formats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How records are laid out in a text file; `header` names the columns of a file without a header line."""

    kind: Literal["csv", "jsonl"] = "csv"
    delimiter: str = ","
    encoding: str = "utf-8"
    header: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RawTable:
    """The raw records of one window of a file; with `refused`, every record of its lines is in it.

    Attributes:
        columns: text (or, from Parquet, typed) columns of equal length by raw name.
        lines: line of each record, shape (records,).
        raw: `raw(i)` is record i as it is in the file.
        refused: records that could not be read.
        first: first line of the window.
        last: last line of the window.
        users: columns of user attributes where these are not columns of the records.
        header: field names of a raw CSV record; empty if a raw record is JSON.
    """

    columns: Mapping[str, pa.Array]
    lines: IntArray
    raw: Callable[[int], str]
    refused: tuple[Refusal, ...]
    first: int
    last: int
    users: Mapping[str, pa.Array] | None = None
    header: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of records."""
        return len(self.lines)

    def refuse(self, problems: Problems) -> tuple[RawTable, IntArray]:
        """The table with the records in `problems` moved to `refused`, and the row numbers of the others."""
        accepted = np.setdiff1d(
            np.arange(len(self)), np.fromiter(problems, dtype=np.int64), assume_unique=True
        )
        refused = tuple(
            refusal(self.lines[row], name, rule, value, self.raw(row))
            for row, (name, rule, value) in sorted(problems.items())
        )
        return self.take(accepted, self.refused + refused), accepted

    def take(self, rows: IntArray, refused: tuple[Refusal, ...] | None = None) -> RawTable:
        """Records `rows` in that order, with repetitions; `refused` replaces the refusals unless None."""
        indices, raw = pa.array(rows), self.raw
        return replace(
            self,
            columns={name: column.take(indices) for name, column in self.columns.items()},
            lines=self.lines[rows],
            raw=lambda row: raw(int(rows[row])),
            refused=self.refused if refused is None else refused,
        )


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

    @property
    def rows_read(self) -> int:
        """Events plus refusals."""
        return len(self.events) + len(self.refused)


@dataclass(frozen=True)
class RowFormat:
    """How the raw rows of a window are written, so that a refused one can be parsed without its file.

    Attributes:
        header: field names of a CSV row; empty if a row is a JSON object.
        delimiter: of CSV fields.
        user_columns: raw columns of the user id.
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
        vocabulary: event types by raw event name; other names are used unchanged.
        constants: values of event fields that the file does not have.
        properties: raw columns stored as properties; None means all that are not mapped.
        attributes: raw columns of user attributes with their kind.
        needs: further raw columns that must be present.
        derived: event fields that `prepare` provides.
        prepare: turns the dialect's peculiarities into plain columns.
        identity: which rows without an event id are the same event.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    timezone: str = "UTC"
    policy: str | None = None
    layout: Layout = field(default_factory=Layout)
    time: TimeFormat = field(default_factory=TimeFormat)
    vocabulary: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    properties: tuple[str, ...] | None = ()
    attributes: Mapping[str, Literal["number", "text"]] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    prepare: Callable[[RawTable, Source], RawTable] | None = None
    identity: Identity = field(default_factory=Identity)

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
        return self.columns.get(event_field, (event_field,))[0]

    def missing_columns(self, header: tuple[str, ...]) -> list[str]:
        """Raw columns that this source requires and `header` lacks."""
        required = [] if self.layout.kind == "jsonl" else [self.columns[name] for name in self._required()]
        groups = required + [(name,) for name in self.needs]
        return [names[0] for names in groups if not set(names) & set(header)]

    def _required(self) -> list[str]:
        return [name for name in REQUIRED if name not in self.constants and name not in self.derived]

    def options_hash(self) -> str:
        """Hash of all options that decide how a file is read, 16 hex digits; part of a file's ledger id."""
        options = {
            option.name: getattr(self, option.name)
            for option in fields(self)
            if option.name not in {"prepare", "identity"}
        }
        options["layout"], options["time"] = vars(self.layout), vars(self.time)
        if identity := self.identity.options():
            options["identity"] = identity
        encoded = json.dumps({key: _as_dict(value) for key, value in options.items()}, sort_keys=True)
        return hashlib.blake2b(encoded.encode(), digest_size=8).hexdigest()


def _as_dict(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


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
