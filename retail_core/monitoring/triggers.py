"""When to retrain: named reasons, each with its value, its limit and the evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import pandas as pd

from retail_core.errors import IntegrityError
from retail_core.model.served_model import ModelSpec
from retail_core.monitoring.drift import SCORE, drifted_share
from retail_core.monitoring.live_metrics import Confusion, reweighted_f1
from retail_core.monitoring.outcomes import Questions, known_outcomes
from retail_core.monitoring.population import Drift, measure_drift
from retail_core.registry.versions import champion_spec, load_version
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store
from retail_core.times import parse_instant, to_utc_ms
from retail_core.workspace import Workspace

NEW_DATA = "new_data"
PERFORMANCE = "performance"
DRIFT = "drift"
_NAMED = 5
NO_CHAMPION = "there is no model in production"


@dataclass(frozen=True)
class TriggerCheck:
    """One trigger as it stood. `value` is None where it could not be measured; then it has not fired.

    new_data: `value` is the growth of the events since the champion's data (0.1 = 10 % more), fired at
    or above `limit`. performance: `value` is the live F1 at the reference base rate, fired at or below
    `limit`, which is (1 - RETAIL_PERFORMANCE_LIMIT) times the champion's reference F1. drift: `value` is
    the share of the champion's importance that lies in features that have drifted, fired at or above `limit`.
    """

    name: str
    fired: bool
    value: float | None
    limit: float | None
    evidence: str


def new_data(events_now: int, events_then: int, version: str, limit: float) -> TriggerCheck:
    """Whether the data have grown by a share of at least `limit` since those of version `version`.

    Each counts the events before its own as_of: `events_now` of the check, `events_then` of the training.
    """
    growth = (events_now - events_then) / events_then if events_then else None
    told = f"{events_now:,} events now, {events_then:,} in the data of version {version}"
    if growth is None:
        return TriggerCheck(NEW_DATA, False, None, limit, f"insufficient data: {told}")
    return TriggerCheck(NEW_DATA, growth >= limit, growth, limit, f"{told}: {growth:+.1%}")


@dataclass(frozen=True)
class Reference:
    """What a version promised: F1 at its best-F1 threshold on its test rows, and their base rate."""

    version: str
    f1: float
    base_rate: float


def performance(live: Confusion, reference: Reference, *, limit: float, min_buyers: int) -> TriggerCheck:
    """Whether the live F1, at the reference base rate, is at least a share of `limit` below the reference.

    With fewer than `min_buyers` matured buyers nothing is said.
    """
    lowest = (1 - limit) * reference.f1
    population = (
        f"version {reference.version}: {live.rows:,} matured predictions later than its training data, "
        f"{live.buyers:,} buyers"
    )
    if live.buyers < min_buyers:
        told = f"insufficient data: {population}, at least {min_buyers} buyers needed"
        return TriggerCheck(PERFORMANCE, False, None, lowest, told)
    value = reweighted_f1(live, reference.base_rate)
    told = (
        f"{population}, base rate {live.base_rate:.2%}; F1 {live.f1:.3f}, at the reference base rate of "
        f"{reference.base_rate:.2%} {value:.3f}; reference F1 {reference.f1:.3f}"
    )
    return TriggerCheck(PERFORMANCE, value <= lowest, value, lowest, told)


def drift(measured: Drift, version: str, limit: float) -> TriggerCheck:
    """Whether features that carry a share of at least `limit` of the model have drifted."""
    if measured.lacking:
        return TriggerCheck(DRIFT, False, None, limit, f"insufficient data: {measured.lacking}")
    value = drifted_share(measured.found)
    features = [one for one in measured.found if one.name != SCORE]
    moved = [one for one in features if one.drifted]
    named = "; ".join(f"{one.name} PSI {one.psi:.2f} (limit {one.limit:.2f})" for one in moved[:_NAMED])
    told = f"version {version}, {measured.population}: {len(moved)} of {len(features)} features drifted"
    return TriggerCheck(DRIFT, value >= limit, value, limit, f"{told}: {named}" if named else told)


def check(
    work: Workspace, *, as_of: datetime, at: datetime, measured: Drift | None = None
) -> list[TriggerCheck]:
    """Evaluate every trigger for the champion on what is known at `as_of`, and store each check.

    Without a champion nothing fires and the evidence says so. `at` is when the check is made (aware);
    `measured` is the champion's drift where it is known already.
    """
    settings = work.settings
    champion = champion_spec(settings)
    if champion is None:
        checks = _unmeasured(settings)
    else:
        moved = measured or _moved(work, champion.version, as_of)
        checks = _measure(work, champion, as_of)
        checks.append(drift(moved, champion.version, settings.drift_limit))
    version = champion.version if champion else None
    work.store.trigger_checks.insert_many(
        {**asdict(entry), "as_of": to_utc_ms(as_of), "at": to_utc_ms(at), "model_version": version}
        for entry in checks
    )
    return checks


def _moved(work: Workspace, version: str, as_of: datetime) -> Drift:
    """The drift of that version; a damaged one must not keep the next from being trained."""
    try:
        return measure_drift(work.lake.snapshot(), load_version(work.settings, version), as_of, work.engine)
    except IntegrityError as error:
        return Drift([], "", f"version {version} cannot be served: {error.message}")


def _unmeasured(settings: Settings) -> list[TriggerCheck]:
    return [
        TriggerCheck(NEW_DATA, False, None, settings.new_data_limit, NO_CHAMPION),
        TriggerCheck(PERFORMANCE, False, None, None, NO_CHAMPION),
        TriggerCheck(DRIFT, False, None, settings.drift_limit, NO_CHAMPION),
    ]


def _measure(work: Workspace, champion: ModelSpec, as_of: datetime) -> list[TriggerCheck]:
    settings = work.settings
    return [
        new_data(
            work.lake.state(as_of).rows,
            int(champion.data["events"]),
            champion.version,
            settings.new_data_limit,
        ),
        performance(
            live_confusion(work.store, champion, as_of),
            Reference(champion.version, champion.reference["f1"], champion.reference["base_rate"]),
            limit=settings.performance_limit,
            min_buyers=settings.min_matured_buyers,
        ),
    ]


def live_confusion(store: Store, champion: ModelSpec, as_of: datetime) -> Confusion:
    """The champion's matured predictions of its primary policy, judged at its best-F1 threshold.

    Only those whose horizon reached beyond its training data: what it has learnt by heart proves nothing.
    """
    policy = champion.primary
    learnt = parse_instant(champion.data["as_of"]) - champion.feature_set.task.horizon
    known = known_outcomes(store, Questions(store), as_of, champion.version)
    unseen = known[(known["policy"] == policy) & (known["as_of"] > pd.Timestamp(learnt))]
    expected = unseen["probability"].to_numpy(dtype=float) >= champion.thresholds[policy]["f1"]
    return Confusion.of(unseen["purchased"].to_numpy(dtype=bool), expected)
