"""One Delta table of the lake: its files, its application transactions, and commits that overtake no other.

delta-rs reads and commits the log; the data files are written by `parquet_files`, with page checksums and the
statistics that the table allows. A commit succeeds only on the version it was prepared for, so whoever loses
against another writer prepares it again. Removing rows commits the names of files and no predicate, which
would keep the id of an erased user in the log.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from retail_core import __version__
from retail_core.errors import InputError, IntegrityError
from retail_core.store.lake.applied_windows import Ranges, read_ranges, stored_versions
from retail_core.store.lake.commit_attempts import CommitConflict
from retail_core.store.lake.file_checks import damages
from retail_core.store.lake.lake_file import DamagedFileError, LakeFile
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.table_digest import DIGEST, table_digest
from retail_core.store.lake.table_specs import TableSpec
from retail_core.times import from_micros, to_micros

if TYPE_CHECKING:
    # 128 MB that the service's image goes without: imported where a lake is opened.
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

FORMAT = 2
"""Stored in each table. 1 was the format of releases before Delta Lake."""

FORMAT_PROPERTY = "retail.format"
TRANSACTIONS = ("database", "removals", "links")
"""Application transactions beside the applied windows and the digest."""

_CHECKPOINT_COMMITS = "20"
_LOG_PROPERTY = "delta.logRetentionDuration"


class LakeTable:
    """One version of a table."""

    def __init__(self, location: LakeLocation, spec: TableSpec, delta: DeltaTable) -> None:
        self.location, self.spec, self._delta = location, spec, delta
        self.files: tuple[LakeFile, ...] = tuple(sorted(_files(spec, delta), key=lambda file: file.path))

    @classmethod
    def open(cls, location: LakeLocation, spec: TableSpec) -> LakeTable | None:
        """The newest version; None without a table.

        Raises:
            InputError: a newer release has written the table.
            IntegrityError: its log is damaged.
        """
        from deltalake.exceptions import DeltaError, TableNotFoundError

        url = location.url_of(spec.name)
        if location.is_local:
            if not location.exists(f"{spec.name}/_delta_log"):
                return None
            _refuse_empty_commits(location, spec)
        try:
            return cls._load(location, spec, url)
        except TableNotFoundError:
            return None
        except (DeltaError, ValueError, LookupError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            if "Unsupported" in reason or "not supported" in reason:
                raise _newer(url, reason.rpartition("Unsupported: ")[2]) from error
            raise _damaged_log(url, reason) from error

    @classmethod
    def open_version(cls, location: LakeLocation, spec: TableSpec, version: int) -> LakeTable | None:
        """A past version; None where it is damaged, or the log does not have it any more, or never had."""
        from deltalake.exceptions import DeltaError

        try:
            return cls._load(location, spec, location.url_of(spec.name), version)
        except (DeltaError, IntegrityError, ValueError, LookupError, TypeError):
            return None

    @classmethod
    def _load(
        cls, location: LakeLocation, spec: TableSpec, url: str, version: int | None = None
    ) -> LakeTable:
        from deltalake import DeltaTable, Schema

        delta = DeltaTable(url, version=version, storage_options=location.storage_options)
        stored = int(delta.metadata().configuration.get(FORMAT_PROPERTY, FORMAT))
        if stored > FORMAT:
            raise _newer(url, f"format {stored}")
        table = cls(location, spec, delta)
        if not (table._is_intact() and delta.schema() == Schema.from_arrow(spec.schema)):
            raise _damaged_log(url, "it is not what was committed")
        return table

    @classmethod
    def create(cls, location: LakeLocation, spec: TableSpec) -> LakeTable:
        """The table at its newest version, created if there is none."""
        from deltalake import DeltaTable, Schema

        delta = DeltaTable.create(
            location.url_of(spec.name),
            Schema.from_arrow(spec.schema),
            mode="ignore",
            partition_by=[field.name for field in spec.partitions],
            configuration={
                FORMAT_PROPERTY: str(FORMAT),
                "delta.dataSkippingStatsColumns": spec.time,
                "delta.checkpointInterval": _CHECKPOINT_COMMITS,
            },
            storage_options=location.storage_options,
            raise_if_key_not_exists=False,
        )
        return cls(location, spec, delta)

    @property
    def version(self) -> int:
        """Delta version."""
        return int(self._delta.version())

    @property
    def table_id(self) -> str:
        """Delta's id of the table; a table that is deleted and created again has another."""
        return str(self._delta.metadata().id)

    @property
    def rows(self) -> int:
        """Rows of this version."""
        return sum(file.rows for file in self.files)

    @property
    def applied(self) -> Ranges:
        """Ledger windows that are in the table."""
        return read_ranges(self.transaction)

    def transaction(self, name: str) -> int | None:
        """Newest version of an application transaction; None without one."""
        return self._delta.transaction_version(name)

    def _transactions(self) -> dict[str, int]:
        named = ((name, self.transaction(name)) for name in TRANSACTIONS)
        present = {name: version for name, version in named if version is not None}
        return stored_versions(self.transaction) | present

    def _is_intact(self) -> bool:
        """Whether the log says what was committed; nothing was committed to a table without a digest."""
        transactions, digest = self._transactions(), self.transaction(DIGEST)
        if digest is None:
            return not self.files and not transactions
        return digest == table_digest(self.files, transactions)

    def url_of(self, file: LakeFile) -> str:
        """Absolute path or URL of a file."""
        return self.location.url_of(f"{self.spec.name}/{file.path}")

    def commit(
        self,
        added: Iterable[LakeFile] = (),
        removed: Iterable[LakeFile] = (),
        transactions: Mapping[str, int] | None = None,
    ) -> LakeTable:
        """Add and remove files in one step; the next version.

        Files of a refused commit are deleted.

        Raises:
            CommitConflict: another process has committed since this version.
        """
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import CommitFailedError

        added, removed = tuple(added), tuple(removed)
        changed = dict(transactions or {})
        after = {*self.files} - {*removed} | {*added}
        changed[DIGEST] = table_digest(after, self._transactions() | changed)
        applications = [Transaction(name, version) for name, version in changed.items()]
        try:
            self._delta.create_write_transaction(
                [*map(self._add_action, added), *map(self._remove_action, removed)],
                mode="append",
                schema=self._delta.schema(),
                partition_by=[field.name for field in self.spec.partitions],
                commit_properties=CommitProperties(app_transactions=applications, max_commit_retries=0),
            )
        except CommitFailedError as error:
            self.discard(added)
            raise CommitConflict(str(error)) from error
        self._delta.update_incremental()
        return LakeTable(self.location, self.spec, self._delta)

    def discard(self, files: Iterable[LakeFile]) -> None:
        """Delete files that no commit has added."""
        for file in files:
            self.location.delete(f"{self.spec.name}/{file.path}")

    def keep_log(self, days: int) -> LakeTable:
        """Keep the log of past versions for `days`, by a commit where that changes; raises as `commit`."""
        from deltalake import CommitProperties
        from deltalake.exceptions import CommitFailedError

        interval = {_LOG_PROPERTY: f"interval {days} days"}
        if interval.items() <= self._delta.metadata().configuration.items():
            return self
        try:
            self._delta.alter.set_table_properties(
                interval, commit_properties=CommitProperties(max_commit_retries=0)
            )
        except CommitFailedError as error:
            raise CommitConflict(str(error)) from error
        return LakeTable(self.location, self.spec, self._delta)

    def delete_unreferenced(
        self,
        hours: int,
        *,
        stray_hours: int | None = None,
        pinned: Callable[[LakeTable], set[str]] | None = None,
    ) -> LakeTable:
        """Delete files that no version of the last `hours` has: superseded ones and those of killed runs.

        An empty commit comes before the deletion. It makes writers start again whose new files are among
        those to delete.

        Args:
            hours: age since a file was superseded.
            stray_hours: age of files that no version has; None means `hours`.
            pinned: returns paths of files to keep; called only where there is something to delete.

        Raises:
            CommitConflict: another process has committed since this version.
        """
        strays = self._unreferenced(hours if stray_hours is None else stray_hours, full=True)
        strays -= self._unreferenced(0, full=False)
        unreferenced = strays | self._unreferenced(hours, full=False)
        unreferenced &= self.location.sizes(self.spec.name).keys()
        if unreferenced and pinned is not None:
            unreferenced -= pinned(self)
        if not unreferenced:
            return self
        after = self.commit()
        for path in unreferenced:
            self.location.delete(f"{self.spec.name}/{path}")
        return after

    def damaged_files(self, *, read_objects: bool = False) -> dict[LakeFile, str]:
        """Data files that are not what was committed, with a sentence about each.

        Args:
            read_objects: also read the objects of an object store; otherwise only their sizes are checked.
        """
        return damages(self.location, self.spec.name, self.files, read_objects=read_objects)

    def urls_of(self, files: Sequence[LakeFile]) -> list[str]:
        """Absolute paths or URLs of files that, in a local lake, are what was committed.

        Raises:
            DamagedFileError: one is not.
        """
        if self.location.is_local:
            for damage in damages(self.location, self.spec.name, files).values():
                raise DamagedFileError(damage)
        return [self.url_of(file) for file in files]

    def _unreferenced(self, hours: int, *, full: bool) -> set[str]:
        """Superseded files; with `full` also those that no version has."""
        return set(self._delta.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=full))

    def _add_action(self, file: LakeFile) -> AddAction:
        from deltalake.transaction import AddAction

        stats: dict[str, Any] = {"numRecords": file.rows}
        if file.first is not None and file.last is not None:
            stats["minValues"] = {self.spec.time: _stats_text(file.first)}
            stats["maxValues"] = {self.spec.time: _stats_text(file.last + 999)}
        return AddAction(
            file.path, file.size, self._partition_values(file), _now_ms(), True, json.dumps(stats)
        )

    def _remove_action(self, file: LakeFile) -> RemoveAction:
        from deltalake.transaction import RemoveAction

        return RemoveAction(
            path=file.path,
            data_change=True,
            deletion_timestamp=_now_ms(),
            partition_values=self._partition_values(file),
            size=file.size,
        )

    def _partition_values(self, file: LakeFile) -> dict[str, str | None]:
        names = (field.name for field in self.spec.partitions)
        return dict(zip(names, file.partition, strict=True))


def _now_ms() -> int:
    """Wall clock of this machine, which Delta requires in every action.

    It is read here, below the edges, because other writers compare it with their clocks to know since when a
    file is superseded. With the `at` of a command in its place, one of the past would delete readers' files.
    """
    return time.time_ns() // 1_000_000


def _refuse_empty_commits(location: LakeLocation, spec: TableSpec) -> None:
    """A power failure can leave an empty commit, which delta-rs would read as one without actions."""
    for path, size in location.sizes(f"{spec.name}/_delta_log").items():
        if not size and path.endswith(".json"):
            raise _damaged_log(location.url_of(spec.name), f"{path} is empty")


def _files(spec: TableSpec, delta: DeltaTable) -> Iterator[LakeFile]:
    for row in pa.table(delta.get_add_actions(flatten=False)).to_pylist():
        partition = tuple(str(row["partition"][field.name]) for field in spec.partitions)
        first, last = (_stats_micros(row, bound, spec) for bound in ("min", "max"))
        yield LakeFile(row["path"], int(row["num_records"]), int(row["size_bytes"]), partition, first, last)


def _stats_micros(row: Mapping[str, Any], bound: str, spec: TableSpec) -> int | None:
    instant = (row.get(bound) or {}).get(spec.time)
    return None if instant is None else to_micros(instant)


def _stats_text(micros: int) -> str:
    """An instant as the log has it, in milliseconds."""
    return from_micros(micros).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _newer(url: str, what: str) -> InputError:
    return InputError(
        f"The lake's table {url} is of a newer release ({what}); this is {__version__}, "
        f"which reads format {FORMAT}.",
        remedy="install that release, or set RETAIL_LAKE to another folder. If no newer release has written "
        "it, it is damaged: delete it, and `retail lake rebuild` writes it anew from MongoDB.",
    )


def _damaged_log(url: str, reason: str) -> IntegrityError:
    return IntegrityError(
        f"The log of the lake's table {url} cannot be read: {reason}.",
        remedy="run `retail lake rebuild`; `retail train` and `retail score` rebuild the lake too.",
    )
