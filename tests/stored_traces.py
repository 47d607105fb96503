"""Where ids of a user are stored, found in decoded contents: every field of MongoDB and every file.

It knows nothing of how the product stores users, so that it also finds what an erasure does not think of.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import pyarrow.parquet as pq
from pymongo import MongoClient

from retail_core.settings import Settings
from retail_core.store.mongo.connection import Document

_DEPTH = 4


def stored_traces(settings: Settings, ids: Iterable[str], *folders: Path) -> list[str]:
    """Places with one of the ids: `collection/field` of the database, `path` or `path: part` of files.

    Args:
        settings: with the database.
        ids: long enough to be no part of anything else.
        folders: searched with all below them; the data files of an embedded MongoDB are left out.
    """
    needles = tuple(ids)
    return sorted({*_in_database(settings, needles), *traces_in_files(needles, *folders)})


def traces_in_files(ids: Iterable[str], *folders: Path) -> set[str]:
    """Files below the folders with one of the ids in their name or in what they decode to."""
    needles, found = tuple(ids), set()
    for folder in folders:
        for path in folder.rglob("*"):
            name = str(path.relative_to(folder))
            if any(needle in name for needle in needles):
                found.add(f"name of {name}")
            if path.is_file() and "mongo/data/" not in path.as_posix():
                content = path.read_bytes()
                found |= {f"{name}{part}" for part, text in _texts(content) if _holds(text, needles)}
    return found


def _in_database(settings: Settings, needles: tuple[str, ...]) -> Iterator[str]:
    assert settings.mongodb_uri is not None
    client: MongoClient[Document] = MongoClient(settings.mongodb_uri.get_secret_value())
    with client:
        database = client[settings.mongodb_database]
        for name in database.list_collection_names():
            for document in database[name].find():
                yield from (f"{name}/{field}" for field in _fields(document, needles))
        for name in (name for name in database.list_collection_names() if name.endswith(".chunks")):
            for file_id in database[name].distinct("files_id"):
                parts = database[name].find({"files_id": file_id}).sort("n", 1)
                content = b"".join(part["data"] for part in parts)
                yield from (f"{name}{part}" for part, text in _texts(content) if _holds(text, needles))


def _fields(value: object, needles: tuple[str, ...], path: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _fields(name, needles, f"{path}key of ")
            yield from _fields(part, needles, f"{path}{name}.")
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _fields(part, needles, path)
    elif isinstance(value, bytes):
        yield from (f"{path}{part}" for part, text in _texts(value) if _holds(text, needles))
    elif _holds(str(value), needles):
        yield path.rstrip(".")


def _holds(text: str, needles: tuple[str, ...]) -> bool:
    return any(needle in text for needle in needles)


def _texts(content: bytes, depth: int = _DEPTH) -> Iterator[tuple[str, str]]:
    """Parts of a content with their texts: the bytes as they are, and what they decode to."""
    yield "", content.decode(errors="replace")
    for part, decoded in _decoded(content):
        if isinstance(decoded, str):
            yield f": {part}", decoded
        elif depth:
            for inner, text in _texts(decoded, depth - 1):
                yield f": {part}{inner}", text


def _decoded(content: bytes) -> Iterator[tuple[str, bytes | str]]:
    with suppress(OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile):
        if content.startswith(b"PAR1"):
            yield from _parquet(content)
        elif content.startswith(b"SQLite format 3\0"):
            yield from _sqlite(content)
        elif content.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                yield from ((name, archive.read(name)) for name in archive.namelist())
        elif content.startswith(b"\x1f\x8b"):
            yield "gzip", gzip.decompress(content)
        elif content.startswith(b"BZh"):
            yield "bzip2", bz2.decompress(content)
        elif content.startswith(b"\xfd7zXZ\0"):
            yield "xz", lzma.decompress(content)


def _parquet(content: bytes) -> Iterator[tuple[str, str]]:
    with suppress(OSError, ValueError):  # a file that a killed process has not finished has no footer
        file = pq.ParquetFile(io.BytesIO(content))
        for name in file.schema_arrow.names:
            yield name, json.dumps(file.read([name]).to_pylist(), default=str, ensure_ascii=False)


def _sqlite(content: bytes) -> Iterator[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as database, suppress(sqlite3.DatabaseError):
        database.deserialize(content)
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                yield table, " ".join(map(str, row))
