"""Shadows: power, false promotions, automatic rollback of a planted worse model, and of equal refits.

    python -m tests.benchmarks.bench_shadow [--pairs 200] [--shops 3] [--users 9000] [--cache FOLDER]

Scores come from simulated shops: of each, models are trained on 45 days, a champion and refits of the same
procedure on bootstrap samples of the users, and score the 60 daily lists after (`shadow_scores`). 9,000
accounts give lists of 3,200 users, 3,000 accounts lists of 1,080. In each pair the outcomes are drawn again
from the true probabilities, moved to a base rate of 2 to 6 %, with an effect of each user that lasts over the
days (standard deviation 0.3 of the log odds) and one of each day (0.2); the probabilities of both models are
moved in the same way. A shadow is judged every day, as in production.

- equal: two refits that are exchanged at random for each user and day, so that their expected difference is
  exactly zero; promotions and verdicts "behind" are false.
- better: the champion's log odds are shuffled within 1 to 20 % of the users; a refit shadows it.
- planted: the new champion's log odds are shuffled within half of the users; the version before shadows it.
- refits: one refit was promoted over another; rollbacks are false.

Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import pickle
import time
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from retail_core.arrays import BoolArray, FloatArray, IntArray
from retail_core.model.calibration import expit, logit
from retail_core.monitoring.paired_comparison import day_difference
from retail_core.monitoring.shadow_days import ShadowDay
from retail_core.monitoring.shadow_verdicts import judge
from retail_core.registry.shadow_record import Role, Verdict
from tests.benchmarks.shadow_scores import ShopScores, score_shop

DAYS, REFITS = 60, 6
BASE_RATES = (0.02, 0.03, 0.04, 0.06)
SHUFFLED = (0.01, 0.02, 0.05, 0.2)
USER_EFFECT, DAY_EFFECT = 0.3, 0.2
FIRST_DAY = date(2025, 1, 1)


def load_shops(arguments: argparse.Namespace) -> list[ShopScores]:
    """The shops, from the cache where it has them."""
    shops = []
    for seed in range(arguments.first, arguments.first + arguments.shops):
        file = Path(arguments.cache) / f"shop-{arguments.users}-{seed}.pkl" if arguments.cache else None
        if file and file.exists():
            shops.append(pickle.loads(file.read_bytes()))
            continue
        shops.append(score_shop(arguments.users, DAYS, seed, REFITS, "lightgbm"))
        if file:
            file.write_bytes(pickle.dumps(shops[-1]))
    return shops


@dataclass(frozen=True)
class Lists:
    """The lists of one shop in order of days: users as numbers, true and predicted log odds."""

    users: IntArray
    days: IntArray
    slices: list[slice]
    true: FloatArray
    models: FloatArray

    @classmethod
    def of(cls, shop: ShopScores) -> Lists:
        """The lists of a shop."""
        order = np.argsort(shop.rows["day"].to_numpy(), kind="stable")
        rows = shop.rows.iloc[order]
        days = rows["day"].to_numpy(np.int64)
        edges = np.searchsorted(days, np.arange(DAYS + 1))
        truth = np.clip(rows["truth"].to_numpy(float), 1e-6, 1 - 1e-6)
        users = rows["user_id"].astype("category").cat.codes.to_numpy(np.int64)
        slices = [slice(start, end) for start, end in pairwise(edges.tolist())]
        return cls(users, days, slices, logit(truth), logit(shop.models[:, order]))


class Pair:
    """Outcomes and probabilities of two models on the lists of one shop at one base rate."""

    def __init__(self, lists: Lists, base_rate: float, rng: np.random.Generator) -> None:
        self.lists, self.rng = lists, rng
        shift = shift_to(lists.true, base_rate)
        effects = rng.normal(0, USER_EFFECT, lists.users.max() + 1)[lists.users]
        effects += rng.normal(0, DAY_EFFECT, DAYS)[lists.days]
        self.purchased: BoolArray = rng.random(len(lists.true)) < expit(lists.true + shift + effects)
        first, second = rng.choice(np.arange(1, len(lists.models)), 2, replace=False)
        self.champion, self.other = (expit(lists.models[number] + shift) for number in (first, second))

    def exchange(self) -> None:
        """Exchange the two models at random for each user and day."""
        swapped = self.rng.random(len(self.champion)) < 0.5
        self.champion, self.other = (
            np.where(swapped, self.other, self.champion),
            np.where(swapped, self.champion, self.other),
        )

    def damage_champion(self, share: float) -> None:
        """Shuffle the champion's log odds of each day within a share of the users."""
        selected = (self.rng.random(self.lists.users.max() + 1) < share)[self.lists.users]
        champion = self.champion.copy()
        for rows in self.lists.slices:
            positions = rows.start + np.flatnonzero(selected[rows])
            champion[positions] = self.champion[self.rng.permutation(positions)]
        self.champion = champion

    def shadow_days(self) -> list[ShadowDay]:
        """The matured days."""
        return [
            ShadowDay(
                FIRST_DAY + timedelta(days=number),
                day_difference(self.purchased[rows], self.champion[rows], self.other[rows]),
                "",
            )
            for number, rows in enumerate(self.lists.slices)
        ]


def shift_to(log_odds: FloatArray, base_rate: float) -> float:
    """What to add to the log odds so that their mean probability is the base rate."""
    low, high = -10.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(log_odds + middle).mean() < base_rate else (low, middle)
    return (low + high) / 2


def follow(pair: Pair, role: Role) -> tuple[Verdict | None, int, float]:
    """Verdict of daily judgements, the day it came on, and the relative difference of log loss then."""
    days = pair.shadow_days()
    for count in range(1, DAYS + 1):
        seen = days[:count]
        until = seen[-1].day + timedelta(days=1)
        judgement = judge(role, seen, max_days=DAYS, until=until)
        if judgement.verdict is not None:
            break
    total = sum(day.difference.total for day in days) / sum(day.difference.champion_loss for day in days)
    return judgement.verdict, count, total


def run(shops: list[ShopScores], pairs: int, seed: int) -> dict[str, Any]:
    """The counts of all four parts."""
    rng, lists = np.random.default_rng(seed), [Lists.of(shop) for shop in shops]

    def pair(number: int) -> Pair:
        base_rate = BASE_RATES[number // len(shops) % len(BASE_RATES)]
        return Pair(lists[number % len(shops)], base_rate, rng)

    equal, planted, refits = [], [], []
    better: dict[float, list[tuple[Verdict | None, int, float]]] = {share: [] for share in SHUFFLED}
    for number in range(pairs):
        exchanged = pair(number)
        exchanged.exchange()
        equal.append(follow(exchanged, Role.CHALLENGER))
        share = SHUFFLED[number // (len(shops) * len(BASE_RATES)) % len(SHUFFLED)]
        damaged = pair(number)
        damaged.damage_champion(share)
        better[share].append(follow(damaged, Role.CHALLENGER))
        worse = pair(number)
        worse.damage_champion(0.5)
        planted.append(follow(worse, Role.PREVIOUS))
        refits.append(follow(pair(number), Role.PREVIOUS))
    return {
        "pairs": pairs,
        "equal": counts(equal),
        "better": {f"{share:.0%}": counts(results) | power(results) for share, results in better.items()},
        "planted": counts(planted) | within_week(planted),
        "refits": counts(refits),
    }


def counts(results: list[tuple[Verdict | None, int, float]]) -> dict[str, int]:
    """Number of pairs by verdict."""
    verdicts = [str(verdict) for verdict, _, _ in results]
    return {name: verdicts.count(name) for name in sorted(set(verdicts))}


def power(results: list[tuple[Verdict | None, int, float]]) -> dict[str, float]:
    """Share promoted, median day of the promotion, mean relative difference of log loss."""
    days = [day for verdict, day, _ in results if verdict is Verdict.PROMOTED]
    return {
        "power": round(len(days) / max(len(results), 1), 3),
        "median_day": float(np.median(days)) if days else 0.0,
        "log_loss": round(float(np.mean([difference for _, _, difference in results] or [0.0])), 4),
    }


def within_week(results: list[tuple[Verdict | None, int, float]]) -> dict[str, float]:
    """Share rolled back within 7 matured days, and the median day."""
    days = np.array([day for verdict, day, _ in results if verdict is Verdict.ROLLED_BACK])
    return {
        "within_7_days": round(float((days <= 7).sum()) / len(results), 3),
        "median_day": float(np.median(days)) if len(days) else 0.0,
        "log_loss": round(float(np.mean([difference for _, _, difference in results])), 4),
    }


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--shops", type=int, default=3)
    parser.add_argument("--first", type=int, default=21)
    parser.add_argument("--users", type=int, default=9_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cache", default="")
    arguments = parser.parse_args()
    shops = load_shops(arguments)
    started = time.perf_counter()
    lists = {
        "users_a_day": round(float(np.mean([len(shop.rows) / DAYS for shop in shops]))),
        "base_rate": round(float(np.mean([shop.rows["label"].mean() for shop in shops])), 4),
    }
    result = run(shops, arguments.pairs, arguments.seed)
    print(json.dumps(lists | result | {"seconds": round(time.perf_counter() - started)}))


if __name__ == "__main__":
    main()
