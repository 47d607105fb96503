"""Quarantine: refused rows with file, line, rule and raw text; add, list and export them."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from pymongo import DESCENDING, UpdateOne
from pymongo.errors import BulkWriteError

from retail_core.csv_export import escape_formula
from retail_core.errors import InputError
from retail_core.file_locks import replace_file
from retail_core.sources.refusals import Refusal
from retail_core.sources.source import RowFormat
from retail_core.store.mongo.connection import Document, Store, duplicate_key_documents
from retail_core.times import iso

COLUMNS = ("file", "line", "field", "rule", "value", "remedy", "raw", "state", "source", "at")
"""Columns of an export and keys of a listed row."""

RAW_LIMIT = 1_000_000
"""Stored characters of a raw row; a longer row cannot be replayed."""

_BATCH = 5_000
_REASON = ("field", "rule", "value", "remedy")
_PLACE = ("file_id", "file", "window_id", "line")
"""Fields that say in which file a row is."""


@dataclass(frozen=True)
class RefusalOrigin:
    """Where refused rows come from.

    Attributes:
        file_id: `_id` of the file in the ledger.
        file: name of the file or channel.
        source: name of the source.
        window_id: ledger window.
        at: time of ingestion.
        row_format: how the raw rows are written.
        user_ids: ids of users that are not in the raw rows, by line.
    """

    file_id: str
    file: str
    source: str
    window_id: int
    at: datetime
    row_format: RowFormat = field(default_factory=RowFormat)
    user_ids: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def remove_window(store: Store, window_id: int) -> None:
    """Remove the rows that a killed run of this window stored."""
    positions = {"$gte": _key(window_id, 0), "$lt": _key(window_id + 1, 0)}
    store.quarantine.delete_many({"_id": positions, "window_id": window_id})


def add_refusals(store: Store, refused: Iterable[Refusal], origin: RefusalOrigin) -> int:
    """Store the refusals of a window and return their number.

    Equal rows of several files are stored as often as they occur in the file that has most of them, so a
    corrected copy of a file or an event that is posted twice adds no row. A row that is in quarantine already
    stays as it is, with the reason updated.
    """
    occurrences: Counter[str] = Counter()
    documents = (_document(refused_row, n, origin, occurrences) for n, refused_row in enumerate(refused))
    count = 0
    while batch := list(islice(documents, _BATCH)):
        existing = _insert(store, batch)
        if existing:
            _merge_existing(store, existing, origin)
        count += len(batch)
    return count


def _insert(store: Store, batch: list[Document]) -> list[Document]:
    """Insert documents and return those whose `row` exists."""
    try:
        if batch:
            store.quarantine.insert_many(batch, ordered=False)
    except BulkWriteError as error:
        return duplicate_key_documents(error)
    return []


def _merge_existing(store: Store, documents: list[Document], origin: RefusalOrigin) -> None:
    """Store documents whose `row` exists.

    If the existing row is of an earlier window of the same file, the document is a further occurrence: it
    gets the next number and is inserted. Else the existing row gets the new reason, and under `also` this
    file, for which it stays if its own file is undone.
    """
    query = {"row": {"$in": [document["row"] for document in documents]}, "file_id": origin.file_id}
    rows_of_file = {document["row"] for document in store.quarantine.find(query, {"row": 1})}
    of_other_files = [document for document in documents if document["row"] not in rows_of_file]
    further = [document for document in documents if document["row"] in rows_of_file]
    earlier: dict[str, int] = {}
    for document in further:
        key, occurrence = document["row"].split(":")
        if key not in earlier:
            equal_rows = {"row": {"$gte": f"{key}:", "$lt": f"{key};"}, "file_id": origin.file_id}
            in_other_windows = equal_rows | {"window_id": {"$ne": origin.window_id}}
            earlier[key] = store.quarantine.count_documents(in_other_windows)
        document["row"] = f"{key}:{int(occurrence) + earlier[key]}"
    _update_reasons(store, of_other_files + _insert(store, further))
    _record_file(store, of_other_files, origin)


def _record_file(store: Store, documents: list[Document], origin: RefusalOrigin) -> None:
    """Record that the file of `origin` has the stored rows with the same `row` too; requests are not."""
    if not origin.file_id.startswith("file:"):
        return
    updates = [
        UpdateOne(
            {"row": document["row"], "file_id": {"$ne": origin.file_id}},
            {"$addToSet": {"also": {name: document[name] for name in _PLACE}}},
        )
        for document in documents
    ]
    if updates:
        store.quarantine.bulk_write(updates, ordered=False)


def count_of_file(store: Store, file_id: str, *, shared: bool = False) -> int:
    """Number of refused rows of a file; with `shared`, of those that another file has too."""
    of_other_file = {"also": {"$elemMatch": {"file_id": {"$ne": file_id}}}}
    return store.quarantine.count_documents({"file_id": file_id} | (of_other_file if shared else {}))


def remove_file(store: Store, file_id: str, windows: list[int]) -> None:
    """Remove the rows of a file; those that another file has too become rows of that file.

    They are refused again if they had been replayed in one of `windows`, whose events are removed.
    """
    store.quarantine.update_many({"also.file_id": file_id}, {"$pull": {"also": {"file_id": file_id}}})
    shared = {"file_id": file_id, "also.0": {"$exists": True}}
    for document in store.quarantine.find(shared, {"also": 1, "replay_window": 1}):
        place, *further = document["also"]
        change: dict[str, Any] = {"$set": place | {"also": further}}
        if document.get("replay_window") in windows:
            change["$set"] |= {"state": "refused"}
            change["$unset"] = {"replay_window": "", "replayed_at": ""}
        store.quarantine.update_one({"_id": document["_id"]}, change)
    store.quarantine.delete_many({"file_id": file_id})


def _update_reasons(store: Store, documents: list[Document]) -> None:
    """Set the reason of the stored rows with the same `row` that are still refused."""
    updates = [
        UpdateOne(
            {"row": document["row"], "state": "refused"}, {"$set": {name: document[name] for name in _REASON}}
        )
        for document in documents
    ]
    updates += [
        UpdateOne({"row": document["row"]}, {"$addToSet": {"user_ids": {"$each": document["user_ids"]}}})
        for document in documents
        if "user_ids" in document
    ]
    if updates:
        store.quarantine.bulk_write(updates, ordered=False)


def add_user_ids(store: Store, user_ids: Mapping[str, Iterable[str]]) -> None:
    """Record users that stored rows are about and that their raw text does not name, by `_id` of the row."""
    updates = [
        UpdateOne({"_id": key}, {"$addToSet": {"user_ids": {"$each": list(ids)}}})
        for key, ids in user_ids.items()
    ]
    if updates:
        store.quarantine.bulk_write(updates, ordered=False)


def _key(window_id: int, position: int) -> str:
    return f"{window_id:012d}:{position:09d}"


def _content_key(refused_row: Refusal, origin: RefusalOrigin) -> str:
    """Hash of a row's text, source and CSV format: equal for equal rows of different files."""
    fields = (origin.source, origin.row_format.delimiter, *origin.row_format.header, refused_row.raw)
    return hashlib.blake2b("\x1f".join(fields).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _document(
    refused_row: Refusal, position: int, origin: RefusalOrigin, occurrences: Counter[str]
) -> Document:
    key = _content_key(refused_row, origin)
    occurrences[key] += 1
    document: Document = {
        "_id": _key(origin.window_id, position),
        "row": f"{key}:{occurrences[key]}",
        "file_id": origin.file_id,
        "file": origin.file,
        "source": origin.source,
        "window_id": origin.window_id,
        "at": origin.at,
        "line": refused_row.line,
        "state": "refused",
        "raw": escape_undecodable(refused_row.raw[:RAW_LIMIT]),
    } | reason_fields(refused_row)
    if document["raw"] != refused_row.raw:
        document["raw_bytes"] = refused_row.raw[:RAW_LIMIT].encode("utf-8", "surrogateescape")
    if user_ids := origin.user_ids.get(refused_row.line):
        document["user_ids"] = list(user_ids)
    return document


def reason_fields(refused_row: Refusal) -> Document:
    """Fields of a quarantine document that say why the row was refused."""
    value = None if refused_row.value is None else escape_undecodable(refused_row.value)
    reason = (refused_row.field, refused_row.rule, value, refused_row.remedy)
    return dict(zip(_REASON, reason, strict=True))


def escape_undecodable(text: str) -> str:
    """`text` with undecodable bytes written as backslash escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def count_refused(store: Store) -> int:
    """Number of refused rows that have not been replayed."""
    return store.quarantine.count_documents({"state": "refused"})


def refused_by_source(store: Store) -> dict[str, int]:
    """Number of refused rows that have not been replayed, by source, in order of name."""
    stages: list[dict[str, Any]] = [
        {"$match": {"state": "refused"}},
        {"$group": {"_id": "$source", "rows": {"$sum": 1}}},
        {"$sort": {"_id": 1}},
    ]
    return {entry["_id"]: entry["rows"] for entry in store.quarantine.aggregate(stages)}


def list_refused(store: Store, limit: int = 50) -> list[dict[str, object]]:
    """Refused rows that have not been replayed, newest first, with the keys `COLUMNS`; `at` in ISO 8601."""
    documents = store.quarantine.find({"state": "refused"}, sort=[("_id", DESCENDING)], limit=limit)
    return [_row(document) for document in documents]


def _row(document: Mapping[str, Any]) -> dict[str, object]:
    at: datetime = document["at"]
    return {name: document.get(name) for name in COLUMNS} | {"at": iso(at)}


def export_csv(store: Store, file: Path) -> int:
    """Write every refused row, replayed ones included, to a CSV and return their number.

    The file is replaced in one step. Formulas are escaped, see `escape_formula`.

    Raises:
        InputError: the file cannot be written.
    """
    count = 0
    try:
        with replace_file(file) as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
            writer = csv.writer(lines)
            writer.writerow(COLUMNS)
            for document in store.quarantine.find(sort=[("_id", 1)]):
                writer.writerow([escape_formula(value) for value in _row(document).values()])
                count += 1
            lines.detach()
    except OSError as error:
        raise InputError(
            f"{file} cannot be written: {error.strerror}.", remedy="name a file in a folder that exists."
        ) from error
    return count
