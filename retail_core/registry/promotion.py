"""The append-only promotion record in MongoDB, and MLflow's alias that follows it.

An entry is written to MongoDB's `promotions` first, then the alias `production` is set. If the process is
killed between the two, the next promotion, rollback or training sets the alias (`repair`).
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
from retail_core.store.mongo.connection import Store
from retail_core.times import to_utc_ms

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromotionDecision:
    """Whether to promote, with the reason and the evidence."""

    promote: bool
    reason: str
    evidence: dict[str, Any]


def promote_on(store: Store, version: str, decision: PromotionDecision) -> dict[str, Any]:
    """Promote as decided, unless another version has become the champion since; returns the entry.

    The entry has MongoDB's time of the promotion, which is later than the start of the training.

    Raises:
        IntegrityError: the champion is not the version that `version` was compared with.
    """
    compared_with = decision.evidence.get("champion", ...)
    champion = registry.production_version(store.settings)
    if compared_with not in {champion, ...}:
        raise IntegrityError(
            f"Version {version} was compared with version {compared_with}, and version {champion} is in "
            "production now.",
            remedy="train again, so that it is compared with that one.",
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
    """Record that `version` becomes the champion, then set the alias; returns the entry.

    Raises:
        DataError: there is no such version, or it is in production already.
        IntegrityError: it was trained with a leaking column, it is damaged or fails its self-test, or another
            promotion was recorded in between.
    """
    repair(store)
    spec = registry.load_version(store.settings, version).spec
    if spec.leaky:
        raise IntegrityError(
            f"Version {version} was trained with a column that leaks the label.",
            remedy="train without --allow-leak and promote that version.",
        )
    previous = registry.production_version(store.settings)
    if previous == version:
        raise DataError(f"Version {version} is in production already.", remedy="promote another version.")
    entry = _PromotionEntry("promote", spec, previous, reason, at, evidence or {})
    return _record(store, entry)


def rollback(store: Store, *, at: datetime) -> dict[str, Any]:
    """Make the previous champion the champion again and return the recorded entry.

    Each further call goes back by one more version.

    Raises:
        DataError: there is no version before it.
    """
    repair(store)
    champions = _production_stack(store)
    if len(champions) < 2:
        raise DataError(
            "There is no earlier version to go back to.", remedy="promote one with `retail models promote`."
        )
    spec = registry.version_spec(store.settings, champions[-2])
    entry = _PromotionEntry("rollback", spec, champions[-1], f"rollback of version {champions[-1]}", at, {})
    return _record(store, entry)


def repair(store: Store) -> str | None:
    """Set the alias to the newest recorded version, where an interrupted promotion did not.

    A version that MLflow no longer has is logged, and the alias stays.

    Returns:
        The version, or None where the alias was right.
    """
    newest = _newest(store)
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
    """Every entry of the promotion record, oldest first.

    Raises:
        IntegrityError: an entry has another shape.
    """
    return [_checked(entry) for entry in store.promotions.find(sort=[("_id", 1)])]


def promoted_version(store: Store) -> str | None:
    """The version that the newest entry puts into production; None without entries.

    Raises:
        IntegrityError: the entry has another shape.
    """
    newest = _newest(store)
    return None if newest is None else str(newest["version"])


def _newest(store: Store) -> dict[str, Any] | None:
    entry = store.promotions.find_one(sort=[("_id", -1)])
    return None if entry is None else _checked(entry)


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry, if it has the fields that decide what is in production.

    Raises:
        IntegrityError: one is missing or of another type.
    """
    types: dict[str, type | tuple[type, ...]] = {
        "_id": int,
        "kind": str,
        "version": str,
        "previous": (str, type(None)),
        "at": datetime,
    }
    for name, expected in types.items():
        if name not in entry or not isinstance(entry[name], expected):
            raise IntegrityError(
                f"Entry {entry['_id']!r} of the promotion record is damaged: {name} is {entry.get(name)!r}.",
                remedy="correct or delete that document of the collection `promotions`, or restore a backup.",
            )
    return entry


def _production_stack(store: Store) -> list[str]:
    """Champions in order of time without those that were rolled back; the last one is in production."""
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


def _record(store: Store, entry: _PromotionEntry) -> dict[str, Any]:
    """Write the entry, then set the alias; `_id` counts up, so that of two writers one fails."""
    newest = _newest(store)
    document = {
        "_id": (newest["_id"] if newest else 0) + 1,
        "kind": entry.kind,
        "version": entry.spec.version,
        "previous": entry.previous,
        "reason": entry.reason,
        "evidence": entry.evidence,
        "metrics": entry.spec.metrics,
        "data_hash": entry.spec.data["data_hash"],
        "feature_set_hash": entry.spec.feature_set.hash,
        "run_id": entry.spec.run_id,
        "at": to_utc_ms(entry.at),
    }
    try:
        store.promotions.insert_one(dict(document))
    except DuplicateKeyError as error:
        raise IntegrityError(
            "Another promotion was recorded at the same moment.",
            remedy="look at `retail models list` and repeat.",
        ) from error
    registry.set_production(store.settings, entry.spec.version)
    return document
