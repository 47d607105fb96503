"""Export and erasure of everything that is stored about one user.

Files outside the stores, such as raw logs and scored CSV files, are not covered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from retail_core.errors import InputError
from retail_core.privacy.erasure_log import record_erasures
from retail_core.privacy.job_contents import erase_from_jobs, jobs_with_user
from retail_core.privacy.refused_rows import refused_rows
from retail_core.store.lake.erase import count_in_lake, erase_from_lake, erase_links_from_lake
from retail_core.store.mongo import identities
from retail_core.store.mongo.connection import Document, Store

COLLECTIONS = (
    *("users", "predictions", "shadow_predictions", "outcomes", "audiences"),
    *("campaign_members", "campaign_contacts", "contact_consent"),
    *("prediction_log", "shadow_answers", "events"),
)
"""Collections whose documents have a `user_id`, in the order of erasure.

Events are last, so that an interrupted erasure is still visible in `count_stored`.
"""

WINDOWED_COLLECTIONS = ("predictions", "shadow_predictions", "outcomes")
"""Collections with a row count per (as_of, model version) window."""


def person_ids(store: Store, user_id: str, at: datetime) -> tuple[str, ...]:
    """The id, then the other ids of the same person as known at `at` (aware).

    An id that several persons share is one of each of them: its events cannot be told apart with certainty.

    Raises:
        InputError: the id is empty.
    """
    _refuse_empty(user_id)
    return identities.ids_of_person(store, user_id, at)


def count_stored(store: Store, *user_ids: str) -> dict[str, int]:
    """Number of stored documents, lake rows and uploads (`upload_results`) about the ids of a user, by place.

    Raises:
        InputError: an id is empty.
    """
    total: dict[str, int] = {}
    for user_id in user_ids:
        for name, count in _count_stored_of(store, user_id).items():
            total[name] = total.get(name, 0) + count
    return total | {"identities": sum(1 for _ in identities.read_links(store, *user_ids))}


def _count_stored_of(store: Store, user_id: str) -> dict[str, int]:
    _refuse_empty(user_id)
    counts = {name: store.database[name].count_documents({"user_id": user_id}) for name in COLLECTIONS}
    counts["quarantine"] = sum(1 for _ in refused_rows(store, user_id))
    counts["upload_results"] = sum(1 for _ in jobs_with_user(store, user_id))
    return counts | count_in_lake(store.settings, user_id)


def export(store: Store, user_ids: Sequence[str], out: Path) -> int:
    """Write every stored document about the ids to `out`, one JSON object per line; returns their number.

    Raises:
        InputError: an id is empty or the file cannot be written.
    """
    for user_id in user_ids:
        _refuse_empty(user_id)
    count = 0
    try:
        with out.open("w", encoding="utf-8") as file:
            for collection, document in _documents(store, user_ids):
                file.write(json.dumps({"collection": collection, **document}, default=str) + "\n")
                count += 1
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}.", remedy="name a file in a folder that exists."
        ) from error
    return count


def erase(store: Store, *user_ids: str) -> dict[str, int]:
    """Remove ids of a user from MongoDB, uploads included, and the lake with its copy of the predictions.

    Returns the number of removed entries by place. It is recorded in `erasure_log`. Safe to kill at any time:
    running it again completes the erasure. A file that is uploaded meanwhile is refused when it is scored.

    Raises:
        InputError: an id is empty.
        DependencyError: results of uploads to an earlier release cannot be deleted.
    """
    counts = count_stored(store, *user_ids)
    record_erasures(store, user_ids)
    for user_id in user_ids:
        _erase_id(store, user_id)
    # Last, since an erasure that was killed finds the other ids by them.
    identities.remove_ids(store, user_ids)
    erase_links_from_lake(store)
    # A backup that began during the erasure may contain the user, so the end is recorded too.
    record_erasures(store, user_ids)
    return counts


def _erase_id(store: Store, user_id: str) -> None:
    refused = [document["_id"] for document in refused_rows(store, user_id)]
    store.quarantine.delete_many({"_id": {"$in": refused}})
    erase_from_jobs(store, user_id)
    _correct_window_counts(store, user_id)

    def delete_stored(collection: str) -> None:
        store.database[collection].delete_many({"user_id": user_id})

    for name in COLLECTIONS:
        delete_stored(name)
    erase_from_lake(store.settings, user_id, delete_stored)


def _correct_window_counts(store: Store, user_id: str) -> None:
    """Set the row count of the user's windows to the count without the user.

    This precedes the deletion: the user's documents name the windows, also when an erasure is repeated.
    """
    for name in WINDOWED_COLLECTIONS:
        collection = store.database[name]
        for document in collection.find({"user_id": user_id}, {"as_of": 1, "model_version": 1}):
            window = {"as_of": document["as_of"], "model_version": document["model_version"]}
            rows = collection.count_documents(window | {"user_id": {"$ne": user_id}})
            store.prediction_windows.update_one({"collection": name, **window}, {"$set": {"rows": rows}})


def _documents(store: Store, user_ids: Sequence[str]) -> Iterator[tuple[str, Document]]:
    for user_id in user_ids:
        for name in COLLECTIONS:
            yield from ((name, document) for document in store.database[name].find({"user_id": user_id}))
        yield from (("quarantine", document) for document in refused_rows(store, user_id))
        yield from (("upload_results", document) for document in jobs_with_user(store, user_id))
    yield from (("identities", document) for document in identities.link_documents(store, user_ids))


def _refuse_empty(user_id: str) -> None:
    if not user_id:
        raise InputError("A user's id is not empty.", remedy="give the id as the events have it.")
