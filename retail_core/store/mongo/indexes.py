"""The indexes of every collection."""

from __future__ import annotations

from pymongo import ASCENDING, IndexModel

LOG_SECONDS = 30 * 24 * 3600
"""Entries of the prediction log expire after 30 days."""


def _index(*names: str, unique: bool = False, partial: bool = False) -> IndexModel:
    """Ascending index on `names`; `partial` limits it to documents that have the first field."""
    options = {"partialFilterExpression": {names[0]: {"$exists": True}}} if partial else {}
    return IndexModel([(name, ASCENDING) for name in names], unique=unique, **options)


INDEXES: dict[str, list[IndexModel]] = {
    "events": [_index("user_id", "event_time"), _index("window_id")],
    "users": [_index("user_id", "valid_from"), _index("window_id")],
    "identities": [_index("from_id"), _index("to_id"), _index("brought.file_id")],
    "predictions": [_index("user_id", "as_of", "model_version", unique=True), _index("as_of")],
    "outcomes": [_index("user_id", "as_of", "model_version", unique=True), _index("as_of")],
    "alerts": [_index("last_at"), _index("state", "next_attempt_at")],
    "prediction_log": [
        _index("user_id"),
        _index("as_of"),
        IndexModel([("at", ASCENDING)], expireAfterSeconds=LOG_SECONDS),
    ],
    "shadow_predictions": [_index("user_id", "as_of", "model_version", unique=True), _index("as_of")],
    "shadow_answers": [
        _index("user_id"),
        _index("shadow_version", "as_of"),
        IndexModel([("at", ASCENDING)], expireAfterSeconds=LOG_SECONDS),
    ],
    "audiences": [_index("user_id"), _index("audience")],
    "campaign_members": [_index("user_id"), _index("campaign", "rank")],
    "campaign_contacts": [_index("user_id"), _index("campaign"), _index("at")],
    "contact_consent": [_index("user_id")],
    "jobs": [_index("state", "received_at"), _index("owner", "received_at"), _index("expires_at")],
    "job_files.chunks": [_index("files_id", "n", unique=True)],
    "training_attempts": [
        _index("started_at"),
        IndexModel([("state", ASCENDING)], unique=True, partialFilterExpression={"state": "running"}),
    ],
    "quarantine": [
        _index("state"),
        _index("file_id"),
        _index("also.file_id", partial=True),
        _index("replay_window", partial=True),
        _index("row", unique=True, partial=True),
    ],
    "ingest_ledger": [
        _index("window_id"),
        _index("file_id", partial=True),
        _index("sha256", partial=True),
        _index("text_sha256", partial=True),
        _index("undone", partial=True),
        _index("links", partial=True),
        _index("newest_event", partial=True),
    ],
}
"""Indexes by collection, in addition to the one on `_id`."""
