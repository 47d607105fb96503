"""False alarms and power of the triggers `performance` and `calibration`, from simulated daily counts.

    python -m tests.benchmarks.bench_trigger_statistics [--shops 300] [--triggers performance calibration]

No shop and no model: the counts of each matured day are drawn (buyers Poisson or binomial times a normal day
effect, hits and false positives binomial), and the pure functions of the triggers inspect them daily. A false
alarm is any alarm within 365 matured days. Base rate 3.2 %, reference of a week, with its error drawn once a
shop. Prints one JSON object a line: the scenario, and the share of shops with an alarm (a simulation error of
about 1 % at 300 shops).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from retail_core.arrays import BoolArray, FloatArray, IntArray
from retail_core.monitoring import calibration_test, performance_test
from retail_core.monitoring.calibration_test import CalibrationNull, PromisedDays, estimate_overdispersion
from retail_core.monitoring.performance_test import ConfusionDays, ReferencePerformance
from retail_core.monitoring.trigger_rules import MIN_PROMISED, with_error

BASE_RATE, RECALL, RATE, LIMIT, TOLERANCE = 0.032, 0.36, 0.026, 0.95, 0.1
PERFORMANCE_WINDOW, CALIBRATION_WINDOW, MIN_BUYERS, YEAR = 14, 28, 50, 365


@dataclass(frozen=True)
class PerformanceScenario:
    """Buyers a day, and the fall of the true F1 below the true F1 of the reference."""

    buyers: float
    fall: float


@dataclass(frozen=True)
class CalibrationScenario:
    """Promised buyers a day, the true ratio of observed to promised, day effect, buyers of the reference."""

    promised: float
    ratio: float
    day_effect: float
    reference_buyers: int


def performance_alarms(scenario: PerformanceScenario, shops: int, days: int, seed: int = 1) -> BoolArray:
    """Whether each shop has an alarm by each day, shape (shops, days)."""
    rng = np.random.default_rng(seed)
    scale = BASE_RATE * RECALL + (1 - BASE_RATE) * RATE + BASE_RATE
    bare = ReferencePerformance("1", 2 * BASE_RATE * RECALL / scale, RECALL, RATE, BASE_RATE, 0.0, 1.0)
    buyers = 7 * scenario.buyers
    error = performance_test.independent_relative_error(bare, buyers, buyers / BASE_RATE)
    half = 1.96 * error * bare.f1
    reference = with_error(bare, buyers / BASE_RATE, buyers, (bare.f1 - half, bare.f1 + half))
    f1 = bare.f1 * (1 - scenario.fall) * np.maximum(1 + rng.normal(0, error, shops), 0.05)
    recall = np.clip(f1 * ((1 - BASE_RATE) * RATE + BASE_RATE) / (BASE_RATE * (2 - f1)), 0.001, 0.99)
    bought = rng.poisson(scenario.buyers, (shops, days))
    others = rng.poisson(scenario.buyers / BASE_RATE, (shops, days))
    hits, mistaken = rng.binomial(bought, recall[:, None]), rng.binomial(others, RATE)
    fired = np.zeros((shops, days), dtype=bool)
    for end in range(1, days + 1):
        part = slice(max(0, end - PERFORMANCE_WINDOW), end)
        version = np.zeros(len(range(days)[part]), dtype=np.int64)
        window = ConfusionDays(
            bought[:, part], others[:, part], hits[:, part], mistaken[:, part], (reference,), version
        )
        log_e = performance_test.start_log_e_values(window, LIMIT)
        enough = bought[:, part].sum(axis=1) >= MIN_BUYERS
        fired[:, end - 1] = (_sum(log_e) >= performance_test.E_LIMIT) & enough
    return np.asarray(np.maximum.accumulate(fired, axis=1))


def calibration_alarms(
    scenario: CalibrationScenario, shops: int, days: int, *, quiet: int = 0, seed: int = 1
) -> BoolArray:
    """Whether each shop has an alarm by each day after `quiet` days with a ratio of 1."""
    rng = np.random.default_rng(seed)
    total = quiet + days
    trials = np.maximum(np.round(scenario.promised / 0.17 * rng.normal(1, 0.15, (shops, total))), 1)
    promised = 0.17 * trials
    ratio = np.where(np.arange(total) < quiet, 1.0, scenario.ratio)
    error = np.exp(rng.normal(0, scenario.reference_buyers**-0.5, (shops, 1)))
    effect = rng.normal(1, scenario.day_effect, (shops, total))
    observed = rng.binomial(trials.astype(int), np.clip(0.17 * ratio * error * effect, 0, 1))
    fired = np.zeros((shops, total), dtype=bool)
    for end in range(max(2, quiet), total + 1):
        fired[:, end - 1] = _calibration_fires(
            promised[:, :end][:, -CALIBRATION_WINDOW:],
            observed[:, :end][:, -CALIBRATION_WINDOW:],
            scenario.reference_buyers,
        )
    return np.asarray(np.maximum.accumulate(fired, axis=1)[:, quiet:])


def _calibration_fires(promised: FloatArray, observed: IntArray, reference_buyers: int) -> BoolArray:
    days = PromisedDays(promised, 0.17 * promised, observed)
    null = CalibrationNull(TOLERANCE, reference_buyers, estimate_overdispersion(days))
    e_values = _sum(calibration_test.start_log_e_values(days, null))
    return np.asarray((e_values >= calibration_test.E_LIMIT) & (promised.sum(axis=1) >= MIN_PROMISED))


def _sum(log_e: FloatArray) -> FloatArray:
    return np.asarray(np.exp(np.minimum(log_e, 50)).sum(axis=1))


def performance_tables(shops: int) -> Iterator[dict[str, object]]:
    """False alarms by buyers a day, and power by buyers in the window."""
    for buyers in (5, 33, 300, 3_000):
        for fall in (0.0, 0.05):
            fired = performance_alarms(PerformanceScenario(buyers, fall), shops, YEAR)
            yield {"buyers a day": buyers, "fall": fall, "alarm in a year": _share(fired)}
    for buyers in (4, 15, 36, 150, 700):
        for fall in (0.05, 0.1, 0.2, 0.3):
            fired = performance_alarms(PerformanceScenario(buyers, fall), shops, 28)
            found = {f"in {n} days": _share(fired[:, :n]) for n in (14, 28)}
            yield {"buyers in 14 days": 14 * buyers, "fall": fall} | found


def calibration_tables(shops: int) -> Iterator[dict[str, object]]:
    """Power by promised buyers a day, and false alarms by ratio, day effect and reference."""
    for promised in (5, 33, 300):
        for fall in (0.1, 0.2, 0.3, 0.4, 0.5):
            scenario = CalibrationScenario(promised, 1 - fall, 0.05, 1_000)
            fired = calibration_alarms(scenario, shops, 14, quiet=28)
            found = {f"in {n} days": _share(fired[:, :n]) for n in (3, 7, 14)}
            yield {"promised a day": promised, "fall": fall} | found
    for promised, ratio, effect, buyers in (
        (33, 1, 0.05, 1_000), (5, 1, 0.05, 1_000), (300, 1, 0.05, 1_000), (33, 1, 0.1, 1_000),
        (33, 1, 0.05, 200), (33, 0.95, 0.05, 1_000), (33, 0.9, 0.05, 1_000),
    ):  # fmt: skip
        scenario = CalibrationScenario(promised, ratio, effect, buyers)
        yield asdict(scenario) | {"alarm in a year": _share(calibration_alarms(scenario, shops, YEAR))}


def _share(fired: BoolArray) -> float:
    return round(float(fired[:, -1].mean()), 3)


def main() -> None:
    """Measure, print."""
    tables = {"performance": performance_tables, "calibration": calibration_tables}
    parser = argparse.ArgumentParser()
    parser.add_argument("--shops", type=int, default=300)
    parser.add_argument("--triggers", nargs="+", choices=tables, default=list(tables))
    arguments = parser.parse_args()
    for trigger in arguments.triggers:
        for row in tables[trigger](arguments.shops):
            print(json.dumps({"trigger": trigger} | row), flush=True)


if __name__ == "__main__":
    main()
