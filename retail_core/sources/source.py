"""What a source is: a dialect of raw file described by data, plus at most one function for its quirks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from retail_core.schemas import EventFrame, UserAttributes
from retail_core.sources.rules import Refusal, refusal
from retail_core.times import zone

Lines = npt.NDArray[np.int64]
Problems = dict[int, tuple[str | None, str, object]]
"""Record number -> (raw field, rule, value); the first problem found in a record is the one named."""

REQUIRED = ("user_id", "event_time", "event_type")
"""Event fields every source must give."""


@dataclass(frozen=True)
class TimeFormat:
    """How a source writes instants.

    `iso`: ISO 8601, also with a trailing " UTC". `unix`: a number since 1970 in `unit`. `strptime`:
    each of `formats` is tried in turn. Times without an offset are read in the source's zone.
    """

    kind: Literal["iso", "unix", "strptime"] = "iso"
    unit: Literal["s", "ms", "us"] = "s"
    formats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How records are laid out in a file. `header` names the columns of a file without a header line."""

    kind: Literal["csv", "jsonl"] = "csv"
    delimiter: str = ","
    encoding: str = "utf-8"
    header: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Table:
    """The raw records of one window: text (or, from Parquet, typed) columns of equal length.

    `lines` has the line of each record; `raw(i)` the record as it stood in the file. `first` and
    `last` are the lines this window covers; together with `refused`, every record in them is here.
    `header` names the fields of a raw CSV record; it is empty where a raw record is JSON.
    """

    columns: Mapping[str, pa.Array]
    lines: Lines
    raw: Callable[[int], str]
    refused: tuple[Refusal, ...]
    first: int
    last: int
    users: Mapping[str, pa.Array] | None = None
    header: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of records."""
        return len(self.lines)

    def without(self, problems: Problems) -> tuple[Table, npt.NDArray[np.int64]]:
        """The table less the records in `problems`, which become refusals, and what is left of it."""
        kept = np.setdiff1d(np.arange(len(self)), np.fromiter(problems, dtype=np.int64), assume_unique=True)
        refused = tuple(
            refusal(self.lines[row], name, rule, value, self.raw(row))
            for row, (name, rule, value) in sorted(problems.items())
        )
        return self.take(kept, self.refused + refused), kept

    def take(self, rows: npt.NDArray[np.int64], refused: tuple[Refusal, ...] | None = None) -> Table:
        """The given records, in that order; a record may be taken several times."""
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
    """The events, user attributes and refusals of one window of a file.

    `rows_read` is what was counted as read: events plus refusals. `given` has the ids that the file
    gives its events in column `id_column`, null where it gives none. `position` is how many bytes of the
    file have been read so far.
    """

    events: EventFrame
    users: DataFrame[UserAttributes]
    refused: tuple[Refusal, ...]
    given: pa.Array
    lines: Lines
    raw: Callable[[int], str]
    first: int
    last: int
    header: tuple[str, ...] = ()
    id_column: str = "event_id"
    position: int = 0

    @property
    def rows_read(self) -> int:
        """Events plus refusals."""
        return len(self.events) + len(self.refused)


@dataclass(frozen=True)
class Written:
    """How the raw rows of a window are written, so that a refused one can be read on its own.

    `header` names the fields of a CSV row and is empty where a row is a JSON object; `user_columns` are
    the raw columns that say whose a row is.
    """

    header: tuple[str, ...] = ()
    delimiter: str = ","
    user_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One dialect of raw file.

    `columns` maps event fields to raw columns; of several, the first that has a value counts.
    `vocabulary` maps raw event names to ours; others are kept. `properties` lists the raw columns
    kept as properties, None means all that are not mapped. `attributes` maps raw columns to their
    kind and makes rows of `users`. `needs` are further raw columns it cannot do without. `prepare`
    turns a dialect's quirks into plain columns, among them those of the event fields in `derived`.
    `policy` is the cut-off policy that fits, where the dialect decides it.
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
    prepare: Callable[[Table, Source], Table] | None = None

    def with_timezone(self, name: str | None) -> Source:
        """This source with naive times read in another zone; None changes nothing.

        Raises:
            InputError: no such zone.
        """
        if name is None:
            return self
        zone(name)
        return replace(self, timezone=name)

    def raw_name(self, event_field: str) -> str:
        """The raw column behind an event field, for messages."""
        return self.columns.get(event_field, (event_field,))[0]

    def missing(self, header: tuple[str, ...]) -> list[str]:
        """Raw columns this source cannot do without and `header` does not have."""
        required = [] if self.layout.kind == "jsonl" else [self.columns[name] for name in self._required()]
        groups = required + [(name,) for name in self.needs]
        return [names[0] for names in groups if not set(names) & set(header)]

    def _required(self) -> list[str]:
        return [name for name in REQUIRED if name not in self.constants and name not in self.derived]

    def options_hash(self) -> str:
        """Identifies everything that decides how a file is read, code apart: 16 hex characters."""
        options = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "prepare"}
        options["layout"], options["time"] = vars(self.layout), vars(self.time)
        text = json.dumps({key: _plain(value) for key, value in options.items()}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


def empty_users() -> DataFrame[UserAttributes]:
    """No user attributes, with the contract's columns and types."""
    frame = pd.DataFrame(
        {
            "user_id": pd.Series(dtype="str"),
            "valid_from": pd.Series(dtype=pd.DatetimeTZDtype(unit="ms", tz="UTC")),
            "attributes": pd.Series(dtype="str"),
        }
    )
    return cast("DataFrame[UserAttributes]", frame)
