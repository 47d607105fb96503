"""Retraining policies replayed week by week over two years of a real shop: Online Retail, both years.

    python -m tests.benchmarks.bench_retraining_policies LOG... --cache FOLDER [--first 2010-06-06]
        [--last 2011-12-04] [--every 1]

LOG are the monthly files of both years. Each week the champion's list of every day of the week before has
matured, and the policy decides as `retail retrain` does: trigger rules, decision table, promotion gate,
recalibration, shadow. `weekly` trains every `--every` weeks whatever the triggers say. The trigger `drift` is
left out: it needs the events themselves, and what it requests is a training like any other.

The model of a week is trained once for all policies, on one small budget. Every training, comparison and
recalibration is stored below FOLDER by the hash of data and options, so that an interrupted run continues.
Prints one JSON line: by policy the trainings, recalibrations, verdicts, mean average precision of the weekly
lists, log loss, and promised against observed buyers by month.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, log_loss

from retail_core.arrays import BoolArray, FloatArray
from retail_core.monitoring import trigger_rules as rules
from retail_core.monitoring.calibration_test import CalibrationNull, estimate_overdispersion
from retail_core.monitoring.matured_days import MaturedDay, MaturedDays
from retail_core.monitoring.next_step import RetrainState, Step, decide_step
from retail_core.monitoring.paired_comparison import DayDifference, compare, day_difference
from retail_core.monitoring.past_attempts import PastAttempt, calibration_action, evidence_start
from retail_core.monitoring.performance_test import ReferencePerformance
from retail_core.monitoring.trigger_check import TriggerCheck
from retail_core.monitoring.triggers import CALIBRATION_DAYS
from retail_core.registry.promotion import GateVerdict
from retail_core.training.attempts import AttemptData, AttemptKind, AttemptState, TrainingAttempt
from retail_core.training.champion_comparison import (
    PairedScores,
    comparison_rows,
    decide_promotion,
    score_challenger,
)
from tests.benchmarks.policy_trainings import (
    SETTINGS,
    WEEK,
    Cache,
    ShopRows,
    Training,
    digest_of,
    read_shop,
    recalibrate_at,
    train_at,
    training_data,
)

NEVER, WEEKLY, TRIGGERS, WITH_SHADOW = POLICIES = ("never", "weekly", "triggers", "triggers with shadow")
SHADOW_DAYS, MAX_SHADOWS = 60, 2


@dataclass
class Shadow:
    """A challenger that is compared silently; `days` are the matured days so far."""

    challenger: Training
    days: list[DayDifference] = field(default_factory=list)


@dataclass
class Policy:
    """One policy as it goes through the weeks.

    Attributes:
        name: of `POLICIES`.
        champion: in production.
        attempts: trainings and recalibrations, oldest first.
        references: of each champion so far.
        days: matured lists that were served.
        shadows: challengers that score silently.
        weeks: figures by week.
        counts: what happened, by kind and verdict.
        log: one line per action.
    """

    name: str
    champion: Training
    attempts: list[TrainingAttempt]
    references: dict[str, ReferencePerformance]
    days: list[MaturedDay] = field(default_factory=list)
    shadows: list[Shadow] = field(default_factory=list)
    weeks: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)

    def promote(self, version: Training) -> None:
        """Put a version into production; the shadows of the earlier champion end."""
        self.champion = version
        self.references = {version.name: reference_of(version)} | self.references
        self.shadows = []


@dataclass(frozen=True)
class Replay:
    """The shop, the results that all policies share, and the weeks between trainings of `weekly`."""

    shop: ShopRows
    cache: Cache
    every: int = 1

    def train(self, week: datetime) -> Training:
        """The training of a week."""
        return self.cache.get(f"train-{week:%Y-%m-%d}", lambda: train_at(self.shop, week))

    def judge(self, challenger: Training, champion: Training) -> dict[str, Any]:
        """Verdict and figures of the promotion gate."""
        key = f"gate-{challenger.name}-{champion.name}"
        return self.cache.get(key, lambda: self._judge(challenger, champion))

    def _judge(self, challenger: Training, champion: Training) -> dict[str, Any]:
        data = training_data(self.shop, challenger.as_of)
        rows, matrix, later = comparison_rows(data, champion.as_of, SETTINGS.min_matured_buyers)
        scores, blocks = score_challenger(data, rows, matrix, challenger.config, SETTINGS.seed)
        features = self.shop.matrix[rows["position"].to_numpy()][:, list(champion.columns)]
        pairs = PairedScores(
            rows["user_id"],
            rows["label"].to_numpy(bool),
            champion.model.raw_score(features, "daily"),
            scores,
            later,
            champion.name,
            blocks,
        )
        return decide_promotion(pairs, leaky=False, seed=SETTINGS.seed).to_dict()

    def recalibrate(self, champion: Training, week: datetime) -> Any:
        """The champion recalibrated at a week, see `recalibrate_at`."""
        key = f"recalibration-{champion.name}-{week:%Y-%m-%d}"
        return self.cache.get(key, lambda: recalibrate_at(self.shop, champion, week))


def reference_of(version: Training) -> ReferencePerformance:
    """Reference of a version with its error, as the trigger `performance` uses it."""
    figures = version.reference
    bare = ReferencePerformance(
        version.name, figures["f1"], figures["recall"], figures["false_positive_rate"],
        figures["base_rate"], 0.0, 1.0,
    )  # fmt: skip
    return rules.with_error(bare, figures["n"], figures["positives"], version.f1_interval)


def serve_week(replay: Replay, policy: Policy, week: datetime) -> None:
    """Score the lists of the week before `week` with the champion and the shadows; outcomes are known."""
    shop, champion = replay.shop, policy.champion
    part = shop.between(week - WEEK, week)
    rows = shop.rows[part]
    labels, probability = rows["label"].to_numpy(bool), champion.probability(shop, part)
    others = [shadow.challenger.probability(shop, part) for shadow in policy.shadows]
    times = rows["as_of"].to_numpy()
    for day in np.unique(times):
        of_day = times == day
        policy.days.append(_matured_day(day, champion, labels[of_day], probability[of_day]))
        for shadow, other in zip(policy.shadows, others, strict=True):
            shadow.days.append(day_difference(labels[of_day], probability[of_day], other[of_day]))
    policy.weeks.append(
        {
            "month": f"{week - WEEK:%Y-%m}",
            "ap": float(average_precision_score(labels, probability)) if labels.any() else None,
            "log_loss": float(log_loss(labels, probability, labels=[False, True])),
            "promised": float(probability.sum()),
            "observed": int(labels.sum()),
        }
    )


def _matured_day(
    day: pd.Timestamp, champion: Training, labels: BoolArray, probability: FloatArray
) -> MaturedDay:
    expected = probability >= champion.f1_threshold
    return MaturedDay(
        day.to_pydatetime(),
        champion.name,
        len(labels),
        int(labels.sum()),
        float(probability.sum()),
        float((probability**2).sum()),
        int((expected & labels).sum()),
        int((expected & ~labels).sum()),
    )


def check(policy: Policy, shop: ShopRows, week: datetime) -> list[TriggerCheck]:
    """The triggers, by the rules that production uses."""
    past = [_past(attempt) for attempt in policy.attempts]
    last = max((one for one in past if one.kind == AttemptKind.TRAIN), key=lambda one: one.as_of)
    matured = MaturedDays(tuple(policy.days), 0, {})
    window = matured.since(evidence_start(past, rules.CALIBRATION)).newest(CALIBRATION_DAYS)
    null = CalibrationNull(
        SETTINGS.calibration_limit,
        policy.champion.buyers,
        float(estimate_overdispersion(matured.promised())) if policy.days else 0.0,
    )
    action = calibration_action(past, window.days[0].as_of if window.days else None)
    return [
        rules.check_new_data(
            shop.events_before(week),
            week,
            last,
            limit=SETTINGS.new_data_limit,
            pause=timedelta(days=SETTINGS.retrain_pause_days),
            same_data=False,
        ),
        rules.check_performance(
            matured.since(evidence_start(past, rules.PERFORMANCE)).newest(SETTINGS.performance_window_days),
            policy.references,
            limit=SETTINGS.performance_limit,
            min_buyers=SETTINGS.min_matured_buyers,
        ),
        rules.check_calibration(window, null, len(matured.days), action),
        rules.check_age(week, last, SETTINGS.max_model_age_days),
    ]


def _past(attempt: TrainingAttempt) -> PastAttempt:
    return PastAttempt(
        kind=attempt.kind,
        as_of=attempt.as_of,
        events=attempt.data.events if attempt.data else 0,
        data_hash=None,
        reason=attempt.reason,
        promoted=attempt.verdict == GateVerdict.PROMOTED,
        label=f"the {attempt.kind} attempt of {attempt.as_of:%Y-%m-%d}",
    )


def act(replay: Replay, policy: Policy, week: datetime) -> None:
    """Judge the shadows, check, and do what the policy does."""
    if policy.name == NEVER:
        return
    if policy.name == WITH_SHADOW:
        judge_shadows(policy, week)
    if policy.name == WEEKLY:
        if (week - policy.attempts[-1].as_of) >= replay.every * WEEK:
            train_challenger(replay, policy, week, WEEKLY)
        return
    checks = check(policy, replay.shop, week)
    policy.counts.update(f"fired {one.name}" for one in checks if one.fired)
    newest = {attempt.kind: attempt for attempt in policy.attempts}
    step = decide_step(checks, RetrainState(policy.champion.name, week, newest, frozenset()))
    if step.step == Step.RETRAIN:
        train_challenger(replay, policy, week, step.triggers)
    elif step.step == Step.RECALIBRATE:
        recalibrate_champion(replay, policy, week, step.triggers)


def train_challenger(replay: Replay, policy: Policy, week: datetime, reason: str) -> None:
    """Train, judge, and promote or shadow."""
    challenger = replay.train(week)
    gate = replay.judge(challenger, policy.champion)
    verdict = GateVerdict(gate["verdict"])
    events = AttemptData(replay.shop.events_before(week))
    policy.attempts.append(_attempt(AttemptKind.TRAIN, week, reason, verdict, events))
    policy.counts.update(["trainings", f"trained, {verdict}"])
    policy.log.append(f"{week:%Y-%m-%d} trained ({reason}): {gate['reason']}")
    if verdict == GateVerdict.PROMOTED:
        policy.promote(challenger)
    elif verdict == GateVerdict.SHADOW and policy.name == WITH_SHADOW:
        policy.shadows = [*policy.shadows, Shadow(challenger)][-MAX_SHADOWS:]


def recalibrate_champion(replay: Replay, policy: Policy, week: datetime, reason: str) -> None:
    """Recalibrate, and promote where the gain in log loss is significant."""
    result = replay.recalibrate(policy.champion, week)
    if result is None:
        policy.counts.update(["recalibration not possible"])
        return
    value, low, high = result.gain
    verdict = GateVerdict.PROMOTED if low > 0 else GateVerdict.REJECTED
    policy.attempts.append(_attempt(AttemptKind.RECALIBRATE, week, reason, verdict, None))
    policy.counts.update(["recalibrations", f"recalibrated, {verdict}"])
    policy.log.append(f"{week:%Y-%m-%d} recalibrated: log loss {-value:+.5f} ({-high:+.5f} to {-low:+.5f})")
    if verdict == GateVerdict.PROMOTED:
        policy.promote(result.served)


def judge_shadows(policy: Policy, week: datetime) -> None:
    """Promote a shadow that is ahead; end one that is behind or has been compared long enough."""
    for shadow in list(policy.shadows):
        interval = compare(shadow.days).interval
        low, high = interval or (-np.inf, np.inf)
        if low > 0:
            policy.log.append(f"{week:%Y-%m-%d} shadow {shadow.challenger.name} promoted")
            policy.counts.update(["shadow promoted"])
            policy.promote(shadow.challenger)
            return
        if high < 0 or len(shadow.days) >= SHADOW_DAYS:
            policy.counts.update(["shadow behind" if high < 0 else "shadow undecided"])
            policy.shadows.remove(shadow)


def _attempt(
    kind: AttemptKind, week: datetime, reason: str, verdict: GateVerdict, data: AttemptData | None
) -> TrainingAttempt:
    return TrainingAttempt(
        run_id="",
        kind=kind,
        state=AttemptState.FINISHED,
        started_at=week,
        ended_at=week,
        as_of=week,
        data=data,
        reason=reason,
        champion=None,
        version=None,
        ap_difference=None,
        interval=None,
        verdict=verdict,
        decision=None,
        retryable=False,
        evidence={},
    )


def summarize(policy: Policy) -> dict[str, Any]:
    """Figures of a policy over all weeks, and promised against observed buyers by month."""
    weeks = pd.DataFrame(policy.weeks)
    months = weeks.groupby("month")[["promised", "observed"]].sum()
    return {
        "trainings": policy.counts["trainings"],
        "mean_weekly_ap": round(float(weeks["ap"].mean()), 4),
        "mean_log_loss": round(float(weeks["log_loss"].mean()), 5),
        "promised": round(float(weeks["promised"].sum())),
        "observed": int(weeks["observed"].sum()),
        "counts": dict(sorted(policy.counts.items())),
        "ratio_by_month": {
            str(month): round(float(row["promised"] / max(row["observed"], 1)), 2)
            for month, row in months.iterrows()
        },
        "log": policy.log,
    }


def replay_policies(replay: Replay, weeks: Sequence[datetime]) -> dict[str, Any]:
    """Go through the weeks with every policy."""
    first = replay.train(weeks[0])
    events = AttemptData(replay.shop.events_before(weeks[0]))
    policies = [
        Policy(
            name,
            first,
            [_attempt(AttemptKind.TRAIN, weeks[0], "no champion", GateVerdict.PROMOTED, events)],
            {first.name: reference_of(first)},
        )
        for name in POLICIES
    ]
    for week in weeks[1:]:
        for policy in policies:
            serve_week(replay, policy, week)
            act(replay, policy, week)
        print(
            f"{week:%Y-%m-%d}", {policy.name: policy.weeks[-1]["ap"] for policy in policies}, file=sys.stderr
        )
    return {
        "weeks": len(weeks) - 1,
        "weeks_between_trainings_of_weekly": replay.every,
        "training_seconds": round(float(np.mean([first.seconds])), 1),
        **{policy.name: summarize(policy) for policy in policies},
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--first", type=date.fromisoformat, default=date(2010, 6, 6))
    parser.add_argument("--last", type=date.fromisoformat, default=date(2011, 12, 4))
    parser.add_argument("--every", type=int, default=1, help="weeks between the trainings of `weekly`")
    arguments = parser.parse_args()
    cache = Cache(arguments.cache, digest_of(arguments.logs))
    weeks = pd.date_range(arguments.first, arguments.last, freq="7D", tz="UTC")
    replay = Replay(read_shop(arguments.logs, cache), cache, arguments.every)
    print(json.dumps(replay_policies(replay, [week.to_pydatetime() for week in weeks])))


if __name__ == "__main__":
    main()
