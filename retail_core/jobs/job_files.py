"""Files and results of jobs in GridFS: written in blocks as they arrive, read with the driver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from bson import Binary, Int64, ObjectId
from gridfs import GridFSBucket
from gridfs.errors import NoFile

from retail_core.errors import IntegrityError
from retail_core.store.mongo.connection import Store, server_time

BUCKET = "job_files"
FILES, CHUNKS = f"{BUCKET}.files", f"{BUCKET}.chunks"
"""The collections of GridFS."""

BLOCK_BYTES = 1 << 20
"""Size of a GridFS chunk, and of the memory that a file takes while it is written."""


class JobFileWriter:
    """Writes one file to GridFS.

    `gridfs.GridIn` collects 32 MB in memory before it writes, which is too much for each of many uploads.

    Args:
        store: an open database.
        file_id: id of the file; a file of that id that was begun before has to be deleted first.
    """

    def __init__(self, store: Store, file_id: ObjectId) -> None:
        self.size = 0
        self._store = store
        self.file_id = file_id
        self._chunks = 0
        self._block = bytearray()

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._block += data
        self.size += len(data)
        while len(self._block) >= BLOCK_BYTES:
            self._write_chunk(bytes(self._block[:BLOCK_BYTES]))
            del self._block[:BLOCK_BYTES]

    def close(self) -> None:
        """Write what is left and make the file readable."""
        if self._block:
            self._write_chunk(bytes(self._block))
            self._block.clear()
        self._store.database[FILES].insert_one(
            {
                "_id": self.file_id,
                "length": Int64(self.size),
                "chunkSize": BLOCK_BYTES,
                "uploadDate": server_time(self._store),
            }
        )

    def _write_chunk(self, data: bytes) -> None:
        chunk = {"files_id": self.file_id, "n": self._chunks, "data": Binary(data)}
        self._store.database[CHUNKS].insert_one(chunk)
        self._chunks += 1


def store_file(store: Store, file_id: ObjectId, path: Path) -> int:
    """Copy a local file to GridFS; returns its size in bytes."""
    writer = JobFileWriter(store, file_id)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            writer.write(block)
    writer.close()
    return writer.size


def fetch_file(store: Store, file_id: ObjectId, path: Path) -> None:
    """Copy a file of GridFS to `path`.

    Raises:
        IntegrityError: it is not there.
    """
    with path.open("wb") as target:
        for block in read_file(store, file_id):
            target.write(block)


def read_file(store: Store, file_id: ObjectId) -> Iterator[bytes]:
    """The blocks of a file of GridFS.

    Raises:
        IntegrityError: it is not there.
    """
    try:
        stream = GridFSBucket(store.database, BUCKET).open_download_stream(file_id)
        while block := stream.readchunk():
            yield block
    except NoFile as error:
        raise IntegrityError("The file of the job was deleted.", remedy="send it again.") from error


def delete_files(store: Store, file_ids: Iterable[ObjectId]) -> None:
    """Delete files, also incomplete ones; those that are not there are ignored."""
    ids = list(file_ids)
    store.database[FILES].delete_many({"_id": {"$in": ids}})
    store.database[CHUNKS].delete_many({"files_id": {"$in": ids}})
