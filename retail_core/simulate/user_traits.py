"""Fixed traits of the users, drawn once, with heavy tails as in real logs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.arrays import FloatArray, IntArray
from retail_core.simulate.catalogue import Catalogue
from retail_core.simulate.simulation_config import BURN_IN_DAYS, SimulationConfig
from retail_core.simulate.vectors import sigmoid

PLATFORMS: tuple[str, ...] = ("web", "ios", "android")
_PLATFORM_SHARE = np.array([0.32, 0.28, 0.40])
_PLATFORM_BUYING = np.array([0.10, 0.15, -0.15])
_WEEKDAYS = np.array([0.98, 0.95, 0.94, 0.96, 0.98, 1.07, 1.12])

CHRONOTYPES: tuple[str, ...] = ("early", "office", "evening", "night")
_CHRONOTYPE_SHARE = np.array([0.18, 0.27, 0.42, 0.13])


@dataclass(frozen=True)
class Population:
    """One row per user in every array; (users, k) where a trait has several parts.

    `activity` visits a day while browsing; `buying` shift of the log odds of buying; `need` daily
    chance that browsing turns into intent; `lapse` daily chance of leaving for good; `cart_weight`
    how much an open cart means (0: a parking place); `cart_rate` and `wish_rate` adds per viewed
    item; `sessions` further sessions on a visiting day; `depth` steps in a session; `basket` further
    lines of an order.
    """

    arrival: IntArray
    activity: FloatArray
    buying: FloatArray
    need: FloatArray
    lapse: FloatArray
    cart_weight: FloatArray
    cart_rate: FloatArray
    wish_rate: FloatArray
    search_rate: FloatArray
    sessions: FloatArray
    depth: FloatArray
    basket: FloatArray
    weekday: FloatArray
    chronotype: IntArray
    platforms: IntArray
    tastes: IntArray
    price_level: FloatArray

    @property
    def size(self) -> int:
        """How many users there are."""
        return len(self.arrival)


def draw_population(rng: np.random.Generator, config: SimulationConfig, catalogue: Catalogue) -> Population:
    """Traits of `config.users` users; two thirds are there from the start, the others arrive by day."""
    n = config.users
    newcomer = rng.random(n) < 0.34
    arrival = np.where(newcomer, rng.integers(0, config.days, n), -BURN_IN_DAYS - 1)
    keen, goal = rng.normal(0, 1, n), rng.normal(0, 1, n)
    platforms = rng.choice(3, (n, 2), p=_PLATFORM_SHARE)
    buying = 0.25 * keen + 0.42 * goal + rng.normal(0, 0.12, n) + _PLATFORM_BUYING[platforms[:, 0]]
    return Population(
        arrival=arrival,
        activity=np.exp(-1.4 + 0.85 * keen),
        buying=buying,
        need=np.minimum(np.exp(-3.5 + 0.35 * keen + rng.normal(0, 0.6, n)), 0.35),
        lapse=np.minimum(rng.gamma(0.5, np.where(newcomer, 0.05, 0.01), n), 0.6),
        cart_weight=rng.beta(7.0, 2.5, n),
        cart_rate=np.minimum(np.exp(-2.9 + 0.35 * goal + rng.normal(0, 0.75, n)), 0.5),
        wish_rate=np.minimum(np.exp(-3.9 - 0.5 * goal + rng.normal(0, 1.1, n)), 0.4),
        search_rate=0.45 * sigmoid(-1.3 + 0.7 * goal + rng.normal(0, 0.6, n)),
        sessions=rng.gamma(1.6, 0.42, n),
        depth=np.clip(np.exp(1.36 - 0.3 * goal + rng.normal(0, 0.45, n)), 0.5, 25),
        basket=rng.gamma(0.5, 1.1, n),
        weekday=_weekday_habits(rng, n),
        chronotype=rng.choice(4, n, p=_CHRONOTYPE_SHARE),
        platforms=platforms,
        tastes=rng.choice(len(catalogue.share), (n, 3), p=catalogue.share),
        price_level=rng.beta(1.6, 1.6, n),
    )


def _weekday_habits(rng: np.random.Generator, users: int) -> FloatArray:
    """Visit multipliers (users, 7), Monday first; an eighth of the users keeps to a few days of the week."""
    mild = np.exp(rng.normal(0, 0.25, (users, 7)))
    strict = rng.gamma(0.6, 1.0, (users, 7)) + 0.02
    habits = np.where(rng.random((users, 1)) < 0.12, strict, mild) * _WEEKDAYS
    return np.asarray(habits / habits.mean(axis=1, keepdims=True), dtype=np.float64)
