"""Ingestion ledger: one document per ingested file, with a lease, and one document per window.

A window is open from before its first insert until its counts are committed. A killed run leaves at most one
open window, which the next run repeats under the same id. The lease names the process that ingests the file;
its times are the MongoDB server's. The shop's time zone and cut-off policy follow from the files' sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pymongo import DESCENDING
from pymongo.errors import DuplicateKeyError, PyMongoError

from retail_core.errors import DependencyError, InputError, IntegrityError
from retail_core.sources.ingest_summary import IngestSummary
from retail_core.sources.parse_notes import ParseNotes
from retail_core.sources.source import RowFormat
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.leases import lease_end, lease_ended, new_lease, new_owner
from retail_core.store.mongo.row_counts import RowCounts, checked_window, window_counts

_MAX_ATTEMPTS = 100

DEFAULT_ZONE = "UTC"


@dataclass(frozen=True)
class FileKey:
    """Identity of an ingested file: its content, its source and the source's options.

    Attributes:
        path: of the file, as the user named it.
        sha256: hash of its bytes.
        text_sha256: hash of its text, see `ContentHashes`.
        source: name of the source.
        options: hash of the source's options.
        timezone: IANA zone of times without an offset; None of a file of users.
        policy: cut-off policy that the source requires, or None.
        identity_rule: how its event ids are made.
        reading: the source's options as JSON, for messages.
        preset: whether the source is a preset as this release has it, apart from its time zone.
        of_users: whether its rows are users with attributes, without events.
    """

    path: Path
    sha256: str
    text_sha256: str
    source: str
    options: str
    timezone: str | None
    policy: str | None
    identity_rule: str = "row"
    reading: str = "{}"
    preset: bool = False
    of_users: bool = False

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
            "text_sha256": self.text_sha256,
        }
        names = ("source", "timezone", "policy", "identity_rule", "reading", "preset")
        rows = {"rows": "users"} if self.of_users else {}
        return file_fields | rows | {name: getattr(self, name) for name in names}


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
        identity_rule: how the event ids of its windows are made.
        check_v1: whether its events may be stored under ids of release 0.1.0.
    """

    file_id: str
    name: str
    owner: str | None = None
    offset: int = 0
    counts: RowCounts = field(default_factory=RowCounts)
    unfinished: int | None = None
    notes: ParseNotes = field(default_factory=ParseNotes)
    identity_rule: str = "row"
    check_v1: bool = False


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
        InputError: another run holds the lease, or the file is being undone.
    """
    name = str(description["file"])
    owner = new_owner()
    present = store.ledger.find_one({"_id": file_id})
    free_leases: list[dict[str, Any]] = [{"lease": None}]
    if present and lease_ended(store, present.get("lease")):
        free_leases.append({"lease": present["lease"]})
    query = {"_id": file_id, "state": {"$nin": ["done", "undoing"]}, "$or": free_leases}
    try:
        store.ledger.update_one(query, [{"$set": _lease_update(description, owner, at)}], upsert=True)
    except DuplicateKeyError:
        present = store.ledger.find_one({"_id": file_id}) or {}
        if present.get("state") == "done":
            return None
        if present.get("state") == "undoing":
            raise InputError(
                f"What {name} brought is being removed; that has not ended.",
                remedy=f"run `retail ingest undo {file_id}` to the end, then this command again.",
            ) from None
        lease = present.get("lease") or {}
        raise InputError(
            f"{name} is being worked on by process {lease.get('pid')} on {lease.get('host')}.",
            remedy="wait for it to end, then run the command again.",
        ) from None
    rule = str(description.get("identity_rule", "row"))
    check_v1 = has_v1_files(store, str(description["source"]))
    return _with_progress(store, IngestionRun(file_id, name, owner, identity_rule=rule, check_v1=check_v1))


def has_v1_files(store: Store, source: str) -> bool:
    """Whether release 0.1.0, which recorded no rule, ingested files of the source."""
    query = {"sha256": {"$exists": True}, "source": source, "identity_rule": {"$in": [None, "v1"]}}
    return store.ledger.find_one(query, {"_id": 1}) is not None


def _with_progress(store: Store, run: IngestionRun) -> IngestionRun:
    """`run` with the counts and offset of its committed windows and the id of an open one."""
    for window in map(checked_window, store.ledger.find({"kind": "window", "file_id": run.file_id})):
        if window["state"] == "committed":
            run.counts += window_counts(window)
            run.notes += ParseNotes.from_documents(window)
            run.offset = max(run.offset, window["last_row"])
        else:
            run.unfinished = window["window_id"]
    return run


def open_window(
    store: Store,
    run: IngestionRun,
    rows: tuple[int, int],
    row_format: RowFormat | None = None,
    for_files: Iterable[str] = (),
) -> LedgerWindow:
    """Open the window of a range of rows: the one that a killed run left open, else one with a new id.

    Args:
        store: the database.
        run: the ingestion it belongs to.
        rows: first and last line (or row).
        row_format: how its raw rows are written.
        for_files: in a replay, ids of the files that have the rows.

    Raises:
        IntegrityError: other processes took every new id.
    """
    extent = {"first_row": rows[0], "last_row": rows[1], **asdict(row_format or RowFormat())}
    if files := list(for_files):
        extent["for_files"] = files
    if run.unfinished is not None:
        window_id, run.unfinished = run.unfinished, None
        store.ledger.update_one({"_id": f"window:{window_id}"}, {"$set": extent | {"state": "open"}})
        return LedgerWindow(window_id, resumed=True)
    document = {"kind": "window", "file_id": run.file_id, "state": "open", "users": 0} | extent
    document |= {"identity_rule": run.identity_rule, "counts": asdict(RowCounts())}
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
    added: Mapping[str, object],
    notes: ParseNotes,
) -> None:
    """Check the counts, advance the file's offset, renew the lease and mark the window as committed.

    Args:
        store: the database.
        run: the ingestion; its counts, offset and notes are updated.
        window_id: of the open window.
        counts: of its rows.
        last: its last line (or row).
        added: number of `users` (attributes) and of `links` (identity links) it inserted or changed, and the
            time of the `newest_event` among the new ones.
        notes: warnings and filtered rows of the window.

    Raises:
        IntegrityError: the counts do not add up.
        InputError: another run has taken over the file.
        DependencyError: an undo did not wait any longer for the window.
    """
    counts.check(f"window {window_id} of {run.name}")
    run.counts, run.offset = (run.counts + counts).check(run.name), last
    run.notes += notes
    if run.owner is not None:
        progress = {"lease.until": lease_end(), "offset": last, "counts": asdict(run.counts)}
        update = store.ledger.update_one({"_id": run.file_id, "lease.owner": run.owner}, [{"$set": progress}])
        if not update.matched_count:
            raise InputError(f"{run.name} was taken over by another run.", remedy="let that one finish.")
    committed = {"state": "committed", "counts": asdict(counts), **added, **notes.stored_documents()}
    open_key = {"_id": f"window:{window_id}", "state": "open"}
    if not store.ledger.update_one(open_key, {"$set": committed}).matched_count:
        raise DependencyError(
            f"Window {window_id} of {run.name} was closed by an undo of another file.",
            remedy="send the rows, or run the command, again.",
        )


def finish_run(store: Store, run: IngestionRun, at: datetime, summary: IngestSummary) -> None:
    """Mark the file as ingested, so that it is skipped in future; record its counts and `summary`."""
    content = {"counts": asdict(file_counts(store, run.file_id)), "summary": summary.document()}
    done = {"state": "done", "finished_at": at, "lease": None, **content}
    store.ledger.update_one({"_id": run.file_id, "lease.owner": run.owner}, {"$set": done})


def is_of_users(store: Store, file_id: str) -> bool:
    """Whether the counted rows of a file, or of a replay, are users with attributes."""
    return store.ledger.find_one({"_id": file_id, "rows": "users"}, {"_id": 1}) is not None


def file_counts(store: Store, file_id: str) -> RowCounts:
    """Sum of the counts of a file's committed windows."""
    windows = store.ledger.find({"file_id": file_id, "kind": "window", "state": "committed"}, {"counts": 1})
    return sum((window_counts(window) for window in windows), RowCounts())


@contextmanager
def releasing_lease(store: Store, run: IngestionRun) -> Iterator[None]:
    """Release the lease of `run` at the end of the block, also after an error, if the server is reachable."""
    try:
        yield
    finally:
        with suppress(PyMongoError):
            store.ledger.update_one({"_id": run.file_id, "lease.owner": run.owner}, {"$set": {"lease": None}})


def _lease_update(description: Mapping[str, object], owner: str, at: datetime) -> dict[str, Any]:
    """`$set` stage that starts or resumes a file under a new lease of this process."""
    replaced = dict(description) | {"state": "running", "finished_at": None}
    rule = replaced.pop("identity_rule", "row")
    initial = {"offset": 0, "counts": asdict(RowCounts()), "started_at": at}
    return (
        {name: {"$literal": value} for name, value in replaced.items()}
        | {name: {"$ifNull": [f"${name}", {"$literal": value}]} for name, value in initial.items()}
        | {"lease": new_lease(owner), "identity_rule": _first_rule(rule)}
    )


def _first_rule(rule: object) -> dict[str, Any]:
    """The rule of a file's first windows; a stored document without one is of release 0.1.0."""
    is_new = {"$eq": [{"$type": "$state"}, "missing"]}
    return {"$ifNull": ["$identity_rule", {"$cond": [is_new, {"$literal": rule}, "v1"]}]}


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
