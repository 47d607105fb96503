"""The schema version of each collection: what a release writes, and the refusal of what a newer one wrote.

A release that changes the documents of a collection so that the releases before would misread them raises its
version here. Documents of version 1 are those of all releases up to this one; a database without a record is
of such a release, and is read as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection

from retail_core import __version__
from retail_core.errors import InputError

Document = dict[str, Any]

COLLECTION = "schema_versions"
"""One document per collection: `_id` is its name, `version` its schema, `release` the one that wrote it."""

SCHEMA_VERSIONS: Mapping[str, int] = dict.fromkeys(
    [
        *("events", "users", "identities", "event_duplicates", "ingest_ledger", "quarantine"),
        *("predictions", "prediction_windows", "outcomes", "prediction_log", "context", "audiences"),
        *("promotions", "trigger_checks", "training_attempts", "alerts", "calendar", "data_profiles"),
        *("erasures", "restores", "jobs", "job_files.files", "job_files.chunks"),
        *("campaigns", "campaign_members", "campaign_contacts", "contact_consent"),
        *("shadows", "shadow_predictions", "shadow_answers", "list_estimates", "online_quality"),
    ],
    1,
)


def check_versions(database: str, stored: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a database of which a newer release has written a collection.

    Args:
        database: its name, for the message.
        stored: the documents of `COLLECTION`.

    Raises:
        InputError: a collection has a newer schema; names both versions.
    """
    for record in stored:
        name, version = str(record["_id"]), int(record["version"])
        if version > SCHEMA_VERSIONS.get(name, version):
            raise InputError(
                f"The collection {name} of the database {database} has schema version {version} of release "
                f"{record['release']}; this is release {__version__}, which reads up to version "
                f"{SCHEMA_VERSIONS[name]}.",
                remedy=f"install release {record['release']} or newer, or set RETAIL_MONGODB_DATABASE to "
                "another database.",
            )


def record_versions(versions: Collection[Document], stored: Iterable[Mapping[str, Any]]) -> None:
    """Store the version of each collection that has none or an older one; repeating it changes nothing."""
    present = {record["_id"]: record["version"] for record in stored}
    updates = [
        UpdateOne(
            {"_id": name}, {"$max": {"version": version}, "$set": {"release": __version__}}, upsert=True
        )
        for name, version in SCHEMA_VERSIONS.items()
        if present.get(name, 0) < version
    ]
    if updates:
        versions.bulk_write(updates, ordered=False)
