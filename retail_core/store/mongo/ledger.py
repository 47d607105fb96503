"""Ingestion ledger: one document per ingested file, with a lease, and one document per window.

A window is open from before its first insert until its counts are committed. A killed run leaves at most one
open window, which the next run repeats under the same id. The lease names the process that ingests the file;
its times are the MongoDB server's. The shop's time zone and cut-off policy follow from the files' sources.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from pymongo import DESCENDING
from pymongo.errors import DuplicateKeyError, PyMongoError

from retail_core.errors import InputError, IntegrityError
from retail_core.sources.ingest_summary import IngestSummary
from retail_core.sources.parse_notes import ParseNotes
from retail_core.sources.source import RowFormat
from retail_core.store.mongo.connection import Store, server_time

LEASE_SECONDS = 60
"""Time without a commit after which a run of another machine counts as ended."""

_MAX_ATTEMPTS = 100

DEFAULT_ZONE = "UTC"


@dataclass(frozen=True)
class RowCounts:
    """Row counts of a window or file."""

    rows_read: int = 0
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(*(getattr(self, name) + getattr(other, name) for name in asdict(self)))

    def __sub__(self, other: RowCounts) -> RowCounts:
        return RowCounts(*(getattr(self, name) - getattr(other, name) for name in asdict(self)))

    def check(self, subject: str) -> RowCounts:
        """Itself, if the counts add up; `subject` names the window or file in the message.

        Raises:
            IntegrityError: rows_read is not inserted + duplicates + quarantined.
        """
        if self.rows_read != self.inserted + self.duplicates + self.quarantined:
            raise IntegrityError(
                f"The counts of {subject} do not add up: {self.rows_read} rows read, {self.inserted} "
                f"inserted, {self.duplicates} duplicates, {self.quarantined} in quarantine.",
                remedy="let no one else write to the collections, and run the command again.",
            )
        return self


@dataclass(frozen=True)
class FileKey:
    """Identity of an ingested file: its content, its source and the source's options."""

    path: Path
    sha256: str
    source: str
    options: str
    timezone: str
    policy: str | None

    @property
    def file_id(self) -> str:
        """`_id` of the file's document."""
        return f"file:{self.sha256}:{self.source}:{self.options}"

    def description(self) -> dict[str, object]:
        """Initial fields of the file's document."""
        file_fields: dict[str, object] = {
            "kind": "file",
            "file": self.path.name,
            "path": str(self.path),
            "sha256": self.sha256,
        }
        return file_fields | {"source": self.source, "timezone": self.timezone, "policy": self.policy}


@dataclass
class IngestionRun:
    """Ingestion of a file (or a replay, or a request) by this process.

    Attributes:
        file_id: `_id` of the ledger document.
        name: of the file, for messages.
        owner: identifies the lease; None without one.
        offset: last line (or row) that is committed.
        counts: of the committed windows.
        unfinished: id of the window that a killed run left open.
        notes: warnings and filtered rows of the committed windows.
    """

    file_id: str
    name: str
    owner: str | None = None
    offset: int = 0
    counts: RowCounts = field(default_factory=RowCounts)
    unfinished: int | None = None
    notes: ParseNotes = field(default_factory=ParseNotes)


@dataclass(frozen=True)
class LedgerWindow:
    """An open window; `resumed` if a killed run left it open."""

    window_id: int
    resumed: bool


def begin_run(
    store: Store, file_id: str, description: Mapping[str, object], at: datetime
) -> IngestionRun | None:
    """Acquire the lease on a file; None if it is ingested already.

    Args:
        store: the database.
        file_id: `_id` of the file's ledger document.
        description: its initial fields, with the name under `file`.
        at: current time.

    Raises:
        InputError: another run holds the lease.
    """
    name = str(description["file"])
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
    present = store.ledger.find_one({"_id": file_id})
    free_leases: list[dict[str, Any]] = [{"lease": None}]
    if present and _lease_ended(store, present.get("lease")):
        free_leases.append({"lease": present["lease"]})
    query = {"_id": file_id, "state": {"$ne": "done"}, "$or": free_leases}
    try:
        store.ledger.update_one(query, [{"$set": _lease_update(description, owner, at)}], upsert=True)
    except DuplicateKeyError:
        present = store.ledger.find_one({"_id": file_id}) or {}
        if present.get("state") == "done":
            return None
        lease = present.get("lease") or {}
        raise InputError(
            f"{name} is being worked on by process {lease.get('pid')} on {lease.get('host')}.",
            remedy="wait for it to end, then run the command again.",
        ) from None
    return _with_progress(store, IngestionRun(file_id, name, owner))


def _with_progress(store: Store, run: IngestionRun) -> IngestionRun:
    """`run` with the counts and offset of its committed windows and the id of an open one."""
    for window in store.ledger.find({"kind": "window", "file_id": run.file_id}):
        if window["state"] == "committed":
            run.counts += RowCounts(**window["counts"])
            run.notes += ParseNotes.from_documents(window)
            run.offset = max(run.offset, window["last_row"])
        else:
            run.unfinished = window["window_id"]
    return run


def open_window(
    store: Store, run: IngestionRun, rows: tuple[int, int], row_format: RowFormat | None = None
) -> LedgerWindow:
    """Open the window of a range of rows: the one that a killed run left open, else one with a new id.

    Args:
        store: the database.
        run: the ingestion it belongs to.
        rows: first and last line (or row).
        row_format: how its raw rows are written.

    Raises:
        IntegrityError: other processes took every new id.
    """
    extent = {"first_row": rows[0], "last_row": rows[1], **asdict(row_format or RowFormat())}
    if run.unfinished is not None:
        window_id, run.unfinished = run.unfinished, None
        store.ledger.update_one({"_id": f"window:{window_id}"}, {"$set": extent})
        return LedgerWindow(window_id, resumed=True)
    document = {"kind": "window", "file_id": run.file_id, "state": "open", "users": 0} | extent
    document["counts"] = asdict(RowCounts())
    for _ in range(_MAX_ATTEMPTS):
        newest = store.ledger.find_one({"window_id": {"$gt": 0}}, sort=[("window_id", DESCENDING)])
        window_id = newest["window_id"] + 1 if newest else 1
        try:
            store.ledger.insert_one({"_id": f"window:{window_id}", "window_id": window_id, **document})
        except DuplicateKeyError:
            continue
        return LedgerWindow(window_id, resumed=False)
    raise IntegrityError("No window could be opened.", remedy="run fewer ingestions at a time.")


def commit_window(  # noqa: PLR0913 - all that a window's document records
    store: Store,
    run: IngestionRun,
    window_id: int,
    counts: RowCounts,
    *,
    last: int,
    users: int,
    notes: ParseNotes,
) -> None:
    """Check the counts, advance the file's offset, renew the lease and mark the window as committed.

    Args:
        store: the database.
        run: the ingestion; its counts, offset and notes are updated.
        window_id: of the open window.
        counts: of its rows.
        last: its last line (or row).
        users: number of user attributes it inserted.
        notes: warnings and filtered rows of the window.

    Raises:
        IntegrityError: the counts do not add up.
        InputError: another run has taken over the file.
    """
    counts.check(f"window {window_id} of {run.name}")
    run.counts, run.offset = (run.counts + counts).check(run.name), last
    run.notes += notes
    if run.owner is not None:
        progress = {"lease.until": _lease_end(), "offset": last, "counts": asdict(run.counts)}
        update = store.ledger.update_one({"_id": run.file_id, "lease.owner": run.owner}, [{"$set": progress}])
        if not update.matched_count:
            raise InputError(f"{run.name} was taken over by another run.", remedy="let that one finish.")
    committed = {"state": "committed", "counts": asdict(counts), "users": users, **notes.stored_documents()}
    store.ledger.update_one({"_id": f"window:{window_id}"}, {"$set": committed})


def finish_run(store: Store, run: IngestionRun, at: datetime, summary: IngestSummary) -> None:
    """Mark the file as ingested, so that it is skipped in future, and record its `summary`."""
    done = {"state": "done", "finished_at": at, "lease": None, "counts": asdict(run.counts)}
    done["summary"] = summary.document()
    store.ledger.update_one({"_id": run.file_id, "lease.owner": run.owner}, {"$set": done})


@contextmanager
def releasing_lease(store: Store, run: IngestionRun) -> Iterator[None]:
    """Release the lease of `run` at the end of the block, also after an error, if the server is reachable."""
    try:
        yield
    finally:
        with suppress(PyMongoError):
            store.ledger.update_one({"_id": run.file_id, "lease.owner": run.owner}, {"$set": {"lease": None}})


def abandoned_windows(store: Store, window_ids: Iterable[int]) -> list[int]:
    """Those of the windows that are open and whose run has ended."""
    keys = [f"window:{window_id}" for window_id in sorted(set(window_ids))]
    abandoned = []
    for window in store.ledger.find({"_id": {"$in": keys}, "state": "open"}):
        file = store.ledger.find_one({"_id": window["file_id"]}) or {}
        if _lease_ended(store, file.get("lease")):
            abandoned.append(int(window["window_id"]))
    return abandoned


def _lease_ended(store: Store, lease: Mapping[str, Any] | None) -> bool:
    """Whether there is no lease, its process has ended, or it has expired.

    On this machine only the process counts, since a slow one does not renew its lease in time.
    """
    if lease is None:
        return True
    if lease["host"] == socket.gethostname():
        start_time = _process_start_time(lease["pid"])
        return start_time is None or abs(start_time - lease["born"]) > 1
    return bool(lease["until"] < server_time(store))


def _lease_update(description: Mapping[str, object], owner: str, at: datetime) -> dict[str, Any]:
    """`$set` stage that starts or resumes a file under a new lease of this process."""
    replaced = dict(description) | {"state": "running", "finished_at": None}
    initial = {"offset": 0, "counts": asdict(RowCounts()), "started_at": at}
    process = {
        "owner": owner,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": _process_start_time(os.getpid()),
    }
    lease = {name: {"$literal": value} for name, value in process.items()} | {"until": _lease_end()}
    return (
        {name: {"$literal": value} for name, value in replaced.items()}
        | {name: {"$ifNull": [f"${name}", {"$literal": value}]} for name, value in initial.items()}
        | {"lease": lease}
    )


def _lease_end() -> dict[str, Any]:
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "second", "amount": LEASE_SECONDS}}


def _process_start_time(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def shop_zone(store: Store) -> str:
    """IANA zone of the shop's days: the setting, else that of the source with most events, else UTC."""
    return store.settings.timezone or _of_largest_source(store, "timezone") or DEFAULT_ZONE


def source_policy(store: Store) -> str | None:
    """Cut-off policy that the source with most events requires; None if it requires none."""
    return _of_largest_source(store, "policy")


def _of_largest_source(store: Store, field: str) -> str | None:
    """Value of `field` with the most inserted rows, summed over files by source and value."""
    stages: list[dict[str, object]] = [
        {"$match": {"kind": "file", "timezone": {"$type": "string"}}},
        {
            "$group": {
                "_id": {"source": "$source", "value": f"${field}"},
                "rows": {"$sum": "$counts.inserted"},
            }
        },
        {"$sort": {"rows": -1, "_id.source": 1, "_id.value": 1}},
        {"$limit": 1},
    ]
    groups = list(store.ledger.aggregate(stages))
    value = groups[0]["_id"]["value"] if groups else None
    return None if value is None else str(value)
