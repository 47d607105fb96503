"""Promised against observed buyers after the action on a change of a simulated shop.

    python -m tests.benchmarks.bench_trigger_recovery [--ages 14] [--shops 20] [--kinds intent intent_mild]

The shops, seeds and changes are those of `bench_trigger_drifts`, each followed for 22 days after the change.
From the first alarm of `calibration` on, a recalibration is tried at each midnight, by the procedure and the
gate of production, until one is promoted; where the trigger fires again on later days, the shop is trained
again, without a gate. Judged are the lists after the first promotion, at least 14. The interval of a shop is
the trigger's: chance, day effect and the error of the level that the recalibration was fitted to.

Prints one JSON object a line: by kind and age, the shops with an action, its delay, observed over promised
buyers after it, pooled, and the number of shops whose interval includes no deviation.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from retail_core.arrays import FloatArray
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.evaluation.metrics import log_loss_improvement
from retail_core.monitoring.calibration_test import (
    E_LIMIT,
    CalibrationNull,
    PromisedDays,
    calibration_evidence,
    estimate_overdispersion,
    observed_deviation,
)
from retail_core.monitoring.trigger_rules import MIN_PROMISED
from retail_core.simulate import SimulationConfig, is_promotion
from retail_core.training.recalibration_fit import fit_recalibration
from retail_core.training.recalibration_rows import MAX_DAYS, assign_periods
from tests.benchmarks.bench_trigger_alarms import CACHE
from tests.benchmarks.trigger_replay import SETTINGS, alarms, first_alarm
from tests.benchmarks.trigger_shops import (
    GOAL,
    TRAIN_DAYS,
    USERS,
    BranchLake,
    FittedModel,
    ScoredDays,
    Shop,
    day_rows,
    fit_champion,
    midnight,
    score_days,
    settling_days,
)

FOLLOWED_DAYS, JUDGED_DAYS = 22, 14


@dataclass(frozen=True)
class Recovery:
    """A shop after the action.

    Attributes:
        alarm: days from the change to the first alarm; None without one.
        action: days from the change to the promotion; None without one.
        retrained: whether the trigger fired again.
        promised: buyers promised after the action.
        observed: buyers that came.
        deviation: observed / promised - 1.
        interval: 95 % interval of it.
    """

    alarm: int | None
    action: int | None = None
    retrained: bool = False
    promised: float = 0.0
    observed: int = 0
    deviation: float = 0.0
    interval: tuple[float, float] = (0.0, 0.0)


def recover(cache: Path, seed: int, age: int, kind: str) -> Recovery:
    """One shop, from the cache where it is there."""
    file = cache / f"recovery-{kind}-{age}-{seed}.json"
    if file.is_file():
        stored = json.loads(file.read_text())
        return Recovery(**stored | {"interval": tuple(stored["interval"])})
    recovery = _simulate(seed, age, kind)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(recovery)))
    partial.replace(file)
    return recovery


def _simulate(seed: int, age: int, kind: str) -> Recovery:
    begin = TRAIN_DAYS + age
    config = SimulationConfig(users=USERS, days=begin + FOLLOWED_DAYS + 1, seed=seed, start=date(2025, 1, 1))
    changed = config.start + timedelta(days=begin)
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(config, Path(folder))
        fitted = fit_champion(shop.live_until(begin), config.start + timedelta(days=TRAIN_DAYS))
        lake, events = shop.branch(kind, FOLLOWED_DAYS + 1)
        dates = settling_days(config, begin, FOLLOWED_DAYS)
        scored = score_days(lake, fitted, dates)
        champion = replace(fitted.champion, days=day_rows(scored, fitted, events, with_drift=False))
        delay = first_alarm(list(alarms([champion])), changed).get("calibration")
        if delay is None:
            return Recovery(None)
        for action in range(delay, FOLLOWED_DAYS - JUDGED_DAYS + 1):
            model = _promoted_recalibration(fitted, scored, changed + timedelta(days=action))
            if model is not None:
                return _judge(_Action(lake, fitted, scored, model, changed, action), delay)
        return Recovery(delay)


def _promoted_recalibration(
    fitted: FittedModel, scored: ScoredDays, until: date
) -> tuple[CalibratedRanker, int] | None:
    """The recalibrated model and the buyers it was fitted to; None where the gate keeps the champion."""
    rows = scored.rows
    first = max(fitted.champion.trained_until, until - timedelta(days=MAX_DAYS))
    known = rows["as_of"].ge(midnight(first)) & rows["as_of"].lt(midnight(until))
    known_rows = assign_periods(rows[known].reset_index(drop=True), "daily")
    data = replace(fitted.data, rows=known_rows, matrix=scored.matrix[known.to_numpy(bool)])
    fit = fit_recalibration(fitted.served, data, GOAL)
    judged = fit.judged_rows["daily"]
    before = fitted.served.calibrate(judged.raw, "daily")
    if log_loss_improvement(judged, before, SETTINGS.seed)[1] <= 0:
        return None
    return fit.model, int(known_rows["label"].to_numpy(bool)[fit.fitted].sum())


@dataclass(frozen=True)
class _Action:
    lake: BranchLake
    fitted: FittedModel
    scored: ScoredDays
    recalibrated: tuple[CalibratedRanker, int]
    changed: date
    delay: int


def _judge(action: _Action, alarm: int) -> Recovery:
    """Lists after the action; from the midnight at which the trigger fires again on, those of a new model."""
    model, fitted_buyers = action.recalibrated
    since = action.changed + timedelta(days=action.delay)
    later = (action.scored.rows["as_of"] >= midnight(since)).to_numpy(bool)
    rows, matrix = action.scored.rows[later].reset_index(drop=True), action.scored.matrix[later]
    probability = model.probability(matrix, "daily")
    days = _promised_days(rows, probability)
    again = _fires_again(days, fitted_buyers)
    if again is not None:
        retrained_on = since + timedelta(days=again)
        newer = fit_champion(action.lake, retrained_on)
        dates = [since + timedelta(days=n) for n in range(again, len(days.promised))]
        rescored = score_days(action.lake, newer, [day for day in dates if day >= retrained_on])
        replaced = rows["as_of"].ge(midnight(retrained_on)).to_numpy(bool)
        rows = pd.concat([rows[~replaced], rescored.rows], ignore_index=True)
        probability = np.concatenate([probability[~replaced], rescored.rows["probability"].to_numpy(float)])
        days = _promised_days(rows, probability)
    null = CalibrationNull(SETTINGS.calibration_limit, fitted_buyers, float(estimate_overdispersion(days)))
    deviation, interval = observed_deviation(days, null)
    return Recovery(
        alarm,
        action.delay,
        again is not None,
        float(days.promised.sum()),
        int(days.observed.sum()),
        deviation,
        interval,
    )


def _promised_days(rows: pd.DataFrame, probability: FloatArray) -> PromisedDays:
    """By midnight, without announced promotion days."""
    frame = pd.DataFrame({"p": probability, "square": probability**2, "label": rows["label"].astype(int)})
    by_day = frame.groupby(rows["as_of"].dt.date.to_numpy(object), sort=True).sum()
    kept = by_day[[not is_promotion(day) for day in by_day.index]]
    return PromisedDays(
        kept["p"].to_numpy(float), kept["square"].to_numpy(float), kept["label"].to_numpy(int)
    )


def _fires_again(days: PromisedDays, fitted_buyers: int) -> int | None:
    """After how many days of the recalibrated model the trigger fires; None if it does not."""
    for end in range(2, len(days.promised) + 1):
        part = PromisedDays(days.promised[:end], days.squares[:end], days.observed[:end])
        null = CalibrationNull(
            SETTINGS.calibration_limit, fitted_buyers, float(estimate_overdispersion(part))
        )
        if part.promised.sum() >= MIN_PROMISED and calibration_evidence(part, null).e_value >= E_LIMIT:
            return end
    return None


def _summary(found: list[Recovery]) -> dict[str, object]:
    acted = [recovery for recovery in found if recovery.action is not None]
    promised, observed = sum(r.promised for r in acted), sum(r.observed for r in acted)
    return {
        "shops": len(found),
        "alarm": sum(recovery.alarm is not None for recovery in found),
        "recalibration promoted": len(acted),
        "days to it, median": float(np.median([r.action for r in acted if r.action])) if acted else None,
        "trained again": sum(recovery.retrained for recovery in acted),
        "observed / promised": round(observed / promised, 3) if promised else None,
        "interval includes 1": sum(r.interval[0] <= 0 <= r.interval[1] for r in acted),
    }


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ages", type=int, nargs="+", default=[14])
    parser.add_argument("--shops", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", default=["intent", "intent_mild"])
    parser.add_argument("--cache", type=Path, default=CACHE)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    for age in arguments.ages:
        for kind in arguments.kinds:
            found = []
            for seed in range(4000, 4000 + arguments.shops):
                found.append(recover(arguments.cache, seed, age, kind))
                print(f"{kind}, age {age}: seed {seed}", file=sys.stderr, flush=True)
            print(json.dumps({"kind": kind, "age": age} | _summary(found)), flush=True)


if __name__ == "__main__":
    main()
