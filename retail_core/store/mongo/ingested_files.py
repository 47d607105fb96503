"""Ingested files in the ledger: find them by content, path or id, and say how a file was read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retail_core.errors import InputError
from retail_core.sources.content_hashes import ContentHashes
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.ledger import FileKey
from retail_core.times import iso

_SHOWN_DIFFERENCES = 3
_SHOWN_CHARACTERS = 80


def same_content(store: Store, key: FileKey) -> list[Document]:
    """Files with the content of `key` of which the ledger has rows, other than `key` itself, oldest first.

    Copies count that differ in compression, byte-order mark or line breaks. A copy that was not ingested to
    its end with the same options is left out: its rows count as duplicates.
    """
    query: dict[str, Any] = {"$or": _queries_by_text(ContentHashes(key.sha256, key.text_sha256))}
    query |= {"kind": "file", "_id": {"$ne": key.file_id}}
    files = store.ledger.find(query, sort=[("started_at", 1), ("_id", 1)])
    return [
        file
        for file in files
        if store.ledger.find_one({"file_id": file["_id"]}, {"_id": 1})
        and not (_is_unfinished_copy(file, key) and is_same_reading(file, key))
    ]


def _is_unfinished_copy(file: Mapping[str, Any], key: FileKey) -> bool:
    """Whether a copy with other bytes was not ingested to its end; its windows need not be those of `key`."""
    return file["sha256"] != key.sha256 and file.get("state") != "done"


def _queries_by_text(content: ContentHashes) -> list[dict[str, Any]]:
    """Queries for the same bytes, and for copies; earlier releases recorded the hash of the bytes only."""
    texts = [{"sha256": content.text_sha256}, {"text_sha256": content.text_sha256}]
    return [{"sha256": content.sha256}, *texts]


def is_done(store: Store, file_id: str) -> bool:
    """Whether that file was ingested to its end."""
    return store.ledger.find_one({"_id": file_id, "state": "done"}, {"_id": 1}) is not None


def is_same_reading(file: Mapping[str, Any], key: FileKey) -> bool:
    """Whether `file` was read with the options of `key`, or its preset as an earlier release had it."""
    if str(file["_id"]).endswith(f":{key.source}:{key.options}"):
        return True
    was_preset = file.get("preset", file.get("identity_rule") in {None, "v1"})
    same = file["source"] == key.source and file["timezone"] == key.timezone
    return bool(key.preset and was_preset and same)


def other_reading(file: Mapping[str, Any], key: FileKey) -> InputError:
    """The error of ingesting a file again with other options."""
    at = iso(file["started_at"])
    zone = f", time zone {file['timezone']}" if file["timezone"] else ""
    how = f"source {file['source']}{zone}"
    return InputError(
        f"{key.path} was ingested on {at} as {file['file']} with {how} ({file['counts']['inserted']:,} new "
        f"rows); this time it would be read differently: {'; '.join(_differences(file, key))}.",
        remedy=f"run `retail ingest undo {key.path}` and then this command, or add --again, which does both.",
    )


def _differences(file: Mapping[str, Any], key: FileKey) -> list[str]:
    before = json.loads(file.get("reading", "{}"))
    after = json.loads(key.reading)
    named = [(name, file[name], getattr(key, name)) for name in ("source", "timezone", "policy")]
    names = sorted(before.keys() & after.keys() - {"name", "timezone", "policy"})
    mapped = [(name, before[name], after[name]) for name in names]
    changed = [(name, old, new) for name, old, new in (*named, *mapped) if old != new]
    if not changed:
        return ["the mapping or preset has changed"]
    shown = [
        f"{name} {_short(new)} instead of {_short(old)}" for name, old, new in changed[:_SHOWN_DIFFERENCES]
    ]
    further = len(changed) - len(shown)
    return [*shown, f"{further} further options"] if further else shown


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def find_undone(store: Store, name: str, content: ContentHashes | None) -> str | None:
    """`_id` that an undone file had in the ledger, by the same names as in `find_file`; the latest one."""
    names: list[dict[str, Any]] = [{"undone": name}, {"path": name}, {"file": Path(name).name}]
    if content is not None:
        names += [{"content": content.sha256}, {"text_sha256": content.text_sha256}]
    query = {"undone": {"$exists": True}, "$or": names}
    record = store.ledger.find_one(query, sort=[("started_at", -1)])
    return None if record is None else str(record["undone"])


def find_file(store: Store, name: str, content: ContentHashes | None) -> Document | None:
    """The ingested file that a user means by a path, a file name or a ledger id; None if there is none.

    Args:
        store: the database.
        name: path or name as it was ingested, an id of the ledger, or the first characters of its hash.
        content: hashes of the content if the file is there; a copy of an ingested file is that file.

    Raises:
        InputError: several files match; the message names their ids.
    """
    queries: list[dict[str, Any]] = [{"_id": name}]
    if content is not None:
        queries += _queries_by_text(content)
    queries += [
        {"path": name, "sha256": {"$exists": True}},
        {"file": Path(name).name, "sha256": {"$exists": True}},
    ]
    prefix = name.removeprefix("file:")
    if re.fullmatch(r"[0-9a-f]{8,64}", prefix):
        queries.append({"sha256": {"$regex": f"^{prefix}"}})
    for query in queries:
        matching = list(store.ledger.find({"kind": "file"} | query, sort=[("started_at", 1)]))
        files = [file for file in matching if _has_windows(store, file)] or matching[:1]
        if len(files) > 1:
            listed = ", ".join(f"{file['_id']} ({file['file']}, {iso(file['started_at'])})" for file in files)
            raise InputError(
                f"{name} is the name or content of {len(files)} ingested files: {listed}.",
                remedy="give the id of one of them.",
            )
        if files:
            return files[0]
    return None


def _has_windows(store: Store, file: Document) -> bool:
    """Whether rows of the file were read; a run that failed at its first line has none."""
    query = {"kind": "window", "$or": [{"file_id": file["_id"]}, {"for_files": file["_id"]}]}
    return file.get("state") == "done" or store.ledger.find_one(query, {"_id": 1}) is not None
