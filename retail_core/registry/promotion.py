"""The append-only promotion record in MongoDB, and MLflow's alias that follows it.

MongoDB's `promotions` is the record and MLflow's alias `production` follows it. An entry is written
first, then the alias moves. A run killed between the two leaves the alias behind the record, and the
next promotion, rollback or training moves it on (`repair`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from retail_core.errors import DataError, IntegrityError
from retail_core.model.spec import ModelSpec
from retail_core.registry import versions as registry
from retail_core.registry.versions import load_version
from retail_core.store.mongo.connection import Store
from retail_core.times import to_utc_ms

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromotionDecision:
    """Whether to promote, why, and on what evidence."""

    promote: bool
    reason: str
    evidence: dict[str, Any]


def promote_on(store: Store, version: str, decision: PromotionDecision) -> dict[str, Any]:
    """Promote as the gate decided, unless production has moved since it looked. Returns the entry.

    It is dated by MongoDB's clock: when it happened, not when the training began.

    Raises:
        IntegrityError: the champion is not the one that `version` was judged against.
    """
    judged_against, now = decision.evidence.get("champion", ...), registry.production_version(store.settings)
    if judged_against not in {now, ...}:
        raise IntegrityError(
            f"Version {version} was judged against version {judged_against}, and version {now} is in "
            "production now.",
            remedy="train again, so that it is judged against that one.",
        )
    at = store.client.admin.command("hello")["localTime"]
    return promote(store, version, reason=decision.reason, at=at, evidence=decision.evidence)


def promote(
    store: Store,
    version: str,
    *,
    reason: str,
    at: datetime,
    evidence: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Record that `version` goes into production, then move the alias. Returns the entry.

    Raises:
        DataError: there is no such version, or it is in production already.
        IntegrityError: it was trained with a leaking column, it is damaged or does not answer its own test
            rows as it did, or another promotion came in between.
    """
    repair(store)
    spec = load_version(store.settings, version).spec
    if spec.leaky:
        raise IntegrityError(
            f"Version {version} was trained with a column that leaks the answer.",
            remedy="train without --allow-leak and promote that version.",
        )
    previous = registry.production_version(store.settings)
    if previous == version:
        raise DataError(f"Version {version} is in production already.", remedy="promote another version.")
    move = _PromotionEntry("promote", spec, previous, reason, at, evidence or {})
    return _record(store, move)


def rollback(store: Store, *, at: datetime) -> dict[str, Any]:
    """Put the version before the current one back; rolling back again goes one further. Returns the entry.

    Raises:
        DataError: there is no version before it.
    """
    repair(store)
    stack = _production_history(store)
    if len(stack) < 2:
        raise DataError(
            "There is no earlier version to go back to.", remedy="promote one with `retail models promote`."
        )
    spec = registry.version_spec(store.settings, stack[-2])
    move = _PromotionEntry("rollback", spec, stack[-1], f"rollback of version {stack[-1]}", at, {})
    return _record(store, move)


def repair(store: Store) -> str | None:
    """Move the alias to what the record says, where a killed run left it behind; returns that version.

    None where nothing was to be done. A version that MLflow no longer has is logged and left.
    """
    newest = store.promotions.find_one(sort=[("_id", -1)])
    if newest is None or registry.production_version(store.settings) == newest["version"]:
        return None
    try:
        registry.set_production(store.settings, newest["version"])
    except DataError as error:
        log.warning("The promotion record and the registry disagree: %s", error)
        return None
    log.warning("Finished an interrupted %s of version %s.", newest["kind"], newest["version"])
    return str(newest["version"])


def history(store: Store) -> list[dict[str, Any]]:
    """Every entry, oldest first."""
    return list(store.promotions.find(sort=[("_id", 1)]))


def _production_history(store: Store) -> list[str]:
    """Versions in production one after the other, rollbacks taken back; the last one is in production."""
    stack: list[str] = []
    for entry in history(store):
        if entry["kind"] == "rollback" and len(stack) > 1:
            stack.pop()
            continue
        if not stack and entry["previous"]:
            stack.append(entry["previous"])
        stack.append(entry["version"])
    return stack


@dataclass(frozen=True)
class _PromotionEntry:
    kind: str
    spec: ModelSpec
    previous: str | None
    reason: str
    at: datetime
    evidence: dict[str, Any]


def _record(store: Store, move: _PromotionEntry) -> dict[str, Any]:
    """Write the entry, then move the alias; `_id` counts up, so two writers cannot both be next."""
    newest = store.promotions.find_one(sort=[("_id", -1)])
    entry = {
        "_id": (newest["_id"] if newest else 0) + 1,
        "kind": move.kind,
        "version": move.spec.version,
        "previous": move.previous,
        "reason": move.reason,
        "evidence": move.evidence,
        "metrics": move.spec.metrics,
        "data_hash": move.spec.data["data_hash"],
        "feature_set_hash": move.spec.feature_set.hash,
        "run_id": move.spec.run_id,
        "at": to_utc_ms(move.at),
    }
    try:
        store.promotions.insert_one(dict(entry))
    except DuplicateKeyError as error:
        raise IntegrityError(
            "Another promotion was recorded at the same moment.",
            remedy="look at `retail models list` and repeat.",
        ) from error
    registry.set_production(store.settings, move.spec.version)
    return entry
