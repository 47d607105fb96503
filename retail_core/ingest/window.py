"""One window's documents into MongoDB, such that doing it again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from retail_core.errors import IntegrityError
from retail_core.ingest.documents import event_documents, user_documents
from retail_core.sources.rules import Refusal, refusal
from retail_core.sources.source import Chunk, Source, Written
from retail_core.store.mongo import ledger, quarantine
from retail_core.store.mongo.connection import Document, Store, taken
from retail_core.store.mongo.ledger import Counts, Run

BATCH = 10_000


@dataclass(frozen=True)
class Prepared:
    """A chunk with its documents, ready to insert."""

    chunk: Chunk
    events: list[Document]
    users: list[Document]


@dataclass(frozen=True)
class Clash:
    """A document that was not inserted because its id is taken, and whether by the same content."""

    document: Document
    same: bool


def prepare(chunk: Chunk, source: str) -> Prepared:
    """Build the documents; no database is needed for it."""
    return Prepared(chunk, event_documents(chunk.events, source), user_documents(chunk.users, source))


def written(chunk: Chunk, source: Source) -> Written:
    """How the rows of `chunk` stood in what `source` read."""
    return Written(chunk.header, source.layout.delimiter, source.columns.get("user_id", ()))


def store_window(store: Store, run: Run, window: Prepared, origin: tuple[Source, datetime]) -> Counts:
    """Insert the window, put what is refused into quarantine, count and commit; `origin` is source and time.

    Raises:
        IntegrityError: not every row is accounted for.
    """
    chunk, (source, at) = window.chunk, origin
    how = written(chunk, source)
    opened = ledger.open_window(store, run, (chunk.first, chunk.last), how)
    window_id = opened.window_id
    if opened.again:
        quarantine.forget(store, window_id)
    counts, conflicts = insert_events(store, window, window_id)
    users = insert_users(store, window, window_id)
    place = quarantine.Origin(run.file_id, run.name, source.name, window_id, at, how)
    set_aside(store, [*chunk.refused, *conflicts], place, counts)
    ledger.commit_window(store, run, window_id, counts, last=chunk.last, users=users)
    return counts


def set_aside(store: Store, refused: list[Refusal], place: quarantine.Origin, counts: Counts) -> None:
    """Put a window's refused rows into quarantine.

    Raises:
        IntegrityError: they are not as many as were counted.
    """
    if quarantine.add(store, sorted(refused, key=lambda one: one.line), place) != counts.quarantined:
        raise IntegrityError("Refused rows are missing in quarantine.", remedy="run the command again.")


def insert_events(store: Store, window: Prepared, window_id: int) -> tuple[Counts, list[Refusal]]:
    """Counts of the window, and its events whose id is taken by another content."""
    chunk = window.chunk
    unique, clashes = _first_of_each(window.events)
    clashes += _insert(
        store, store.events, unique, window_id, compare=chunk.given.null_count < len(chunk.given)
    )
    conflicts = [clash.document for clash in clashes if not clash.same]
    counts = Counts(
        rows_read=chunk.rows_read,
        inserted=len(window.events) - len(clashes),
        duplicates=len(clashes) - len(conflicts),
        quarantined=len(chunk.refused) + len(conflicts),
    )
    return counts, _refused(window, conflicts)


def insert_users(store: Store, window: Prepared, window_id: int) -> int:
    """Insert the user attributes that are new; how many rows of `users` this window brought."""
    return len(window.users) - len(_insert(store, store.users, window.users, window_id, compare=False))


def _refused(window: Prepared, conflicts: list[Document]) -> list[Refusal]:
    if not conflicts:
        return []
    chunk = window.chunk
    wanted = set(map(id, conflicts))
    rows = [row for row, document in enumerate(window.events) if id(document) in wanted]
    return [
        refusal(chunk.lines[row], chunk.id_column, "conflict", chunk.given[row].as_py(), chunk.raw(row))
        for row in rows
    ]


def _first_of_each(documents: list[Document]) -> tuple[list[Document], list[Clash]]:
    """The documents without repetitions of an id, and the repetitions."""
    if len({document["_id"] for document in documents}) == len(documents):
        return documents, []
    first: dict[str, Document] = {}
    clashes = []
    for document in documents:
        kept = first.setdefault(document["_id"], document)
        if kept is not document:
            clashes.append(Clash(document, same=kept == document))
    return list(first.values()), clashes


def _insert(
    store: Store,
    collection: Collection[Document],
    new: list[Document],
    window_id: int,
    *,
    compare: bool,
) -> list[Clash]:
    """Insert what is new; what an earlier try of the same window inserted counts as new, too."""
    clashes: list[Clash] = []
    for batch in _batches(new, window_id):
        try:
            collection.insert_many(batch, ordered=False)
        except BulkWriteError as error:
            found = {document["_id"]: document for document in taken(error)}
            held = _held(collection, list(found), compare=compare)
            own = {window_id, *_adopt(store, collection, held, window_id)}
            clashes += [
                Clash(document, same=not compare or _content(held[key]) == _content(document))
                for key, document in found.items()
                if held[key].get("window_id") not in own
            ]
    return clashes


def _held(collection: Collection[Document], keys: list[str], *, compare: bool) -> dict[str, Document]:
    """The stored documents of these ids; only their window unless they are to be compared."""
    found = collection.find({"_id": {"$in": keys}}, None if compare else {"window_id": 1})
    held = {document["_id"]: document for document in found}
    if len(held) < len(keys):
        raise IntegrityError("Documents vanish while they are ingested.", remedy="run the command again.")
    return held


def _adopt(
    store: Store, collection: Collection[Document], held: Mapping[str, Document], window_id: int
) -> list[int]:
    """Take over documents from windows that a killed run left open: nobody else may ever commit those."""
    left = ledger.abandoned(
        store, {one["window_id"] for one in held.values() if "window_id" in one} - {window_id}
    )
    if left:
        mine = {"_id": {"$in": list(held)}, "window_id": {"$in": left}}
        collection.update_many(mine, {"$set": {"window_id": window_id}})
    return left


def _batches(documents: list[Document], window_id: int) -> Iterator[list[Document]]:
    for start in range(0, len(documents), BATCH):
        batch = documents[start : start + BATCH]
        for document in batch:
            document["window_id"] = window_id
        yield batch


def _content(document: Document) -> Document:
    """What counts when two documents of one id are compared."""
    content = {name: value for name, value in document.items() if name != "window_id"}
    at: datetime = content["event_time"]
    content["event_time"] = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return content
