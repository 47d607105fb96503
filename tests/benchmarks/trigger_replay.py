"""The triggers applied daily to the cached days of a simulated shop, by the rules that production uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from retail_core.monitoring import trigger_rules as rules
from retail_core.monitoring.calibration_test import CalibrationNull, estimate_overdispersion
from retail_core.monitoring.matured_days import MaturedDay, MaturedDays
from retail_core.monitoring.performance_test import ReferencePerformance
from retail_core.monitoring.trigger_check import Action
from retail_core.monitoring.triggers import CALIBRATION_DAYS
from retail_core.settings import Settings
from retail_core.simulate import is_promotion
from tests.benchmarks.trigger_shops import Champion, DayRow, midnight

SETTINGS = Settings()


@dataclass(frozen=True)
class Alarm:
    """A trigger that fired at the check after the day `day` had matured."""

    trigger: str
    day: date
    evidence: str


def reference_of(champion: Champion, version: str) -> ReferencePerformance:
    """The reference of a simulated champion, with its error."""
    figures = champion.reference
    bare = ReferencePerformance(
        version,
        figures["f1"],
        figures["recall"],
        figures["false_positive_rate"],
        figures["base_rate"],
        0.0,
        1.0,
    )
    return rules.with_error(bare, figures["n"], figures["positives"], champion.f1_interval)


def alarms(champions: Sequence[Champion], *, announced: bool = True) -> Iterator[Alarm]:
    """Every alarm of performance, calibration and drift, checked after each matured day.

    Evidence is never reset and no action is taken, so a lasting cause is reported every day.

    Args:
        champions: versions of one shop in order of time.
        announced: whether the simulator's promotion days are in the shop's calendar.
    """
    served = [(str(number), day) for number, c in enumerate(champions, 1) for day in c.days]
    kept = [(version, day) for version, day in served if not (announced and is_promotion(day.day))]
    references = {str(number): reference_of(c, str(number)) for number, c in enumerate(champions, 1)}
    for end in range(1, len(kept) + 1):
        version, newest = kept[end - 1]
        matured = MaturedDays(tuple(_matured(*entry) for entry in kept[:end]), 0, {})
        ordered = {version: references[version]} | references
        yield from _checked(matured, ordered, champions[int(version) - 1], newest)


def first_alarm(found: Sequence[Alarm], since: date) -> dict[str, int]:
    """For each trigger that fired on a day from `since` on, after how many days it did first."""
    first: dict[str, int] = {}
    for alarm in found:
        if alarm.day >= since:
            first.setdefault(alarm.trigger, (alarm.day - since) // timedelta(days=1) + 1)
    return first


def _checked(
    matured: MaturedDays, references: dict[str, ReferencePerformance], champion: Champion, newest: DayRow
) -> Iterator[Alarm]:
    performance = rules.check_performance(
        matured.newest(SETTINGS.performance_window_days),
        references,
        limit=SETTINGS.performance_limit,
        min_buyers=SETTINGS.min_matured_buyers,
    )
    null = CalibrationNull(
        SETTINGS.calibration_limit,
        champion.reference_buyers,
        float(estimate_overdispersion(matured.promised())),
    )
    calibration = rules.check_calibration(
        matured.newest(CALIBRATION_DAYS), null, len(matured.days), Action.RECALIBRATE
    )
    for check in (performance, calibration):
        if check.fired:
            yield Alarm(check.name, newest.day, check.evidence)
    if newest.drifted is not None and newest.drifted >= SETTINGS.drift_limit:
        yield Alarm(rules.DRIFT, newest.day, f"{newest.drifted:.0%} of the importance")


def _matured(version: str, day: DayRow) -> MaturedDay:
    return MaturedDay(
        midnight(day.day),
        version,
        day.rows,
        day.buyers,
        day.promised,
        day.squares,
        day.true_positives,
        day.false_positives,
    )
