"""Raise an alert: store it once per cause, deliver it, and repeat deliveries that failed.

A delivery that fails is repeated by the next command or flow that raises an alert or calls `deliver_due`, at
the earliest after the back-off of `alert.retry_delay`. Of several processes only the one that claims an alert
delivers it. An alert arrives at least once: where a service accepted it but answered late, twice.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from retail_core.alerts.alert import MAX_ATTEMPTS, Alert, AlertKind, DeliveryState, reminder_due, retry_delay
from retail_core.alerts.delivery import Delivery, Message, deliver, parse_targets
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store
from retail_core.times import iso, to_utc_ms

Document = dict[str, Any]

log = logging.getLogger(__name__)

_BATCH = 20
"""Alerts that one call delivers at most."""

_CLAIM = timedelta(minutes=2)
"""Time for which an alert that a process is delivering is not delivered by others."""

_SEVERITIES = {
    AlertKind.PROMOTED: "success",
    AlertKind.RUN_FAILED: "failure",
    AlertKind.RUN_LATE: "failure",
    AlertKind.CERTIFICATE_WITHDRAWN: "failure",
}
"""Apprise's type of a message by kind; `warning` for all others."""


def raise_alert(store: Store, alert: Alert, *, at: datetime) -> None:
    """Store an alert and deliver it, unless its cause (kind and key) lasts and was sent before.

    Returns after a few seconds at most. Whatever fails is logged, never raised.

    Args:
        store: the open store.
        alert: what happened.
        at: time of the alert, aware.
    """
    store_alert(store, alert, at=at)
    deliver_due(store, at=at)


def store_alert(store: Store, alert: Alert, *, at: datetime) -> None:
    """As `raise_alert`, but leave the delivery to the next `deliver_due`. A failure is logged, never raised.

    For a caller that must not lose an alert when it is killed, or that raises several.
    """
    try:
        _insert_or_count(store, alert, to_utc_ms(at))
    except PyMongoError as error:
        log.warning("The alert %r was not stored: %s", alert.title, type(error).__name__)


def resolve_alert(store: Store, alert_id: str, *, at: datetime) -> None:
    """Record that the cause of an alert has ended: if it is raised again, it is delivered again.

    A failure is logged, never raised.
    """
    try:
        update = {"$set": {"resolved_at": to_utc_ms(at)}}
        store.alerts.update_one({"_id": alert_id, "resolved_at": None}, update)
    except PyMongoError as error:
        log.warning("The alert %r was not resolved: %s", alert_id, type(error).__name__)


def deliver_due(store: Store, *, at: datetime) -> int:
    """Deliver every alert that waits for its first or next delivery; the number that was delivered.

    Returns after a few seconds at most. Whatever fails is logged, never raised.
    """
    targets = parse_targets(store.settings.alert_urls)
    if not targets:
        return 0
    try:
        claimed = _claim_due(store, to_utc_ms(at))
        if not claimed:
            return 0
        deliveries = deliver([_message(store, document) for document in claimed], targets)
        return sum(
            _record_deliveries(store, document, [d for d in deliveries if d.message == i], at)
            for i, document in enumerate(claimed)
        )
    except PyMongoError as error:
        log.warning("Alerts were not delivered: MongoDB failed with %s", type(error).__name__)
        return 0


def send_unstored(settings: Settings, alert: Alert) -> bool:
    """Deliver an alert without storing it, where MongoDB does not answer; whether every URL accepted it."""
    targets = parse_targets(settings.alert_urls)
    body = f"{alert.text}\n\nNext step: {alert.next_step}\n\nDatabase {settings.mongodb_database}."
    return all(
        delivery.error is None for delivery in deliver([Message(alert.title, body, "failure")], targets)
    )


def newest_alerts(store: Store, limit: int) -> list[Document]:
    """The alerts that were raised last, newest first."""
    return list(store.alerts.find(sort=[("last_at", -1)], limit=limit))


def _insert_or_count(store: Store, alert: Alert, at: datetime) -> None:
    """Insert an alert, or count it if its cause is known.

    It is due again if its cause had ended in between, or after the reminder interval.
    """
    waiting = DeliveryState.PENDING if parse_targets(store.settings.alert_urls) else DeliveryState.STORED
    texts = {"title": alert.title, "text": alert.text, "next_step": alert.next_step}
    undelivered = {
        "state": waiting,
        "attempts": 0,
        "next_attempt_at": at,
        "accepted_by": [],
        "error": None,
    }
    first = (
        {"kind": alert.kind, "key": alert.key, "raised_at": at, "delivered_at": None} | texts | undelivered
    )
    update = {
        "$setOnInsert": first,
        "$inc": {"count": 1},
        "$max": {"last_at": at},
        "$set": {"resolved_at": None},
    }
    stored = store.alerts.find_one_and_update({"_id": alert.id}, update, upsert=True)
    if stored is None or stored["state"] == DeliveryState.PENDING:
        return
    if stored["resolved_at"] or reminder_due(alert.kind, stored["delivered_at"] or stored["raised_at"], at):
        unchanged = {"_id": alert.id, "state": stored["state"], "delivered_at": stored["delivered_at"]}
        store.alerts.update_one(unchanged, {"$set": texts | undelivered})


def _claim_due(store: Store, at: datetime) -> list[Document]:
    """Alerts that are due, oldest first; other processes leave them alone for the time of `_CLAIM`."""
    due = {"state": DeliveryState.PENDING, "next_attempt_at": {"$lte": at}}
    claim = {"$set": {"next_attempt_at": at + _CLAIM}, "$inc": {"attempts": 1}}
    claimed: list[Document] = []
    while len(claimed) < _BATCH:
        document = store.alerts.find_one_and_update(
            due, claim, sort=[("raised_at", 1)], return_document=ReturnDocument.AFTER
        )
        if document is None:
            break
        claimed.append(document)
    return claimed


def _message(store: Store, document: Document) -> Message:
    repeated = f", {document['count']} times so far" if document["count"] > 1 else ""
    body = (
        f"{document['text']}\n\nNext step: {document['next_step']}\n\n"
        f"Database {store.settings.mongodb_database}, {iso(document['last_at'])}{repeated}."
    )
    severity = _SEVERITIES.get(document["kind"], "warning")
    return Message(document["title"], body, severity, frozenset(document["accepted_by"]))


def _record_deliveries(
    store: Store, document: Document, deliveries: Sequence[Delivery], at: datetime
) -> bool:
    """Record the deliveries of an alert; whether every target has accepted it, now or before."""
    accepted = set(document["accepted_by"]) | {d.target.id for d in deliveries if d.error is None}
    errors = [d.error for d in deliveries if d.error and d.target.id not in accepted]
    fields: Document = {"accepted_by": sorted(accepted), "error": "; ".join(errors) or None}
    if not errors:
        fields |= {"state": DeliveryState.DELIVERED, "delivered_at": to_utc_ms(at)}
    elif document["attempts"] >= MAX_ATTEMPTS:
        fields |= {"state": DeliveryState.FAILED}
    else:
        fields |= {"next_attempt_at": to_utc_ms(at + retry_delay(document["attempts"]))}
    store.alerts.update_one({"_id": document["_id"]}, {"$set": fields})
    if errors:
        log.warning("The alert %r was not delivered: %s.", document["title"], "; ".join(errors))
    return not errors
