"""Insert the documents of one window into MongoDB; inserting them again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum

from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from retail_core.arrow_compute import pc
from retail_core.errors import IntegrityError
from retail_core.ingest.documents import event_documents, user_documents
from retail_core.ingest.link_writer import added_fields, store_links
from retail_core.ingest.repeated_orders import split_repeated_orders
from retail_core.ingest.repeats import (
    RepeatedId,
    ids_by_v1,
    split_repeated_ids,
    split_stored_under_v1,
)
from retail_core.sources.refusals import Refusal, refusal
from retail_core.sources.source import Chunk, RowFormat, Source
from retail_core.store.mongo import ledger, quarantine
from retail_core.store.mongo.connection import Document, Store, duplicate_key_documents
from retail_core.store.mongo.event_duplicates import record_duplicates
from retail_core.store.mongo.ledger import IngestionRun
from retail_core.store.mongo.row_counts import RowCounts
from retail_core.store.mongo.window_states import abandoned_windows, removed_windows

INSERT_BATCH = 10_000
_CONCURRENT_BATCHES = 2
"""One batch is encoded while MongoDB inserts the other."""
_MAX_ATTEMPTS = 10


@dataclass(frozen=True)
class PreparedWindow:
    """A chunk with its documents, without `window_id`."""

    chunk: Chunk
    events: list[Document]
    users: list[Document]


@dataclass(frozen=True)
class InsertedWindow:
    """What inserting a window changed.

    Attributes:
        counts: of its rows.
        conflicts: refusals of the events whose id exists with another content.
        new_events: documents that were inserted.
        users: number of new user attributes.
        links: number of identity links that are new or changed.
    """

    counts: RowCounts
    conflicts: list[Refusal]
    new_events: list[Document]
    users: int
    links: int = 0


def prepare_window(chunk: Chunk, source: str) -> PreparedWindow:
    """Build the documents of a chunk; `source` is the source's name."""
    return PreparedWindow(chunk, event_documents(chunk.events, source), user_documents(chunk.users, source))


def row_format_of(chunk: Chunk, source: Source) -> RowFormat:
    """How the raw rows of `chunk` are written."""
    columns = tuple(dict.fromkeys([*source.user_columns(), *source.links.previous]))
    spellings = tuple(other for other, name in source.spellings.items() if name in columns)
    return RowFormat(chunk.header, source.layout.delimiter, (*columns, *spellings))


def store_window(
    store: Store, run: IngestionRun, window: PreparedWindow, source: Source, at: datetime
) -> InsertedWindow:
    """Insert the window's documents, quarantine its refused rows, check the counts and commit.

    Args:
        store: the database.
        run: the run that ingests the file.
        window: the next window of that file.
        source: dialect of the file.
        at: current time.

    Raises:
        IntegrityError: the counts do not add up; the window was not committed.
        InputError: another run has taken over the file.
    """
    chunk = window.chunk
    row_format = row_format_of(chunk, source)
    opened = ledger.open_window(store, run, (chunk.first, chunk.last), row_format)
    window_id = opened.window_id
    if opened.resumed:
        quarantine.remove_window(store, window_id)
    inserted = insert_window(store, window, window_id, check_v1=run.check_v1)
    links = store_links(store, chunk, inserted.conflicts, [run.file_id], source.name)
    origin = quarantine.RefusalOrigin(
        run.file_id, run.name, source.name, window_id, at, row_format, chunk.joined_user_ids
    )
    quarantine_refusals(store, [*chunk.refused, *inserted.conflicts], origin, inserted.counts)
    added = added_fields(inserted.users, links, inserted.new_events)
    notes = chunk.notes.of_file(run.name)
    ledger.commit_window(store, run, window_id, inserted.counts, last=chunk.last, added=added, notes=notes)
    return replace(inserted, links=links)


def quarantine_refusals(
    store: Store, refused: list[Refusal], origin: quarantine.RefusalOrigin, counts: RowCounts
) -> None:
    """Put the refused rows of a window into quarantine.

    Raises:
        IntegrityError: their number is not `counts.quarantined`.
    """
    by_line = sorted(refused, key=lambda refused_row: refused_row.line)
    if quarantine.add_refusals(store, by_line, origin) != counts.quarantined:
        raise IntegrityError("Refused rows are missing in quarantine.", remedy="run the command again.")


def insert_window(
    store: Store, window: PreparedWindow, window_id: int, *, check_v1: bool = False
) -> InsertedWindow:
    """Insert the events and user attributes of a window, and record which of them were stored already.

    Args:
        store: the database.
        window: documents to insert.
        window_id: of the open ledger window.
        check_v1: whether events may be stored under the id that release 0.1.0 gave them.
    """
    chunk = window.chunk
    same_by_identity = _ids_made_by_identity(chunk)
    unique, repeats = split_repeated_ids(window.events, same_by_identity)
    if check_v1:
        v1_ids = ids_by_v1(window.events, chunk.v1_ids())
        unique, stored = split_stored_under_v1(store, v1_ids, unique, window_id)
        repeats += stored
    has_source_ids = chunk.source_ids.null_count < len(chunk.source_ids)
    compare = Comparison.LENIENT if check_v1 else Comparison.EXACT
    compare = compare if has_source_ids else Comparison.NONE
    events = _Inserter(store, store.events, window_id, compare, same_by_identity)
    users = _Inserter(store, store.users, window_id, Comparison.NONE)
    if chunk.once_per_order:
        messages = _message_numbers(chunk) if chunk.lines_are_messages else {}
        unique, stored = split_repeated_orders(store, unique, window_id, events.adopt_abandoned, messages)
        repeats += stored
    repeats += events.insert(unique)
    unique_users, repeated_users = split_repeated_ids(window.users)
    repeated_users += users.insert(unique_users)
    record_duplicates(
        store, window_id, {"events": _stored_ids(repeats), "users": _stored_ids(repeated_users)}
    )
    repeats, repeated_users = events.claim_undone(repeats), users.claim_undone(repeated_users)
    conflicts = [repeat.document for repeat in repeats if not repeat.same_content]
    rows, stored_before = (window.users, repeated_users) if chunk.has_user_rows else (window.events, repeats)
    counts = RowCounts(
        rows_read=chunk.rows_read,
        inserted=len(rows) - len(stored_before),
        duplicates=len(stored_before) - len(conflicts),
        quarantined=len(chunk.refused) + len(conflicts),
    )
    repeated = {id(repeat.document) for repeat in repeats}
    new_events = [document for document in window.events if id(document) not in repeated]
    new_users = len(window.users) - len(repeated_users)
    return InsertedWindow(counts, _conflict_refusals(window, conflicts), new_events, new_users)


def _message_numbers(chunk: Chunk) -> dict[str, int]:
    """Line by event id; of an id that occurs again, the first line."""
    lines: dict[str, int] = {}
    for event_id, line in zip(chunk.events["event_id"], chunk.lines.tolist(), strict=True):
        lines.setdefault(event_id, line)
    return lines


def _ids_made_by_identity(chunk: Chunk) -> frozenset[str]:
    """Ids of the events without an id of their own: where they are equal, the content may differ."""
    without_id = pc.indices_nonzero(chunk.source_ids.is_null()).to_numpy()
    return frozenset(chunk.events["event_id"].iloc[without_id])


def _stored_ids(repeats: list[RepeatedId]) -> list[str]:
    return [
        repeat.stored_id for repeat in repeats if repeat.same_content and repeat.stored_window is not None
    ]


def _conflict_refusals(window: PreparedWindow, conflicts: list[Document]) -> list[Refusal]:
    if not conflicts:
        return []
    chunk = window.chunk
    conflict_identities = set(map(id, conflicts))
    rows = [row for row, document in enumerate(window.events) if id(document) in conflict_identities]
    return [
        refusal(chunk.lines[row], chunk.id_column, "conflict", chunk.source_ids[row].as_py(), chunk.raw(row))
        for row in rows
    ]


class Comparison(Enum):
    """How a document is compared with the stored one of the same id."""

    NONE = "none"
    """Equal ids mean equal content."""
    EXACT = "exact"
    LENIENT = "lenient"
    """Values that only the stored document has are ignored: release 0.1.0 stored null markers as values."""


@dataclass(frozen=True)
class _Inserter:
    """Inserts documents of one window; ids that this window inserted before count as new."""

    store: Store
    collection: Collection[Document]
    window_id: int
    comparison: Comparison
    same_by_identity: frozenset[str] = frozenset()

    def insert(self, documents: list[Document]) -> list[RepeatedId]:
        """Insert documents and return those that are stored already.

        Raises:
            IntegrityError: documents are removed while they are inserted.
        """
        batches = _batches(documents, self.window_id)
        if len(documents) <= INSERT_BATCH:
            return [repeat for batch in batches for repeat in self._insert_batch(batch)]
        with ThreadPoolExecutor(_CONCURRENT_BATCHES, thread_name_prefix="insert") as pool:
            return [repeat for repeats in pool.map(self._insert_batch, batches) for repeat in repeats]

    def _insert_batch(self, batch: list[Document]) -> list[RepeatedId]:
        repeats: list[RepeatedId] = []
        for _ in range(_MAX_ATTEMPTS):
            if not batch:
                return repeats
            try:
                self.collection.insert_many(batch, ordered=False)
            except BulkWriteError as error:
                rejected = {document["_id"]: document for document in duplicate_key_documents(error)}
            else:
                return repeats
            stored = self._read_stored(list(rejected))
            own_windows = {self.window_id, *self.adopt_abandoned(stored)}
            repeats += [
                self._repeat(document, stored[key])
                for key, document in rejected.items()
                if key in stored and stored[key].get("window_id") not in own_windows
            ]
            # An undo may have removed stored documents in between.
            batch = [document for key, document in rejected.items() if key not in stored]
        raise IntegrityError("Documents vanish while they are ingested.", remedy="run the command again.")

    def _repeat(self, document: Document, stored: Document) -> RepeatedId:
        is_compared = self.comparison is not Comparison.NONE and document["_id"] not in self.same_by_identity
        same = not is_compared or _is_same(stored, document, self.comparison)
        return RepeatedId(document, same, document["_id"], stored.get("window_id", 0))

    def claim_undone(self, repeats: list[RepeatedId]) -> list[RepeatedId]:
        """Store documents anew whose stored copy is of a window that is being undone; returns the others.

        This comes after `record_duplicates`: an undo that reads these records leaves the documents stored,
        and an undo that read them before is seen here.
        """
        removed = removed_windows(self.store, {r.stored_window for r in repeats if r.stored_window})
        undone = [repeat for repeat in repeats if repeat.stored_window in removed]
        if not undone:
            return repeats
        stored_ids = [repeat.stored_id for repeat in undone]
        claimed = {"_id": {"$in": stored_ids}, "window_id": {"$in": sorted(removed)}}
        self.collection.update_many(claimed, {"$set": {"window_id": self.window_id}})
        owned = self.collection.find({"_id": {"$in": stored_ids}, "window_id": self.window_id}, {"_id": 1})
        owned_ids = {document["_id"] for document in owned}
        vanished = [repeat.document for repeat in undone if repeat.stored_id not in owned_ids]
        return [repeat for repeat in repeats if repeat.stored_window not in removed] + self.insert(vanished)

    def _read_stored(self, keys: list[str]) -> dict[str, Document]:
        """Stored documents by id, with all fields if they are compared, else with `window_id` only."""
        fields = {"window_id": 1} if self.comparison is Comparison.NONE else None
        return {
            document["_id"]: document for document in self.collection.find({"_id": {"$in": keys}}, fields)
        }

    def adopt_abandoned(self, stored: Mapping[str, Document]) -> list[int]:
        """Move stored documents of windows that a killed run left open to this window; ids of those windows.

        Otherwise these documents would belong to windows that may never be committed.
        """
        window_ids = {document["window_id"] for document in stored.values() if "window_id" in document}
        abandoned = abandoned_windows(self.store, window_ids - {self.window_id})
        if abandoned:
            adopted = {"_id": {"$in": list(stored)}, "window_id": {"$in": abandoned}}
            self.collection.update_many(adopted, {"$set": {"window_id": self.window_id}})
        return abandoned


def _batches(documents: list[Document], window_id: int) -> Iterator[list[Document]]:
    for start in range(0, len(documents), INSERT_BATCH):
        batch = documents[start : start + INSERT_BATCH]
        for document in batch:
            document["window_id"] = window_id
        yield batch


def _is_same(stored: Document, document: Document, comparison: Comparison) -> bool:
    before, after = _content(stored), _content(document)
    if comparison is Comparison.LENIENT:
        before = {name: value for name, value in before.items() if name in after}
    return before == after


def _content(document: Document) -> Document:
    """Fields that decide whether two documents with the same id are equal; times as aware datetimes."""
    content = {name: value for name, value in document.items() if name != "window_id"}
    at: datetime = content["event_time"]
    content["event_time"] = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return content
