"""Everything held about one user, and its erasure everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from retail_core.errors import InputError
from retail_core.privacy.refused_rows import refused_rows
from retail_core.privacy.uploads import erase_upload_results, upload_results
from retail_core.store.lake.erase import count_in_lake, erase_from_lake
from retail_core.store.mongo.connection import Document, Store

COLLECTIONS = ("users", "predictions", "outcomes", "audiences", "prediction_log", "events")
"""Those whose documents say whose they are. Events go last: until then a killed erasure shows in `show`."""

WINDOWED = ("predictions", "outcomes")


def held(store: Store, user_id: str) -> dict[str, int]:
    """How many documents, rows and results of uploads are held about the user, by place.

    Raises:
        InputError: the id is empty.
        DependencyError: the results of uploads cannot be read.
    """
    _check(user_id)
    counts = {name: store.database[name].count_documents({"user_id": user_id}) for name in COLLECTIONS}
    quarantined = sum(1 for _ in refused_rows(store, user_id))
    uploads = sum(1 for _ in upload_results(store.settings, user_id))
    elsewhere = {"quarantine": quarantined, "upload_results": uploads}
    return counts | elsewhere | count_in_lake(store.settings, user_id)


def export(store: Store, user_id: str, out: Path) -> int:
    """Write every stored document about the user to `out`, one JSON object a line; how many.

    Raises:
        InputError: the id is empty or the file cannot be written.
    """
    _check(user_id)
    count = 0
    try:
        with out.open("w", encoding="utf-8") as file:
            for name, document in _documents(store, user_id):
                file.write(json.dumps({"collection": name, **document}, default=str) + "\n")
                count += 1
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}.", remedy="name a file in a folder that exists."
        ) from error
    return count


def erase(store: Store, user_id: str) -> dict[str, int]:
    """Remove the user from MongoDB, the lake, its mirror of predictions and the stored results of uploads.

    What was removed is told by place. May be killed at any instant: running it again ends the same. Files
    that were handed out (raw logs, scored CSVs) are not known here and stay, as does an upload being scored.

    Raises:
        InputError: the id is empty.
        DependencyError: the results of uploads cannot be written.
    """
    before = held(store, user_id)
    store.quarantine.delete_many({"_id": {"$in": [one["_id"] for one in refused_rows(store, user_id)]}})
    erase_upload_results(store.settings, user_id)
    _correct_windows(store, user_id)
    for name in COLLECTIONS:
        store.database[name].delete_many({"user_id": user_id})
    erase_from_lake(store.settings, user_id)
    return before


def _correct_windows(store: Store, user_id: str) -> None:
    """The rows of each window as they will be without the user; done before the user goes, so redoable."""
    for name in WINDOWED:
        collection = store.database[name]
        for one in collection.find({"user_id": user_id}, {"as_of": 1, "model_version": 1}):
            window = {"as_of": one["as_of"], "model_version": one["model_version"]}
            rows = collection.count_documents(window | {"user_id": {"$ne": user_id}})
            store.prediction_windows.update_one({"collection": name, **window}, {"$set": {"rows": rows}})


def _documents(store: Store, user_id: str) -> Iterator[tuple[str, Document]]:
    for name in COLLECTIONS:
        yield from ((name, one) for one in store.database[name].find({"user_id": user_id}))
    yield from (("quarantine", one) for one in refused_rows(store, user_id))
    yield from (("upload_results", one) for one in upload_results(store.settings, user_id))


def _check(user_id: str) -> None:
    if not user_id:
        raise InputError("A user's id is not empty.", remedy="give the id as the events have it.")
