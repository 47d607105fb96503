"""Insert the documents of one window into MongoDB; inserting them again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from retail_core.errors import IntegrityError
from retail_core.ingest.documents import event_documents, user_documents
from retail_core.sources.refusals import Refusal, refusal
from retail_core.sources.source import Chunk, RowFormat, Source
from retail_core.store.mongo import ledger, quarantine
from retail_core.store.mongo.connection import Document, Store, duplicate_key_documents
from retail_core.store.mongo.ledger import IngestionRun, RowCounts

INSERT_BATCH = 10_000


@dataclass(frozen=True)
class PreparedWindow:
    """A chunk with its documents, without `window_id`."""

    chunk: Chunk
    events: list[Document]
    users: list[Document]


@dataclass(frozen=True)
class RepeatedId:
    """A document whose id exists already; `same_content` if its content does not conflict either."""

    document: Document
    same_content: bool


def prepare_window(chunk: Chunk, source: str) -> PreparedWindow:
    """Build the documents of a chunk; `source` is the source's name."""
    return PreparedWindow(chunk, event_documents(chunk.events, source), user_documents(chunk.users, source))


def row_format_of(chunk: Chunk, source: Source) -> RowFormat:
    """How the raw rows of `chunk` are written."""
    return RowFormat(chunk.header, source.layout.delimiter, source.columns.get("user_id", ()))


def store_window(
    store: Store, run: IngestionRun, window: PreparedWindow, source: Source, at: datetime
) -> RowCounts:
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
    counts, conflicts = insert_events(store, window, window_id)
    users = insert_users(store, window, window_id)
    origin = quarantine.RefusalOrigin(run.file_id, run.name, source.name, window_id, at, row_format)
    quarantine_refusals(store, [*chunk.refused, *conflicts], origin, counts)
    notes = chunk.notes.of_file(run.name)
    ledger.commit_window(store, run, window_id, counts, last=chunk.last, users=users, notes=notes)
    return counts


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


def insert_events(store: Store, window: PreparedWindow, window_id: int) -> tuple[RowCounts, list[Refusal]]:
    """Insert the events of a window.

    Returns:
        Counts of the window, and refusals of the events whose id exists with another content.
    """
    chunk = window.chunk
    unique, repeats = _split_repeated_ids(window.events)
    has_source_ids = chunk.source_ids.null_count < len(chunk.source_ids)
    repeats += _insert(store, store.events, unique, window_id, compare=has_source_ids)
    conflicts = [repeat.document for repeat in repeats if not repeat.same_content]
    counts = RowCounts(
        rows_read=chunk.rows_read,
        inserted=len(window.events) - len(repeats),
        duplicates=len(repeats) - len(conflicts),
        quarantined=len(chunk.refused) + len(conflicts),
    )
    return counts, _conflict_refusals(window, conflicts)


def insert_users(store: Store, window: PreparedWindow, window_id: int) -> int:
    """Insert new user attributes and return their number."""
    return len(window.users) - len(_insert(store, store.users, window.users, window_id, compare=False))


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


def _split_repeated_ids(documents: list[Document]) -> tuple[list[Document], list[RepeatedId]]:
    """The first document of each id, and the further ones."""
    if len({document["_id"] for document in documents}) == len(documents):
        return documents, []
    first: dict[str, Document] = {}
    repeats = []
    for document in documents:
        first_document = first.setdefault(document["_id"], document)
        if first_document is not document:
            repeats.append(RepeatedId(document, same_content=first_document == document))
    return list(first.values()), repeats


def _insert(
    store: Store,
    collection: Collection[Document],
    documents: list[Document],
    window_id: int,
    *,
    compare: bool,
) -> list[RepeatedId]:
    """Insert documents and return those whose id exists; ids that this window inserted before count as new.

    If `compare`, existing documents are compared by content, else they count as equal.
    """
    repeats: list[RepeatedId] = []
    for batch in _batches(documents, window_id):
        try:
            collection.insert_many(batch, ordered=False)
        except BulkWriteError as error:
            rejected = {document["_id"]: document for document in duplicate_key_documents(error)}
            stored = _read_stored(collection, list(rejected), compare=compare)
            own_windows = {window_id, *_adopt_abandoned(store, collection, stored, window_id)}
            repeats += [
                RepeatedId(document, same_content=not compare or _content(stored[key]) == _content(document))
                for key, document in rejected.items()
                if stored[key].get("window_id") not in own_windows
            ]
    return repeats


def _read_stored(collection: Collection[Document], keys: list[str], *, compare: bool) -> dict[str, Document]:
    """Stored documents by id, with all fields if `compare`, else with `window_id` only."""
    cursor = collection.find({"_id": {"$in": keys}}, None if compare else {"window_id": 1})
    stored = {document["_id"]: document for document in cursor}
    if len(stored) < len(keys):
        raise IntegrityError("Documents vanish while they are ingested.", remedy="run the command again.")
    return stored


def _adopt_abandoned(
    store: Store, collection: Collection[Document], stored: Mapping[str, Document], window_id: int
) -> list[int]:
    """Move stored documents of windows that a killed run left open to this window; ids of those windows.

    Otherwise these documents would belong to windows that may never be committed.
    """
    window_ids = {document["window_id"] for document in stored.values() if "window_id" in document}
    abandoned = ledger.abandoned_windows(store, window_ids - {window_id})
    if abandoned:
        adopted = {"_id": {"$in": list(stored)}, "window_id": {"$in": abandoned}}
        collection.update_many(adopted, {"$set": {"window_id": window_id}})
    return abandoned


def _batches(documents: list[Document], window_id: int) -> Iterator[list[Document]]:
    for start in range(0, len(documents), INSERT_BATCH):
        batch = documents[start : start + INSERT_BATCH]
        for document in batch:
            document["window_id"] = window_id
        yield batch


def _content(document: Document) -> Document:
    """Fields that decide whether two documents with the same id are equal; times as aware datetimes."""
    content = {name: value for name, value in document.items() if name != "window_id"}
    at: datetime = content["event_time"]
    content["event_time"] = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return content
