"""Campaigns in MongoDB: plans, members, who was contacted, and who agreed to it.

Contacts are no events: an event of a user would count as activity in the features and make the user eligible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from pymongo import UpdateOne

from retail_core.errors import DataError, InputError
from retail_core.file_locks import exclusive_lock
from retail_core.store.mongo.connection import Document, Store

CONTACT, CONTROL = "contact", "control"
PLANNED, SENT = "planned", "sent"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}")
_BATCH = 10_000


def check_name(name: str) -> str:
    """The name of a campaign, if it is one.

    Raises:
        InputError: it has other characters than letters, digits, blanks, `_`, `.` and `-`, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:80]!r} is no name of a campaign.",
            remedy="use 1 to 64 letters, digits, blanks, _, . and -, beginning with a letter or digit.",
        )
    return name


def find_campaign(store: Store, name: str) -> Document:
    """The document of a campaign whose members are all stored.

    Raises:
        DataError: there is none of this name.
    """
    campaign = store.campaigns.find_one({"_id": check_name(name), "members": {"$exists": True}})
    if campaign is None:
        raise DataError(f"There is no campaign {name}.", remedy="`retail campaign list` shows them.")
    return dict(campaign)


def list_campaigns(store: Store) -> list[Document]:
    """Documents of all campaigns, the newest plan first."""
    return list(store.campaigns.find({"members": {"$exists": True}}).sort("planned_at", -1))


def replace_plan(store: Store, plan: Document, members: Iterable[Document]) -> None:
    """Store a plan and its members, instead of an earlier plan of this name that was not sent.

    Args:
        store: the open store.
        plan: `_id` is the name.
        members: documents with `user_id`, `group`, `probability` and `rank`.

    Raises:
        InputError: the campaign has been sent.
    """
    with exclusive_lock(store.settings.home_dir / "campaigns.lock"):
        _replace_plan(store, plan, members)


def _replace_plan(store: Store, plan: Document, members: Iterable[Document]) -> None:
    campaigns, name = store.campaigns, plan["_id"]
    if campaigns.find_one({"_id": name, "state": SENT}):
        raise InputError(
            f"Campaign {name} has been sent; its plan stays.", remedy="plan one with another name."
        )
    campaigns.replace_one({"_id": name}, {"state": PLANNED, **plan}, upsert=True)
    store.campaign_members.delete_many({"campaign": name})
    count = 0
    for batch in _batches(members):
        documents = [{"_id": f"{name}:{member['user_id']}", "campaign": name, **member} for member in batch]
        store.campaign_members.insert_many(documents, ordered=False)
        count += len(documents)
    campaigns.update_one({"_id": name}, {"$set": {"members": count}})


def read_members(store: Store, name: str) -> Iterator[Document]:
    """`user_id, group, probability, rank` by rank."""
    fields = {"_id": 0, "campaign": 0}
    return iter(store.campaign_members.find({"campaign": name}, fields).sort("rank", 1))


def record_contacts(store: Store, name: str, users: Sequence[str], at: datetime, channel: str) -> int:
    """Record who was contacted; the first contact by a channel counts. Returns the number of new ones."""
    contacts, added = store.campaign_contacts, 0
    for batch in _batches(users):
        updates = [
            UpdateOne(
                {"_id": f"{name}:{channel}:{user}"},
                {"$setOnInsert": {"campaign": name, "user_id": user, "at": at, "channel": channel}},
                upsert=True,
            )
            for user in batch
        ]
        added += contacts.bulk_write(updates, ordered=False).upserted_count
    first = contacts.find_one({"campaign": name}, sort=[("at", 1)])
    if first is not None:
        change = {"state": SENT, "sent_at": first["at"]}
        store.campaigns.update_one({"_id": name}, {"$set": change})
    return added


def contacted_since(store: Store, since: datetime) -> set[str]:
    """Users who were contacted at or after an instant, by any campaign."""
    return set(store.campaign_contacts.distinct("user_id", {"at": {"$gte": since}}))


def record_consent(store: Store, entries: Iterable[Document]) -> int:
    """Store who agrees to be contacted: `user_id, consent, source, at`; the newest entry of a user counts."""
    count = 0
    for batch in _batches(entries):
        updates: list[Any] = []
        for entry in batch:
            newer = {"$lte": [{"$ifNull": ["$at", entry["at"]]}, entry["at"]]}
            fields = {
                name: {"$cond": [newer, {"$literal": value}, f"${name}"]} for name, value in entry.items()
            }
            updates.append(UpdateOne({"_id": entry["user_id"]}, [{"$set": fields}], upsert=True))
        store.contact_consent.bulk_write(updates, ordered=True)
        count += len(batch)
    return count


def users_by_consent(store: Store) -> tuple[set[str], set[str]]:
    """Users who agreed, and users who opted out."""
    collection = store.contact_consent
    return set(collection.distinct("_id", {"consent": True})), set(
        collection.distinct("_id", {"consent": False})
    )


def _batches(values: Iterable[Any]) -> Iterator[list[Any]]:
    remaining = iter(values)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
