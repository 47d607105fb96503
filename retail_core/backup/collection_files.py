"""Collections of MongoDB as BSON files: read at one instant for a backup, inserted by a restore.

A file has the documents of a collection one after another, as MongoDB's `bsondump` reads them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from retail_core.backup.backup_manifest import Advance, DigestWriter, FileDigest
from retail_core.errors import DependencyError, IntegrityError
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.schema_versions import COLLECTION as SCHEMA_COLLECTION
from retail_core.store.mongo.server_errors import mongodb_error

HISTORY_PARAMETER = "minSnapshotHistoryWindowInSeconds"
HISTORY_SECONDS = 4 * 3600
"""How long the embedded server keeps the history that a snapshot needs, while a backup reads it."""

_DEFAULT_HISTORY_SECONDS = 300
_SNAPSHOT_ERRORS = (239, 246)
"""SnapshotTooOld and SnapshotUnavailable."""

_NOT_COPIED = frozenset({"restores", "jobs", "job_files.files", "job_files.chunks"})
"""Jobs, with the files that users sent, live for a day; a restored one would be scored again."""

_BATCH_DOCUMENTS = 5_000
_RAW = CodecOptions(document_class=RawBSONDocument)


@dataclass(frozen=True)
class Snapshot:
    """The database at one instant: a session whose reads all see that instant, and its collections."""

    store: Store
    session: ClientSession
    names: tuple[str, ...]

    def dump(self, folder: Path, advance: Advance) -> Iterator[tuple[str, int, FileDigest]]:
        """Write each collection to `folder/NAME.bson`; yields name, number of documents and digest."""
        folder.mkdir()
        for name in self.names:
            total = self.store.database[name].estimated_document_count()
            with (folder / f"{name}.bson").open("wb") as stream:
                writer, count = DigestWriter(stream), 0
                # The driver's annotation names decoded documents.
                batches = cast(
                    "Iterable[bytes]", self.store.database[name].find_raw_batches(session=self.session)
                )
                for batch in batches:
                    writer.write(batch)
                    count += _document_count(batch)
                    advance(name, count, max(count, total))
            yield name, count, writer.digest


@contextmanager
def open_snapshot(store: Store) -> Iterator[Snapshot]:
    """Fix the present instant of the database."""
    while True:
        names = _collection_names(store)
        with store.client.start_session(snapshot=True) as session:
            store.ledger.find_one({}, session=session)  # the first read determines the instant
            if names == _collection_names(store):
                yield Snapshot(store, session, names)
                return


@contextmanager
def longer_history(store: Store) -> Iterator[None]:
    """Let the embedded server keep the history of the block; an own server keeps what it is set to."""
    if store.settings.mongodb_uri is not None:
        yield
        return
    store.client.admin.command({"setParameter": 1, HISTORY_PARAMETER: HISTORY_SECONDS})
    try:
        yield
    finally:
        store.client.admin.command({"setParameter": 1, HISTORY_PARAMETER: _DEFAULT_HISTORY_SECONDS})


@contextmanager
def translated_errors(store: Store) -> Iterator[None]:
    """Errors of MongoDB in the block as a `DependencyError` that names the server."""
    try:
        yield
    except PyMongoError as error:
        raise mongodb_error(store.settings, error) from error


def is_snapshot_lost(error: OperationFailure) -> bool:
    """Whether the server no longer has, or does not have yet, the history that a snapshot needs."""
    return error.code in _SNAPSHOT_ERRORS


def snapshot_too_old() -> DependencyError:
    """The error to raise where every attempt lost its snapshot."""
    return DependencyError(
        "MongoDB discarded the snapshot before it was read; no backup was written.",
        remedy=f"raise the server's parameter {HISTORY_PARAMETER} above the duration of a backup, "
        "or back up while less is written.",
    )


def has_documents(store: Store) -> bool:
    """Whether any collection has a document; those of restores, jobs and schema versions do not count."""
    names = [name for name in _collection_names(store) if name != SCHEMA_COLLECTION]
    return any(store.database[name].find_one({}, {"_id": 1}) for name in names)


def drop_collections(store: Store) -> None:
    """Drop every collection that a backup contains."""
    for name in _collection_names(store):
        store.database.drop_collection(name)


def insert_collections(store: Store, folder: Path, documents: Mapping[str, int], advance: Advance) -> None:
    """Insert the files of a backup into collections that do not exist, and compare the counts.

    Args:
        store: an open database.
        folder: with the files.
        documents: expected number of documents by collection.
        advance: receives the progress.

    Raises:
        IntegrityError: a collection has another number of documents.
    """
    for name, expected in documents.items():
        collection, count = store.database[name], 0
        with (folder / f"{name}.bson").open("rb") as stream:
            rows = bson.decode_file_iter(stream, _RAW)
            while batch := list(islice(rows, _BATCH_DOCUMENTS)):
                collection.with_options(_RAW).insert_many(batch, ordered=False)
                count += len(batch)
                advance(name, count, expected)
        stored = collection.count_documents({})
        if stored != expected:
            raise IntegrityError(
                f"{name} has {stored:,} documents after the restore, and the backup {expected:,}.",
                remedy="let no one else write to the database, and run the command again.",
            )


def release_leases(store: Store) -> None:
    """Release what runs of the original home held when the backup was made; they do not write here."""
    store.ledger.update_many({"lease": {"$ne": None}}, {"$set": {"lease": None}})


def _collection_names(store: Store) -> tuple[str, ...]:
    names: list[Any] = store.database.list_collection_names(filter={"type": "collection"})
    return tuple(sorted(name for name in names if name not in _NOT_COPIED and not name.startswith("system.")))


def _document_count(batch: bytes) -> int:
    """Number of BSON documents in `batch`; each begins with its size."""
    position = count = 0
    while position < len(batch):
        position += struct.unpack_from("<i", batch, position)[0]
        count += 1
    return count
