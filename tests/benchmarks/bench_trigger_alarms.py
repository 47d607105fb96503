"""False alarms of the triggers in quiet simulated shops.

    python -m tests.benchmarks.bench_trigger_alarms [--set 1|2|3] [--shops 40] [--days 60] [--retrain]

A set is 40 shops of 3,000 users (seeds 1000 to 1039, 2000 to 2039, 3000 to 3039), each with one model trained
on 45 days and 60 matured days after it, in which nothing changes but the simulator's monthly promotion, whose
two days are announced. Features, labels, model, threshold and reference are real (`trigger_shops`), the
triggers are the rules of production, checked after each matured day; drift at every sixth midnight. With
--retrain the shop is trained again whenever its events have grown by 10 %, and each version is promoted.
Shops are cached in the folder of --cache, so that an interrupted run continues. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.trigger_replay import alarms
from tests.benchmarks.trigger_shops import USERS, Champion, quiet_shop, retrained_shop

CACHE = Path("/tmp/retail-trigger-shops")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument("--shops", type=int, default=40)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--retrain", action="store_true")
    parser.add_argument("--cache", type=Path, default=CACHE)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    started, shops = time.process_time(), []
    for seed in range(1000 * arguments.set, 1000 * arguments.set + arguments.shops):
        if arguments.retrain:
            champions = retrained_shop(arguments.cache, seed, arguments.days)
        else:
            champions = [quiet_shop(arguments.cache, seed, arguments.days)]
        shops.append(_summary(seed, champions))
        print(json.dumps(shops[-1]), file=sys.stderr, flush=True)
    matured = [day for shop in shops for day in shop["days"]]
    print(
        json.dumps(
            {
                "set": arguments.set,
                "retrained": arguments.retrain,
                "shops": len(shops),
                "users": USERS,
                "matured days": sum(day["n"] for day in matured),
                "base rate": round(sum(d["buyers"] for d in matured) / sum(d["rows"] for d in matured), 4),
                "shops with a false alarm": sum(bool(shop["fired"]) for shop in shops),
                "false alarms": {str(shop["seed"]): shop["fired"] for shop in shops if shop["fired"]},
                "trainings by new_data": sum(shop["trainings"] for shop in shops) - len(shops),
                "processor seconds": round(time.process_time() - started),
            }
        )
    )


def _summary(seed: int, champions: list[Champion]) -> dict[str, Any]:
    fired: dict[str, str] = {}
    for alarm in alarms(champions):
        fired.setdefault(alarm.trigger, f"{alarm.day}: {alarm.evidence}")
    days = [day for champion in champions for day in champion.days]
    return {
        "seed": seed,
        "fired": fired,
        "trainings": len(champions),
        "days": [{"n": len(days), "rows": sum(d.rows for d in days), "buyers": sum(d.buyers for d in days)}],
        "promised": round(sum(day.promised for day in days), 1),
    }


if __name__ == "__main__":
    main()
