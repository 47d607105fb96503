"""The append-only record of promotions and rollbacks in MongoDB: which version is in production, and why.

The newest entry names the version in production from the moment it is inserted; MLflow's alias follows it.
`_id` counts up without gaps, so of two commands that decide on the same newest entry only one inserts. An
entry is never changed except for `state`, which advances once each from `pending` (recorded) to `applied`
(the alias follows) and `confirmed` (the command has answered). Entries of release 0.1.0 have no `state` and
count as confirmed.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from retail_core.errors import IntegrityError
from retail_core.model.spec import ModelSpec
from retail_core.store.mongo.connection import Store, server_time

Entry = dict[str, Any]

PROMOTE, ROLLBACK = "promote", "rollback"
PENDING, APPLIED, CONFIRMED = "pending", "applied", "confirmed"

_FIELD_TYPES: dict[str, type | tuple[type, ...]] = {
    "_id": int,
    "kind": str,
    "version": str,
    "previous": (str, type(None)),
    "at": datetime,
}
"""Fields that decide what is in production."""


@dataclass(frozen=True)
class NewEntry:
    """What a promotion or rollback records.

    Attributes:
        kind: `PROMOTE` or `ROLLBACK`.
        spec: of the version that goes into production.
        reason: why, for people.
        actor: who, as `current_actor`.
        evidence: figures of the promotion gate.
    """

    kind: str
    spec: ModelSpec
    reason: str
    actor: str
    evidence: dict[str, Any] = field(default_factory=dict)


def history(store: Store) -> list[Entry]:
    """Every entry, oldest first.

    Raises:
        IntegrityError: an entry has another shape.
    """
    return [_checked(entry) for entry in store.promotions.find(sort=[("_id", 1)])]


def newest_entry(store: Store) -> Entry | None:
    """The entry that decides what is in production; None without entries.

    Raises:
        IntegrityError: it has another shape.
    """
    entry = store.promotions.find_one(sort=[("_id", -1)])
    return None if entry is None else _checked(entry)


def promoted_version(store: Store) -> str | None:
    """The version that the newest entry puts into production; None without entries.

    Raises:
        IntegrityError: the entry has another shape.
    """
    newest = newest_entry(store)
    return None if newest is None else str(newest["version"])


def past_champions(entries: Sequence[Entry]) -> list[str]:
    """Champions in order of time without those that were rolled back; the last one is in production.

    >>> promoted = [{"kind": "promote", "version": v, "previous": p} for v, p in [("1", None), ("2", "1")]]
    >>> past_champions(promoted)
    ['1', '2']
    >>> past_champions([*promoted, {"kind": "rollback", "version": "1", "previous": "2"}])
    ['1']
    """
    champions: list[str] = []
    for entry in entries:
        if entry["kind"] == ROLLBACK and len(champions) > 1:
            champions.pop()
            continue
        if not champions and entry["previous"]:
            champions.append(entry["previous"])
        champions.append(entry["version"])
    return champions


def insert_entry(store: Store, new: NewEntry, newest: Entry | None) -> Entry | None:
    """Record a change of production that was decided on `newest`; `at` is MongoDB's time.

    Returns:
        The entry, or None where another one has been inserted after `newest`.
    """
    entry: Entry = {
        "_id": (newest["_id"] if newest else 0) + 1,
        "kind": new.kind,
        "version": new.spec.version,
        "previous": newest["version"] if newest else None,
        "reason": new.reason,
        "evidence": new.evidence,
        "metrics": new.spec.metrics,
        "data_hash": new.spec.data["data_hash"],
        "feature_set_hash": new.spec.feature_set.hash,
        "run_id": new.spec.run_id,
        "at": server_time(store),
        "actor": new.actor,
        "state": PENDING,
    }
    try:
        store.promotions.insert_one(dict(entry))
    except DuplicateKeyError:
        return None
    return entry


def mark_applied(store: Store, entry: Entry) -> None:
    """Record that MLflow's alias follows the entry; repeating it changes nothing."""
    if entry.get("state") == PENDING:
        _advance(store, entry, [PENDING], APPLIED)


def confirm(store: Store, entry: Entry) -> None:
    """Record that a command has answered with the entry, so that the next `rollback` is a new one."""
    if not is_confirmed(entry):
        _advance(store, entry, [PENDING, APPLIED], CONFIRMED)


def is_confirmed(entry: Entry) -> bool:
    """Whether a command has answered with the entry; those of earlier releases count as answered."""
    return bool(entry.get("state", CONFIRMED) == CONFIRMED)


def current_actor() -> str:
    """User and host of this process, such as `ana@shop-1`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _advance(store: Store, entry: Entry, before: list[str], state: str) -> None:
    update = [{"$set": {"state": state, f"{state}_at": "$$NOW"}}]
    store.promotions.update_one({"_id": entry["_id"], "state": {"$in": before}}, update)


def _checked(entry: Entry) -> Entry:
    """The entry, if it has the fields that decide what is in production.

    Raises:
        IntegrityError: one is missing or of another type.
    """
    for name, expected in _FIELD_TYPES.items():
        if name not in entry or not isinstance(entry[name], expected):
            raise IntegrityError(
                f"Entry {entry['_id']!r} of the promotion record is damaged: {name} is {entry.get(name)!r}.",
                remedy="correct or delete that document of the collection `promotions`, or restore a backup.",
            )
    return entry
