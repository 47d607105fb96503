"""What has been ingested: one document per file, one per window of it, and who is at work on which file.

A window is open from before its first insert until its counts are known; a killed run leaves at most one
open window, which is done again under the same id. The times of leases are the server's.
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
from retail_core.sources.source import Written
from retail_core.store.mongo.connection import Store, server_time

LEASE_SECONDS = 60
"""How long a run on another machine is believed to live without a sign; on this one the process is asked."""

_TRIES = 100


@dataclass(frozen=True)
class Counts:
    """What became of the rows of a window or file."""

    rows_read: int = 0
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in asdict(self)))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) - getattr(other, name) for name in asdict(self)))

    def check(self, place: str) -> Counts:
        """Itself, if every row is accounted for.

        Raises:
            IntegrityError: rows_read is not inserted + duplicates + quarantined.
        """
        if self.rows_read != self.inserted + self.duplicates + self.quarantined:
            raise IntegrityError(
                f"The counts of {place} do not add up: {self.rows_read} rows read, {self.inserted} inserted, "
                f"{self.duplicates} duplicates, {self.quarantined} in quarantine.",
                remedy="let no one else write to the collections, and run the command again.",
            )
        return self


@dataclass(frozen=True)
class FileKey:
    """What makes a file the same file: its content, its source and how that is read."""

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

    def about(self) -> dict[str, object]:
        """What the file's document says of it from the beginning."""
        named: dict[str, object] = {
            "kind": "file",
            "file": self.path.name,
            "path": str(self.path),
            "sha256": self.sha256,
        }
        return named | {"source": self.source, "timezone": self.timezone, "policy": self.policy}


@dataclass
class Run:
    """A file (or a replay, or a posted batch) being stored by this process."""

    file_id: str
    name: str
    owner: str | None = None
    offset: int = 0
    counts: Counts = field(default_factory=Counts)
    unfinished: int | None = None


@dataclass(frozen=True)
class Window:
    """An open window; `again` where a killed run has begun it before."""

    window_id: int
    again: bool


def begin(store: Store, file_id: str, about: Mapping[str, object], at: datetime) -> Run | None:
    """Take on what `file_id` names; None when it is already done. Nobody else can, until it is released.

    Raises:
        InputError: another run is at work on it.
    """
    name = str(about["file"])
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
    held = store.ledger.find_one({"_id": file_id})
    free: list[dict[str, Any]] = [{"lease": None}]
    if held and _free(store, held.get("lease")):
        free.append({"lease": held["lease"]})
    query = {"_id": file_id, "state": {"$ne": "done"}, "$or": free}
    try:
        store.ledger.update_one(query, [{"$set": _taken(about, owner, at)}], upsert=True)
    except DuplicateKeyError:
        held = store.ledger.find_one({"_id": file_id}) or {}
        if held.get("state") == "done":
            return None
        lease = held.get("lease") or {}
        raise InputError(
            f"{name} is being worked on by process {lease.get('pid')} on {lease.get('host')}.",
            remedy="wait for it to end, then run the command again.",
        ) from None
    return _resumed(store, Run(file_id, name, owner))


def _resumed(store: Store, run: Run) -> Run:
    """`run` with what its committed windows hold and the window left open by a killed run, if any."""
    for window in store.ledger.find({"kind": "window", "file_id": run.file_id}):
        if window["state"] == "committed":
            run.counts += Counts(**window["counts"])
            run.offset = max(run.offset, window["last_row"])
        else:
            run.unfinished = window["window_id"]
    return run


def open_window(store: Store, run: Run, rows: tuple[int, int], written: Written | None = None) -> Window:
    """The window for these rows: the one a killed run left open, or the next of all windows."""
    extent = {"first_row": rows[0], "last_row": rows[1], **asdict(written or Written())}
    if run.unfinished is not None:
        window_id, run.unfinished = run.unfinished, None
        store.ledger.update_one({"_id": f"window:{window_id}"}, {"$set": extent})
        return Window(window_id, again=True)
    document = {"kind": "window", "file_id": run.file_id, "state": "open", "users": 0} | extent
    document["counts"] = asdict(Counts())
    for _ in range(_TRIES):
        newest = store.ledger.find_one({"window_id": {"$gt": 0}}, sort=[("window_id", DESCENDING)])
        window_id = newest["window_id"] + 1 if newest else 1
        try:
            store.ledger.insert_one({"_id": f"window:{window_id}", "window_id": window_id, **document})
        except DuplicateKeyError:
            continue
        return Window(window_id, again=False)
    raise IntegrityError("No window could be opened.", remedy="run fewer ingestions at a time.")


def commit_window(store: Store, run: Run, window_id: int, counts: Counts, *, last: int, users: int) -> None:
    """Make the window part of the record, once its counts are checked, and move the file's offset on.

    Raises:
        IntegrityError: the counts do not add up.
        InputError: another run has taken the file over.
    """
    counts.check(f"window {window_id} of {run.name}")
    run.counts, run.offset = (run.counts + counts).check(run.name), last
    if run.owner is not None:
        progress = {"lease.until": _until(), "offset": last, "counts": asdict(run.counts)}
        moved = store.ledger.update_one({"_id": run.file_id, "lease.owner": run.owner}, [{"$set": progress}])
        if not moved.matched_count:
            raise InputError(f"{run.name} was taken over by another run.", remedy="let that one finish.")
    committed = {"state": "committed", "counts": asdict(counts), "users": users}
    store.ledger.update_one({"_id": f"window:{window_id}"}, {"$set": committed})


def finish(store: Store, run: Run, at: datetime) -> None:
    """The file is done and will be skipped from now on."""
    done = {"state": "done", "finished_at": at, "lease": None, "counts": asdict(run.counts)}
    store.ledger.update_one({"_id": run.file_id, "lease.owner": run.owner}, {"$set": done})


@contextmanager
def held(store: Store, run: Run) -> Iterator[None]:
    """However the block ends, let others take the run's file on afterwards, if the server can be told."""
    try:
        yield
    finally:
        with suppress(PyMongoError):
            store.ledger.update_one({"_id": run.file_id, "lease.owner": run.owner}, {"$set": {"lease": None}})


def abandoned(store: Store, window_ids: Iterable[int]) -> list[int]:
    """Those windows that are open though nobody is at work on them (any more)."""
    keys = [f"window:{window_id}" for window_id in sorted(set(window_ids))]
    left = []
    for window in store.ledger.find({"_id": {"$in": keys}, "state": "open"}):
        held = store.ledger.find_one({"_id": window["file_id"]}) or {}
        if _free(store, held.get("lease")):
            left.append(int(window["window_id"]))
    return left


def _free(store: Store, lease: Mapping[str, Any] | None) -> bool:
    """Whether nobody is at work under this lease: there is none, its process is no more, or it ran out.

    On this machine the process alone counts; it may be slow.
    """
    if lease is None:
        return True
    if lease["host"] == socket.gethostname():
        born = _born(lease["pid"])
        return born is None or abs(born - lease["born"]) > 1
    return bool(lease["until"] < server_time(store))


def _taken(about: Mapping[str, object], owner: str, at: datetime) -> dict[str, Any]:
    fixed = dict(about) | {"state": "running", "finished_at": None}
    kept = {"offset": 0, "counts": asdict(Counts()), "started_at": at}
    process = {"owner": owner, "host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())}
    lease = {name: {"$literal": value} for name, value in process.items()} | {"until": _until()}
    return (
        {name: {"$literal": value} for name, value in fixed.items()}
        | {name: {"$ifNull": [f"${name}", {"$literal": value}]} for name, value in kept.items()}
        | {"lease": lease}
    )


def _until() -> dict[str, Any]:
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "second", "amount": LEASE_SECONDS}}


def _born(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None
