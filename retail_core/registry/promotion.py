"""Promotion and rollback: check the version, record the change, let MLflow's alias follow.

Both may be killed at any instant and run again, and any number may run at once: the record
(`promotion_record`) decides, and `champion.follow_record` completes what was interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from retail_core.errors import DataError, IntegrityError
from retail_core.model.spec import ModelSpec
from retail_core.registry import promotion_record as record
from retail_core.registry import versions as registry
from retail_core.registry.champion import champion_and_entry, follow_record
from retail_core.registry.promotion_record import Entry, NewEntry
from retail_core.store.mongo.connection import Store


class GateVerdict(StrEnum):
    """Of the promotion gate on a challenger.

    `shadow`: neither better nor worse than the champion by the rows at hand; it stays out of production.
    `refused`: it cannot be in production whatever its scores are, or could not be compared.
    """

    PROMOTED = "promoted"
    SHADOW = "shadow"
    REJECTED = "rejected"
    REFUSED = "refused"


@dataclass(frozen=True)
class PromotionDecision:
    """The verdict with the reason, a sentence, and the figures behind it."""

    verdict: GateVerdict
    reason: str
    evidence: dict[str, Any]

    @property
    def promote(self) -> bool:
        """Whether the challenger goes into production."""
        return self.verdict == GateVerdict.PROMOTED

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "promote": self.promote,
            "verdict": str(self.verdict),
            "reason": self.reason,
            "evidence": self.evidence,
        }

    def tags(self) -> dict[str, str]:
        """Tags of the MLflow run and of the version."""
        interval = self.evidence.get("interval")
        figures = {
            "gate.champion": self.evidence.get("champion"),
            "gate.ap_difference": self.evidence.get("ap_difference"),
            "gate.log_loss_gain": self.evidence.get("log_loss_gain"),
            "gate.interval": f"{interval[0]:+.6f} to {interval[1]:+.6f}" if interval else None,
        }
        measured = {name: str(value) for name, value in figures.items() if value is not None}
        return {"verdict": str(self.verdict), "gate.reason": self.reason} | measured


@dataclass(frozen=True)
class ProductionChange:
    """A promotion or rollback that is complete.

    Attributes:
        entry: of the promotion record.
        repeated: whether the entry is of an earlier or concurrent command that had not answered yet.
    """

    entry: Entry
    repeated: bool


@dataclass(frozen=True)
class Author:
    """Who asks for a change, and whether the caller confirms it after answering.

    Attributes:
        reason: why, for people; the default of `rollback` names the version.
        actor: who; by default user and host of this process.
        confirms_later: the caller calls `promotion_record.confirm` once its answer has been given. Otherwise
            the return of the function counts as the answer.
        evidence: figures that the change is based on.
    """

    reason: str | None = None
    actor: str = field(default_factory=record.current_actor)
    confirms_later: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)


def promote_on(store: Store, version: str, decision: PromotionDecision) -> ProductionChange:
    """Promote as decided, unless another version has become the champion since.

    Raises:
        IntegrityError: the champion is not the version that `version` was compared with.
    """
    spec = _promotable_spec(store, version)
    champion, newest = champion_and_entry(store)
    compared_with = decision.evidence.get("champion", champion)
    new = NewEntry(record.PROMOTE, spec, decision.reason, record.current_actor(), decision.evidence)
    entry = record.insert_entry(store, new, newest) if compared_with == champion else None
    if entry is None:
        raise IntegrityError(
            f"Version {version} was compared with version {compared_with}, and version "
            f"{record.promoted_version(store)} is in production now.",
            remedy="train again, so that it is compared with that one.",
        )
    return _completed(store, entry, Author())


def promote(store: Store, version: str, author: Author) -> ProductionChange:
    """Put `version` into production. Of concurrent promotions, each is recorded, one after the other.

    If the newest entry is a promotion of this version that has not been answered, that one is completed.

    Raises:
        DataError: there is no such version, or it is in production already.
        IntegrityError: it was trained with a leaking column, is damaged or fails its self-test.
    """
    while True:
        _, newest = champion_and_entry(store)
        if newest is not None and newest["version"] == version:
            if newest["kind"] == record.PROMOTE and not record.is_confirmed(newest):
                return _completed(store, newest, author, repeated=True)
            raise DataError(f"Version {version} is in production already.", remedy="promote another version.")
        spec = _promotable_spec(store, version)
        new = NewEntry(record.PROMOTE, spec, author.reason or "by hand", author.actor, author.evidence)
        entry = record.insert_entry(store, new, newest)
        if entry is not None:
            return _completed(store, entry, author)


def rollback(store: Store, author: Author, *, expected: str | None = None) -> ProductionChange:
    """Put the version before the one in production back into production.

    If the newest entry is a rollback that has not been answered, because its command was killed or is still
    running, that one is completed and returned. Otherwise each call goes back by one more version.

    Args:
        store: the open store.
        author: who and why.
        expected: the version to roll back. If it was rolled back last, answered or not, nothing is done; so
            a call with it can be repeated any number of times.

    Raises:
        DataError: there is no version before it, or another than `expected` is in production.
        IntegrityError: the version before it is damaged, or another version was promoted meanwhile.
    """
    _, newest = champion_and_entry(store)
    if newest is None:
        raise _nothing_before()
    if _is_repeated(newest, expected):
        return _completed(store, newest, author, repeated=True)
    champion = newest["version"]
    if expected not in {None, champion}:
        raise DataError(
            f"Version {champion} is in production, not version {expected}.",
            remedy=f"look at `retail models history`; `--from {champion}` rolls that version back.",
        )
    spec = _version_before(store, champion)
    reason = author.reason or f"rollback of version {champion}"
    new = NewEntry(record.ROLLBACK, spec, reason, author.actor, author.evidence)
    entry = record.insert_entry(store, new, newest)
    if entry is not None:
        return _completed(store, entry, author)
    _, other = champion_and_entry(store)
    if other is not None and _is_repeated(other, champion):
        return _completed(store, other, author, repeated=True)
    raise IntegrityError(
        f"Version {record.promoted_version(store)} was promoted at the same moment.",
        remedy="look at `retail models history` and repeat.",
    )


def _is_repeated(newest: Entry, expected: str | None) -> bool:
    """Whether the rollback that is asked for is the one that was recorded last."""
    if newest["kind"] != record.ROLLBACK:
        return False
    if expected is None:
        return not record.is_confirmed(newest)
    return bool(newest["previous"] == expected)


def _version_before(store: Store, champion: str) -> ModelSpec:
    """The specification of the champion before `champion`, whose files and self-test hold."""
    champions = record.past_champions(record.history(store))
    if len(champions) < 2:
        raise _nothing_before()
    try:
        return _promotable_spec(store, champions[-2])
    except IntegrityError as error:
        raise IntegrityError(
            f"Version {champion} stays in production, because the version before it cannot be used. "
            f"{error.message}",
            remedy="repair it, or put another version into production with `retail models promote`; "
            "`retail models list` shows them.",
        ) from error


def _nothing_before() -> DataError:
    return DataError(
        "There is no earlier version to go back to.", remedy="promote one with `retail models promote`."
    )


def _promotable_spec(store: Store, version: str) -> ModelSpec:
    """The specification of a version whose files and self-test hold and which does not leak."""
    spec = registry.load_version(store.settings, version).spec
    if spec.leaky:
        raise IntegrityError(
            f"Version {version} was trained with a column that leaks the label.",
            remedy="train without --allow-leak and promote that version.",
        )
    return spec


def _completed(store: Store, entry: Entry, author: Author, *, repeated: bool = False) -> ProductionChange:
    """Let the alias follow, and confirm the entry unless the caller does."""
    follow_record(store)
    if not author.confirms_later:
        record.confirm(store, entry)
    return ProductionChange(entry, repeated)
