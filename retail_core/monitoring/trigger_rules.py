"""Rules of the triggers: from measured figures to a check with value, interval, limit, action and evidence.

Pure functions; `triggers` reads the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from retail_core.model.spec import ModelSpec
from retail_core.monitoring import calibration_test, performance_test
from retail_core.monitoring.calibration_test import CalibrationNull
from retail_core.monitoring.drift_measurement import DriftMeasurement
from retail_core.monitoring.drift_statistics import SCORE, drifted_importance
from retail_core.monitoring.matured_days import MaturedDays
from retail_core.monitoring.past_attempts import PastAttempt
from retail_core.monitoring.performance_test import ReferencePerformance
from retail_core.monitoring.trigger_check import Action, TriggerCheck, insufficient

NEW_DATA = "new_data"
PERFORMANCE = "performance"
CALIBRATION = "calibration"
DRIFT = "drift"
AGE = "age"
MIN_PROMISED = 20
"""Fewest promised buyers with which calibration is tested."""
_NAMED_FEATURES = 5
"""Drifted features that the evidence names."""
_SOON_DAYS = 7
"""The smallest fall that calibration could detect is stated for a change this many days ago."""
_USUAL_DESIGN_EFFECT = 1.5
"""Design effect of a reference without an interval."""
_MAX_DESIGN_EFFECT = 4.0
_WIDTH_95 = 3.92
_ONE_DAY = timedelta(days=1)


def check_new_data(
    events: int, midnight: datetime, last: PastAttempt, *, limit: float, pause: timedelta, same_data: bool
) -> TriggerCheck:
    """Whether the events of whole days have grown by at least `limit` since the last training attempt.

    Args:
        events: number of events before `midnight`.
        midnight: end of the last whole day of the shop.
        last: the last training attempt, promoted or not.
        limit: relative growth.
        pause: shortest time between the cut-offs of two trainings.
        same_data: whether the attempt read exactly these events.
    """
    counts = f"{events:,} events before {midnight:%Y-%m-%d %H:%M} UTC, {last.events:,} in {last.label}"
    if not last.events:
        return insufficient(NEW_DATA, limit, Action.RETRAIN, counts)
    growth = (events - last.events) / last.events
    evidence = f"{counts}: {growth:+.1%}"
    fired = growth >= limit
    if fired and same_data:
        fired, evidence = False, f"{evidence}; the same data have been trained on"
    elif fired and midnight < last.as_of + pause:
        fired = False
        evidence = f"{evidence}; paused for {pause / _ONE_DAY:g} days after {last.as_of:%Y-%m-%d %H:%M} UTC"
    return TriggerCheck(NEW_DATA, fired, growth, limit, None, Action.RETRAIN, evidence)


def check_age(as_of: datetime, last: PastAttempt, limit_days: float) -> TriggerCheck:
    """Whether the last training attempt is at least `limit_days` old at `as_of`."""
    age = (as_of - last.as_of) / _ONE_DAY
    evidence = f"{age:.1f} days since {last.label}"
    return TriggerCheck(AGE, age >= limit_days, age, limit_days, None, Action.RETRAIN, evidence)


def reference_performance(spec: ModelSpec) -> ReferencePerformance | None:
    """Reference of a version with its error, from the user-resampled interval of F1; None if F1 is 0."""
    figures = spec.reference
    if not figures["f1"]:
        return None
    independent = ReferencePerformance(
        spec.version,
        figures["f1"],
        figures["recall"],
        figures["false_positive_rate"],
        figures["base_rate"],
        relative_error=0.0,
        design_effect=1.0,
    )
    bounds = spec.evaluation.get(spec.primary, {}).get("intervals", {}).get("f1")
    return with_error(independent, figures["n"], figures["positives"], bounds)


def with_error(
    reference: ReferencePerformance, rows: float, buyers: float, bounds: tuple[float, float] | None
) -> ReferencePerformance:
    """The reference with its relative error and design effect.

    Args:
        reference: F1 and rates; its error is not used.
        rows: number of test rows.
        buyers: number of buyers among them.
        bounds: 95 % interval of F1 with users resampled; None: a usual design effect is assumed.
    """
    independent = performance_test.independent_relative_error(
        reference, max(buyers, 1), max(rows - buyers, 1)
    )
    error = independent * math.sqrt(_USUAL_DESIGN_EFFECT)
    if bounds is not None:
        error = max(independent, (bounds[1] - bounds[0]) / _WIDTH_95 / reference.f1)
    effect = min((error / independent) ** 2, _MAX_DESIGN_EFFECT)
    return ReferencePerformance(
        reference.version,
        reference.f1,
        reference.recall,
        reference.false_positive_rate,
        reference.base_rate,
        relative_error=error,
        design_effect=effect,
    )


def check_performance(
    window: MaturedDays, references: Mapping[str, ReferencePerformance], *, limit: float, min_buyers: int
) -> TriggerCheck:
    """Whether live F1, at the reference base rate, is at least a share `limit` below the reference.

    Args:
        window: the newest matured days.
        references: by version, the champion first.
        limit: relative loss of F1 that is tested for.
        min_buyers: with fewer buyers in the window the value is None.
    """
    champion = next(iter(references.values()), None)
    if champion is None:
        return insufficient(PERFORMANCE, None, Action.RETRAIN, "the reference F1 of the champion is 0")
    lowest = (1 - limit) * champion.f1
    population = _population(window)
    days = window.confusion(references)
    if (buyers := int(days.buyers.sum())) < min_buyers or not days.non_buyers.sum():
        missing = f"{population}; {min_buyers} buyers are needed, {max(min_buyers - buyers, 0)} are missing"
        return insufficient(PERFORMANCE, lowest, Action.RETRAIN, missing)
    result = performance_test.performance_evidence(days, 1 - limit)
    fall = performance_test.smallest_detectable_fall(
        buyers, float(days.non_buyers.sum()), champion, 1 - limit
    )
    evidence = (
        f"{population}; F1 at the reference base rate of {champion.base_rate:.2%} is {result.ratio:.1%} of "
        f"the reference F1 {champion.f1:.3f} (+-{1.96 * champion.relative_error:.0%}); evidence of a fall of "
        f"at least {limit:.0%} e = {result.e_value:.3g}, fires at {performance_test.E_LIMIT:g}; smallest "
        f"fall detectable with these buyers {_share(fall)}; interval 95 %"
    )
    low, high = (bound * champion.f1 for bound in result.interval)
    fired = result.e_value >= performance_test.E_LIMIT
    value = result.ratio * champion.f1
    return TriggerCheck(PERFORMANCE, fired, value, lowest, (low, high), Action.RETRAIN, evidence)


def check_calibration(
    window: MaturedDays, null: CalibrationNull, shop_overdispersion_days: int, action: Action
) -> TriggerCheck:
    """Whether the buyers that came deviate from those promised by more than the tolerance.

    Args:
        window: the newest matured days.
        null: what counts as no change.
        shop_overdispersion_days: number of days that its overdispersion was estimated from.
        action: what is requested if it fires.
    """
    population, days = _population(window), window.promised()
    promised = float(days.promised.sum())
    if promised < MIN_PROMISED or len(window.days) < 2:
        missing = (
            f"{population}, {promised:.1f} promised; at least 2 days and {MIN_PROMISED} promised are needed"
        )
        return insufficient(CALIBRATION, null.tolerance, action, missing)
    result = calibration_test.calibration_evidence(days, null)
    fired = result.e_value >= calibration_test.E_LIMIT
    start = result.start if fired else 0
    deviation, interval = calibration_test.observed_deviation(days.since(start), null)
    fall = calibration_test.smallest_detectable_fall(days, _SOON_DAYS, null)
    since = f"since {window.days[start].as_of:%Y-%m-%d}: "
    evidence = (
        f"{population}; {since}{int(days.observed[start:].sum()):,} buyers came, "
        f"{days.promised[start:].sum():,.0f} were promised: {deviation:+.1%}; evidence of a change beyond "
        f"{null.tolerance:.0%} e = {result.e_value:.3g}, fires at {calibration_test.E_LIMIT:g}; calibrated "
        f"on {null.reference_buyers:,.0f} buyers; day-to-day variation {math.sqrt(null.overdispersion):.0%} "
        f"(of {shop_overdispersion_days} days); smallest fall detectable after {_SOON_DAYS} days "
        f"{_share(fall)}; interval 95 %"
    )
    return TriggerCheck(CALIBRATION, fired, deviation, null.tolerance, interval, action, evidence)


def check_drift(measurement: DriftMeasurement, version: str, limit: float) -> TriggerCheck:
    """Whether at least a share of `limit` of the model's importance belongs to drifted features."""
    if measurement.unavailable:
        return insufficient(DRIFT, limit, Action.RETRAIN, measurement.unavailable)
    value = drifted_importance(measurement.drifts)
    features = [drift for drift in measurement.drifts if drift.name != SCORE]
    drifted = [drift for drift in features if drift.drifted]
    evidence = (
        f"version {version}, {measurement.population}: {len(drifted)} of {len(features)} features drifted"
    )
    if drifted:
        evidence += ": " + "; ".join(
            f"{drift.name} PSI {drift.psi:.2f} (limit {drift.limit:.2f})"
            for drift in drifted[:_NAMED_FEATURES]
        )
    return TriggerCheck(DRIFT, value >= limit, value, limit, None, Action.RETRAIN, evidence)


def _population(window: MaturedDays) -> str:
    if not window.days:
        return "no matured day later than the training data" + _left_out(window)
    versions = sorted({day.version for day in window.days}, key=lambda version: version.zfill(9))
    rows = sum(day.rows for day in window.days)
    return (
        f"version {', '.join(versions)}: {len(window.days)} matured days, {window.days[0].as_of:%Y-%m-%d} "
        f"to {window.days[-1].as_of:%Y-%m-%d}, {rows:,} predictions, {window.buyers:,} buyers, base rate "
        f"{window.buyers / max(rows, 1):.2%}{_left_out(window)}"
    )


def _left_out(window: MaturedDays) -> str:
    return f" ({window.announced} announced days left out)" if window.announced else ""


def _share(fall: float | None) -> str:
    return "none" if fall is None else f"{fall:.0%}"
