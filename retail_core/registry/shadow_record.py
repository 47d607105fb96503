"""The record of shadows in MongoDB: which version scores silently beside which champion, how it ended.

`_id` counts up without gaps, as in the promotion record, so that of two commands that start the same shadow
at once only one inserts. A shadow ends once: `end_shadow` changes only one that is running. Whoever reads the
shadows calls `follow_promotions` first, which lets them follow the promotion record; whatever interrupts it,
the next call completes it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pymongo.errors import DuplicateKeyError

from retail_core.errors import DataError, IntegrityError
from retail_core.model.spec import ModelSpec
from retail_core.registry import promotion_record
from retail_core.registry import versions as registry
from retail_core.store.mongo.connection import Document, Store, server_time

log = logging.getLogger(__name__)

MAX_CHALLENGERS = 2
"""Challengers that shadow at the same time; a further one replaces the oldest."""


class Role(StrEnum):
    """Why a version shadows: to replace the champion, or to return if the champion is worse."""

    CHALLENGER = "challenger"
    PREVIOUS = "previous"


class Verdict(StrEnum):
    """How a shadow ended."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    BEHIND = "behind"
    UNDECIDED = "undecided"
    SUPERSEDED = "superseded"
    STOPPED = "stopped"
    REFUSED = "refused"


@dataclass(frozen=True)
class Shadow:
    """A shadow that is running.

    Attributes:
        number: of the record.
        version: the version that scores silently.
        champion: the version in production that it is compared with.
        role: why it shadows.
        days: figures of the matured days so far, as the judgement has stored them.
    """

    number: int
    version: str
    champion: str
    role: Role
    days: tuple[Document, ...] = ()


@dataclass(frozen=True)
class NewShadow:
    """What is recorded when a shadow starts.

    Attributes:
        version: the version that scores silently.
        role: why it shadows.
        reason: why, for people.
        promotion: number of the entry of the promotion record that it follows; None for challengers.
    """

    version: str
    role: Role
    reason: str
    promotion: int | None = None


def history(store: Store) -> list[Document]:
    """Every shadow, oldest first, without the figures by day."""
    return list(store.shadows.find({}, {"days": 0}, sort=[("_id", 1)]))


def running_shadows(store: Store) -> list[Shadow]:
    """The shadows of the champion, oldest first, after `follow_promotions`."""
    follow_promotions(store)
    return [_shadow(document) for document in store.shadows.find({"state": "running"}, sort=[("_id", 1)])]


def start_challenger(store: Store, version: str, reason: str) -> Shadow:
    """Let a version shadow the champion; of one that does so already nothing changes.

    Raises:
        DataError: there is no such version, no champion, or it is the champion.
        IntegrityError: it is damaged, leaks, or predicts something else than the champion.
    """
    follow_promotions(store)
    champion = promotion_record.promoted_version(store)
    if champion is None:
        raise DataError("There is no model in production.", remedy="run `retail train` first.")
    if champion == version:
        raise DataError(f"Version {version} is in production.", remedy="name another version.")
    spec = registry.load_version(store.settings, version).spec
    if reason_against := incomparable_reason(registry.version_spec(store.settings, champion), spec):
        raise IntegrityError(
            f"Version {version} cannot shadow version {champion}: {reason_against}.",
            remedy="train a version for the same prediction task.",
        )
    shadow = _insert(store, NewShadow(version, Role.CHALLENGER, reason), champion)
    running = list(store.shadows.find({"state": "running", "role": Role.CHALLENGER}, sort=[("_id", 1)]))
    for oldest in running[:-MAX_CHALLENGERS]:
        decision = f"version {version} is newer, and at most {MAX_CHALLENGERS} challengers shadow"
        end_shadow(store, oldest["_id"], Verdict.SUPERSEDED, decision)
    return shadow


def end_shadow(
    store: Store, number: int, verdict: Verdict, decision: str, evidence: Document | None = None
) -> bool:
    """Record how a running shadow ended, at MongoDB's time; False where it has ended already."""
    fields = {"state": "ended", "verdict": verdict, "decision": decision, "ended": server_time(store)}
    update = {"$set": fields | ({} if evidence is None else {"evidence": evidence})}
    return bool(store.shadows.update_one({"_id": number, "state": "running"}, update).modified_count)


def stop_shadow(store: Store, version: str, reason: str) -> None:
    """End the running shadow of a version.

    Raises:
        DataError: it does not shadow.
    """
    running = store.shadows.find_one({"version": version, "state": "running"}, {"_id": 1})
    if running is None or not end_shadow(store, running["_id"], Verdict.STOPPED, reason):
        raise DataError(
            f"Version {version} does not shadow.", remedy="`retail models shadow` shows the shadows."
        )


def store_progress(store: Store, shadow: Shadow, days: list[Document], evidence: Document) -> None:
    """Store the figures of the matured days of a running shadow."""
    update = {"$set": {"days": days, "evidence": evidence}}
    store.shadows.update_one({"_id": shadow.number, "state": "running"}, update)


def follow_promotions(store: Store) -> None:
    """End the shadows of earlier champions, and let the champion before a promotion shadow the new one.

    Raises:
        IntegrityError: the newest entry of the promotion record is damaged.
    """
    newest = promotion_record.newest_entry(store)
    if newest is None:
        return
    for document in store.shadows.find({"state": "running", "champion": {"$ne": newest["version"]}}):
        _end_with_champion(store, document, newest)
    if newest["kind"] != promotion_record.PROMOTE or newest["previous"] in {None, newest["version"]}:
        return
    if store.shadows.find_one({"promotion": newest["_id"]}) is None:
        _start_previous(store, newest)


def incomparable_reason(champion: ModelSpec, other: ModelSpec) -> str:
    """Why two versions cannot be compared on the same list; empty where they can."""
    if other.leaky:
        return "it was trained with a column that leaks the label"
    if differing := champion.feature_set.task.differing_labels(other.feature_set.task):
        return f"it predicts something else ({', '.join(differing)})"
    if champion.primary != other.primary:
        return f"its lists follow the cut-off policy {other.primary}, not {champion.primary}"
    return ""


def _end_with_champion(store: Store, document: Document, newest: promotion_record.Entry) -> None:
    version, number = document["version"], newest["_id"]
    if newest["version"] != version:
        decision = f"version {newest['version']} is in production since entry {number} of the record"
        end_shadow(store, document["_id"], Verdict.SUPERSEDED, decision)
        return
    returned = document["role"] == Role.PREVIOUS
    verdict = Verdict.ROLLED_BACK if returned else Verdict.PROMOTED
    decision = f"in production since entry {number} of the record: {newest['reason']}"
    end_shadow(store, document["_id"], verdict, decision)


def _start_previous(store: Store, newest: promotion_record.Entry) -> None:
    previous, champion = str(newest["previous"]), str(newest["version"])
    new = NewShadow(previous, Role.PREVIOUS, f"version {champion} replaced it", newest["_id"])
    try:
        specs = [registry.version_spec(store.settings, version) for version in (champion, previous)]
        reason_against = incomparable_reason(*specs)
    except (DataError, IntegrityError) as error:
        reason_against = error.message
    shadow = _insert(store, new, champion)
    if reason_against and end_shadow(store, shadow.number, Verdict.REFUSED, reason_against):
        log.warning("Version %s does not shadow version %s: %s", previous, champion, reason_against)


def _insert(store: Store, new: NewShadow, champion: str) -> Shadow:
    """Record a shadow, unless the version shadows the champion already or its promotion has one."""
    same: Document = {"version": new.version, "champion": champion, "state": "running"}
    if new.promotion is not None:
        same = {"promotion": new.promotion}
    while True:
        existing = store.shadows.find_one(same)
        if existing is not None:
            return _shadow(existing)
        newest = store.shadows.find_one({}, {"_id": 1}, sort=[("_id", -1)])
        document: dict[str, Any] = {
            "_id": (newest["_id"] if newest else 0) + 1,
            "version": new.version,
            "champion": champion,
            "role": new.role,
            "promotion": new.promotion,
            "state": "running",
            "reason": new.reason,
            "actor": promotion_record.current_actor(),
            "started": server_time(store),
            "ended": None,
            "verdict": None,
            "decision": None,
            "evidence": {},
            "days": [],
        }
        try:
            store.shadows.insert_one(document)
        except DuplicateKeyError:
            continue
        return _shadow(document)


def _shadow(document: Document) -> Shadow:
    return Shadow(
        number=document["_id"],
        version=document["version"],
        champion=document["champion"],
        role=Role(document["role"]),
        days=tuple(document.get("days", ())),
    )
