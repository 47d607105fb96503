"""Read the lake: files by day, and what they hold, of the newest or of a pinned version."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from retail_core.log_coverage import last_covered_day
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.lake_file import LakeFile
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.parquet_files import read_rows
from retail_core.store.lake.row_hashes import LakeHashes, hash_tables
from retail_core.store.lake.table_specs import EVENTS, IDENTITIES, READ_TABLES, USERS
from retail_core.store.lake.table_version import TableVersion
from retail_core.store.lake.version_pins import pin_version
from retail_core.times import from_micros, to_micros

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LakeState:
    """Content of the lake.

    Attributes:
        rows: number of events.
        days: UTC event days (YYYY-MM-DD).
        window_id: highest applied ledger window.
        first_event: time of the first event, UTC.
        last_event: time of the last event, UTC, outliers of wrong clocks included.
        newest_event: time of the last event of the last covered day, UTC; see `log_coverage`.
        data_hash: depends on the rows alone, not on their order or on how the lake was synced; empty unless
            asked for, since all rows are read.
    """

    rows: int
    days: tuple[str, ...]
    window_id: int
    first_event: datetime | None
    last_event: datetime | None
    newest_event: datetime | None
    data_hash: str = ""


@dataclass(frozen=True)
class _Day:
    rows: int
    first: int
    last: int


_Tables = Mapping[str, LakeTable]
"""One version of each of `READ_TABLES` that there is, by name."""


class Lake:
    """Reader of the lake. Every call reads the newest version; `snapshot` pins one."""

    def __init__(self, url: str) -> None:
        """Open the lake at `url` (a folder or an object-store URL), which need not exist.

        Raises:
            InputError: the URL is of an unknown kind.
        """
        self._location = LakeLocation(url)
        self._pinned: _Tables | None = None
        self._is_intact = True

    def snapshot(self) -> Lake:
        """A reader of the present version, which later syncs do not change.

        Its files are kept for `KEPT_HOURS`, and longer with `pin`, unless a user is erased: then the next
        call of `files` reads the newest version instead, and `is_intact` is false.
        """
        pinned = object.__new__(Lake)
        pinned._location, pinned._pinned, pinned._is_intact = self._location, self._version(), True
        return pinned

    def pin(self) -> None:
        """Keep the files of the present version for the setting `lake_retention_days`."""
        for table in self._version().values():
            pin_version(table)

    def is_intact(self) -> bool:
        """Whether a snapshot has read one version throughout, and its files are still there."""
        self._version(with_files=True)
        return self._is_intact

    def hashes(self, before: datetime | None = None) -> LakeHashes:
        """Version and hash of each table, and the hash of the rows before an instant; reads every row."""
        return hash_tables(self._version(), before)

    def at_versions(self, versions: Mapping[str, TableVersion]) -> Lake | None:
        """A reader of past versions of the tables; None where one of them, or a file of it, is gone.

        Args:
            versions: by name of the table.
        """
        tables = {}
        for spec in READ_TABLES:
            if spec.name in versions:
                past = versions[spec.name]
                table = LakeTable.open_version(self._location, spec, past.version)
                if table is None or table.table_id != past.table_id:
                    return None
                tables[spec.name] = table
        if not _has_files(tables):
            return None
        pinned = object.__new__(Lake)
        pinned._location, pinned._pinned, pinned._is_intact = self._location, tables, True
        return pinned

    def state(self, before: datetime | None = None, *, hashed: bool = False) -> LakeState:
        """Rows, days and times of the lake; of an empty lake zero rows and no days.

        Args:
            before: an aware instant; if given, only events before it count.
            hashed: also compute `data_hash`, which reads every row.

        Raises:
            IntegrityError: the log is damaged.
        """
        tables = self._version()
        table = tables.get(EVENTS.name)
        days = _days(table, before) if table else {}
        newest = last_covered_day({date.fromisoformat(day): entry.rows for day, entry in days.items()})
        state = LakeState(
            rows=sum(day.rows for day in days.values()),
            days=tuple(days),
            window_id=max((last for _, last in table.applied), default=0) if table else 0,
            first_event=_instant(min((day.first for day in days.values()), default=None)),
            last_event=_instant(max((day.last for day in days.values()), default=None)),
            newest_event=_instant(days[newest.isoformat()].last if newest else None),
        )
        return replace(state, data_hash=hash_tables(tables, before).data_hash) if hashed else state

    def rows_by_day(self) -> dict[str, int]:
        """Number of events by UTC day (YYYY-MM-DD), ascending."""
        table = self._version().get(EVENTS.name)
        return {day: entry.rows for day, entry in _days(table, None).items()} if table else {}

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:
        """Parquet files (absolute paths or URLs) of the UTC days that overlap [start, end), by day.

        The files contain all rows of these days, also those outside [start, end).

        Args:
            start: aware; None means from the beginning.
            end: aware; None means to the end.

        Raises:
            IntegrityError: a file is not what was committed.
        """
        first = start.astimezone(UTC).date().isoformat() if start else ""
        last = (end.astimezone(UTC) - timedelta(microseconds=1)).date().isoformat() if end else "9999-12-31"
        table = self._version(with_files=True).get(EVENTS.name)
        if table is None:
            return []
        return table.urls_of([file for file in table.files if first <= file.partition[0] <= last])

    def users_file(self) -> str | None:
        """Parquet file of `user_id, valid_from, attributes`; None if there are no user attributes."""
        return _only_file(self._version(with_files=True).get(USERS.name))

    def identities_file(self) -> str | None:
        """Parquet file of `from_id, to_id, linked_at`; None if there are no identity links."""
        return _only_file(self._version(with_files=True).get(IDENTITIES.name))

    def _version(self, *, with_files: bool = False) -> _Tables:
        """The pinned version, or the newest one if none is pinned or files of the pinned one were deleted."""
        if self._pinned is not None and with_files and not _has_files(self._pinned):
            log.warning("Files of the pinned version of the lake were deleted; the newest version is read.")
            self._pinned, self._is_intact = self._newest(), False
        return self._newest() if self._pinned is None else self._pinned

    def _newest(self) -> _Tables:
        opened = {spec.name: LakeTable.open(self._location, spec) for spec in READ_TABLES}
        return {name: table for name, table in opened.items() if table is not None}


def _only_file(table: LakeTable | None) -> str | None:
    return table.urls_of(table.files)[0] if table and table.files else None


def _has_files(tables: _Tables) -> bool:
    return all(
        {file.path for file in table.files} <= table.location.sizes(table.spec.name).keys()
        for table in tables.values()
    )


def _days(table: LakeTable, before: datetime | None) -> dict[str, _Day]:
    """Rows, first and last time of each day, ascending."""
    days: dict[str, _Day] = {}
    for file in table.files:
        entry = _entry(table, file, None if before is None else to_micros(before))
        if entry.rows:
            day = days.get(file.partition[0], _Day(0, entry.first, entry.last))
            days[file.partition[0]] = _Day(
                day.rows + entry.rows, min(day.first, entry.first), max(day.last, entry.last)
            )
    return dict(sorted(days.items()))


def _entry(table: LakeTable, file: LakeFile, before: int | None) -> _Day:
    """A file's rows before an instant; the file is read only if the instant is within its time range."""
    first, last = file.first or 0, file.last or 0
    if before is None or last < before:
        return _Day(file.rows, first, last)
    if first >= before:
        return _Day(0, 0, 0)
    times = read_rows(table, file, ["event_time"])["event_time"].cast(pa.int64())
    early = times.filter(pc.less(times, before))
    return _Day(len(early), first, pc.max(early).as_py() if len(early) else first)


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
