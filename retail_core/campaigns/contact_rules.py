"""Who may be contacted: consent, opt-outs, block lists, recent contacts and purchases; each is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pandas as pd

from retail_core.campaigns import records
from retail_core.store.mongo.connection import Store


@dataclass(frozen=True)
class ContactRules:
    """Rules of one campaign.

    Attributes:
        blocked: users who are left out, such as a block list of the shop.
        needs_consent: only users who have agreed are contacted; otherwise all who have not opted out.
        days_since_contact: users whom any campaign has contacted within so many days are left out.
        days_since_purchase: users who bought within so many days are left out.
    """

    blocked: frozenset[str] = field(default_factory=frozenset)
    needs_consent: bool = False
    days_since_contact: float = 0.0
    days_since_purchase: float = 0.0


@dataclass(frozen=True)
class Contactable:
    """Predictions of the users who may be contacted; the others are counted by the first rule they meet."""

    predictions: pd.DataFrame
    excluded: dict[str, int]


def apply_rules(store: Store, predictions: pd.DataFrame, rules: ContactRules, at: datetime) -> Contactable:
    """Leave out who must not be contacted.

    Args:
        store: the open store.
        predictions: with `user_id`.
        rules: what excludes a user.
        at: when the campaign is planned, aware; recent contacts and purchases are before it.
    """
    agreed, opted_out = records.users_by_consent(store)
    lists: dict[str, Callable[[], set[str]]] = {
        "opted out": lambda: opted_out,
        "on the block list": lambda: set(rules.blocked),
        "contacted recently": lambda: _contacted_recently(store, rules, at),
        "bought recently": lambda: _bought_recently(store, rules, at),
    }
    excluded, remaining = {}, predictions
    if rules.needs_consent:
        allowed = remaining["user_id"].isin(agreed)
        excluded["without consent"] = int((~allowed).sum())
        remaining = remaining[allowed]
    for name, users in lists.items():
        hit = remaining["user_id"].isin(users())
        excluded[name] = int(hit.sum())
        remaining = remaining[~hit]
    ranked = remaining.assign(rank=range(1, len(remaining) + 1))
    return Contactable(ranked, {name: count for name, count in excluded.items() if count})


def _contacted_recently(store: Store, rules: ContactRules, at: datetime) -> set[str]:
    if not rules.days_since_contact:
        return set()
    return records.contacted_since(store, at - timedelta(days=rules.days_since_contact))


def _bought_recently(store: Store, rules: ContactRules, at: datetime) -> set[str]:
    if not rules.days_since_purchase:
        return set()
    since = at - timedelta(days=rules.days_since_purchase)
    query = {"event_type": "purchase", "event_time": {"$gte": since, "$lt": at}}
    return {str(entry["_id"]) for entry in store.events.aggregate(
        [{"$match": query}, {"$group": {"_id": "$user_id"}}]
    )}  # fmt: skip
