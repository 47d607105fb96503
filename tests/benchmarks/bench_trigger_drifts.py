"""Delay of the triggers after a change of a simulated shop, and what must not fire.

    python -m tests.benchmarks.bench_trigger_drifts [--ages 14 90 365] [--shops 20] [--kinds intent mix ...]

20 shops of 3,000 users (seeds 4000 to 4019) with one model trained on 45 days. When it is 14, 90 or 365 days
old, the shop branches: each drift of `retail simulate`, and none (`none`, which has the announced promotion
days of the calendar). Evidence is that of the 35 days before and the 8 days after the change. Features,
labels, model and reference are real (`trigger_shops`); the triggers are the rules of production, checked
daily, drift at every sixth midnight. No action is taken. Prints one JSON object a line: for each kind and age
the number of shops in which each trigger fired within 3 and within 7 matured days, and before the change.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from pathlib import Path

from tests.benchmarks.bench_trigger_alarms import CACHE
from tests.benchmarks.trigger_replay import alarms, first_alarm
from tests.benchmarks.trigger_shops import DRIFTED_DAYS, Champion, drifting_shops

KINDS = ("intent", "intent_mild", "mix", "volume", "schema", "none")
EXPECTED = {"intent": ("calibration", 3), "intent_mild": ("calibration", 7)}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ages", type=int, nargs="+", default=[14, 90, 365])
    parser.add_argument("--shops", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--cache", type=Path, default=CACHE)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    for age in arguments.ages:
        shops: dict[str, list[Champion]] = {kind: [] for kind in arguments.kinds}
        for seed in range(4000, 4000 + arguments.shops):
            for kind, champion in drifting_shops(arguments.cache, seed, age, arguments.kinds).items():
                shops[kind].append(champion)
            print(f"age {age}: seed {seed}", file=sys.stderr, flush=True)
        for kind, champions in shops.items():
            print(json.dumps({"kind": kind, "age": age} | _summary(kind, champions)), flush=True)


def _summary(kind: str, champions: list[Champion]) -> dict[str, object]:
    within: dict[int, Counter[str]] = {3: Counter(), 7: Counter()}
    before: Counter[str] = Counter()
    promised = observed = 0.0
    for champion in champions:
        changed = champion.days[-DRIFTED_DAYS].day
        found = list(alarms([champion]))
        before.update({alarm.trigger for alarm in found if alarm.day < changed})
        first = first_alarm(found, changed)
        for days, counter in within.items():
            counter.update(trigger for trigger, delay in first.items() if delay <= days)
        promised += sum(day.promised for day in champion.days[-DRIFTED_DAYS:])
        observed += sum(day.buyers for day in champion.days[-DRIFTED_DAYS:])
    return {
        "shops": len(champions),
        "within 3 days": dict(within[3]),
        "within 7 days": dict(within[7]),
        "before the change": dict(before),
        "observed / promised after it": round(observed / promised, 3),
        "expected": EXPECTED.get(kind),
    }


if __name__ == "__main__":
    main()
