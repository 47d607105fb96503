"""The simulation: day after day, truth before the day, events after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from retail_core.arrays import BoolArray, FloatArray
from retail_core.errors import InputError
from retail_core.simulate.acts import TYPE
from retail_core.simulate.browsing import Shop
from retail_core.simulate.catalogue import draw_catalogue
from retail_core.simulate.day import DayEvents, Numbering, Refunds, events_of, merge
from retail_core.simulate.intent import new_hidden, odds_of, simulate_day
from retail_core.simulate.output_files import Renderer, check_target, open_writer, truth_schema
from retail_core.simulate.simulation_config import (
    BURN_IN_DAYS,
    Day,
    SimulationConfig,
    SimulationReport,
    calendar,
)
from retail_core.simulate.user_traits import draw_population

DayProgress = Callable[[int, int], None]


class World:
    """The simulated users and their state; each call of `tomorrow` simulates one more day."""

    def __init__(self, config: SimulationConfig) -> None:
        catalogue = draw_catalogue(_random(config, 0))
        self.population = draw_population(_random(config, 1), config, catalogue)
        self.hidden = new_hidden(_random(config, 2), self.population)
        self.catalogue = catalogue
        self._config = config
        self._numbering = Numbering()
        self._refunds = Refunds.none()

    def tomorrow(self, day: Day) -> tuple[FloatArray, BoolArray, DayEvents]:
        """Simulate `day`.

        Returns:
            for every user the exact probability of a purchase on it as of its midnight, whether the
            user purchased, and the day's events.
        """
        rng = _random(self._config, 3 + BURN_IN_DAYS + day.index)
        odds = odds_of(self.population, self.hidden, day)
        visits = simulate_day(rng, self.population, self.hidden, odds, day)
        shop = Shop(self.population, self.catalogue, self.hidden, day)
        events = events_of(rng, shop, visits, self._numbering)
        bought = events.take(events.kind == TYPE["purchase"])
        item_prices = self.catalogue.price_on(promotion=day.promotion)
        due = self._refunds.falling_due(day.index)
        self._refunds.draw(rng, bought, item_prices, day.index)
        purchased = np.zeros(self.population.size, dtype=bool)
        purchased[bought.user] = True
        return odds.purchase, purchased, merge([events, due]).in_time()


def simulate(
    config: SimulationConfig, out: Path, truth: Path | None = None, progress: DayProgress | None = None
) -> SimulationReport:
    """Write a canonical log, and on request each user's true probability at each midnight (UTC).

    Args:
        config: population, period, seed, drift.
        out: the log, `.csv` or `.csv.gz`; replaced only when complete.
        truth: `user_id, as_of, probability, purchased` for each account that exists at the midnight,
            `.csv`, `.csv.gz` or `.parquet`.
        progress: called after each day with (days written, days).

    Raises:
        InputError: a file cannot be written.
    """
    started = time.perf_counter()
    check_target(out, "log")
    if truth is not None:
        check_target(truth, "truth")
        if truth.resolve() == out.resolve():
            raise InputError("Log and truth have the same file name.", remedy="name two files.")
    world = World(config)
    renderer = Renderer(world.catalogue, config.users)
    has_events = np.zeros(config.users, dtype=bool)
    events = purchases = 0
    with ExitStack() as stack:
        log = stack.enter_context(open_writer(out, renderer.schema))
        truth_file = stack.enter_context(open_writer(truth, truth_schema(truth))) if truth else None
        for day in calendar(config):
            probability, purchased, acted = world.tomorrow(day)
            if day.index < 0:
                continue
            log.write_batch(renderer.batch(acted, day))
            if truth and truth_file:
                present = np.flatnonzero(world.population.arrival < day.index)
                text = truth.suffix != ".parquet"
                truth_file.write_batch(
                    renderer.truth(present, probability[present], purchased[present], day.date, text=text)
                )
            has_events[acted.user] = True
            events += len(acted.user)
            purchases += int((acted.kind == TYPE["purchase"]).sum())
            if progress is not None:
                progress(day.index + 1, config.days)
    return SimulationReport(events, int(has_events.sum()), purchases, time.perf_counter() - started)


def _random(config: SimulationConfig, stream: int) -> np.random.Generator:
    """One generator per purpose and day, so that a drift leaves everything before it as it was."""
    return np.random.default_rng([config.seed, stream])
