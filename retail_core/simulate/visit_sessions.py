"""Sessions of a visiting day: number, depth, platform, category of interest and time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.arrays import BoolArray, FloatArray, IntArray
from retail_core.simulate.catalogue import TRENDING
from retail_core.simulate.intent import INTENT, Hidden, Visits
from retail_core.simulate.simulation_config import Day
from retail_core.simulate.user_traits import Population
from retail_core.simulate.vectors import rank_in_group

_MAX_SESSIONS = 8
_MAX_STEPS = 80
_MAX_SECONDS = 5_400.0
_APART_SECONDS = 1_860.0
_DAY_SECONDS = 86_399.0
_ANDROID = 2

_MORE_SESSIONS = np.array([0.5, 0.75, 1.6])
_DEPTH = np.array([0.7, 0.95, 1.4])

# Relative traffic per hour of the day, one row per chronotype (early, office, evening, night).
_HOURS = np.array(
    [
        [2, 1, 1, 1, 2, 5, 8, 9, 8, 7, 6, 5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 5, 3, 2],
        [2, 1, 0.5, 0.4, 0.5, 1, 2, 4, 5, 6, 7, 7, 9, 8, 7, 6, 6, 6, 5, 5, 5, 5, 4, 2],
        [3, 1.5, 0.7, 0.4, 0.4, 0.6, 1.2, 2, 2.5, 3, 3.5, 4, 4.5, 4.5, 4, 4, 4.5, 5, 6, 9, 12, 13, 11, 6],
        [9, 6, 3.5, 2, 1, 0.6, 0.8, 1, 1.2, 1.6, 2, 2.5, 3, 3, 3.5, 4, 4, 4, 4, 5, 6, 8, 10, 10],
    ]
)
_CUMULATIVE = np.concatenate(
    [np.zeros((4, 1)), np.cumsum(_HOURS / _HOURS.sum(axis=1, keepdims=True), axis=1)], axis=1
)


@dataclass(frozen=True)
class DaySessions:
    """One row per session, those of a user together in time order.

    `rank` counts a user's sessions of the day from 0; `visit` points into `Visits`; `steps` are the
    pages looked at; `focus` is the category the session is about; `mood` that of the user's day.
    """

    user: IntArray
    visit: IntArray
    rank: IntArray
    mood: IntArray
    steps: IntArray
    platform: IntArray
    focus: IntArray

    @property
    def count(self) -> int:
        """How many sessions the day has."""
        return len(self.user)


def open_sessions(
    rng: np.random.Generator, population: Population, hidden: Hidden, visits: Visits, day: Day
) -> DaySessions:
    """Draw the sessions of the day's visitors."""
    further = rng.poisson(population.sessions[visits.user] * _MORE_SESSIONS[visits.mood])
    further = further + (visits.buys & (rng.random(len(further)) < 0.25))
    visit = np.repeat(np.arange(len(visits.user)), np.minimum(1 + further, _MAX_SESSIONS))
    user, mood = visits.user[visit], visits.mood[visit]
    mean = population.depth[user] * _DEPTH[mood]
    steps = 1 + rng.poisson(rng.gamma(0.62, mean / 0.62))
    usual = rng.random(len(user)) < 0.86
    platform = np.where(usual, population.platforms[user, 0], population.platforms[user, 1])
    sticks = rng.random(len(user)) < np.where(mood == INTENT, 0.75, 0.1)
    taste = population.tastes[user, rng.integers(0, 3, len(user))]
    focus = np.where(sticks, hidden.focus[user], taste)
    if day.drift == "mix":
        platform = np.where(rng.random(len(user)) < 0.5, _ANDROID, platform)
        focus = trending(rng, focus)
    return DaySessions(
        user=user,
        visit=visit,
        rank=rank_in_group(user),
        mood=mood,
        steps=np.minimum(steps, _MAX_STEPS),
        platform=platform,
        focus=focus,
    )


def trending(rng: np.random.Generator, category: IntArray) -> IntArray:
    """45 % of the categories replaced by small ones: what the drift `mix` does to interest."""
    moves = rng.random(len(category)) < 0.45
    return np.where(moves, TRENDING[rng.integers(0, len(TRENDING), len(category))], category)


def offsets(rng: np.random.Generator, session: IntArray, relative_gap: FloatArray) -> FloatArray:
    """Seconds since the session's start for each event, in order; `session` is sorted.

    `relative_gap` multiplies the usual gap of 40 s before an event; 0 means at the same instant.
    Gaps are lognormal and at least a second, a session lasts 90 minutes at most.
    """
    gap = np.clip(np.exp(3.7 + rng.normal(0, 1.3, len(session))) * relative_gap, 1.0, 1_500.0)
    first = rank_in_group(session) == 0
    gap = np.where((relative_gap == 0) | first, 0.0, gap)
    total = np.cumsum(gap)
    start = np.maximum.accumulate(np.where(first, np.arange(len(session)), 0))
    since = total - total[start]
    longest = np.zeros(int(session[-1]) + 1 if len(session) else 0)
    np.maximum.at(longest, session, since)
    squeeze = np.minimum(1.0, _MAX_SECONDS / np.maximum(longest, 1.0))
    return np.asarray(since * squeeze[session], dtype=np.float64)


def starts(
    rng: np.random.Generator, population: Population, sessions: DaySessions, length: FloatArray
) -> FloatArray:
    """Second of the day at which each session starts: by the user's chronotype, never overlapping.

    A user's sessions keep 31 minutes between them and end before midnight.
    """
    kind = population.chronotype[sessions.user]
    place: FloatArray = np.empty(sessions.count)
    draw = rng.random(sessions.count)
    for chronotype, cumulative in enumerate(_CUMULATIVE):
        is_type = kind == chronotype
        place[is_type] = np.interp(draw[is_type], cumulative, np.linspace(0, 1, 25))
    place = np.asarray(
        np.sort(sessions.visit + np.minimum(place, 1 - 1e-9)) - sessions.visit, dtype=np.float64
    )
    occupied = length + _APART_SECONDS
    before = np.cumsum(occupied) - occupied
    first = sessions.rank == 0
    before = before - np.maximum.accumulate(np.where(first, before, 0.0))
    busy = np.bincount(sessions.visit, weights=occupied)
    return np.asarray(place * (_DAY_SECONDS - busy[sessions.visit]) + before, dtype=np.float64)


def order_session(rng: np.random.Generator, sessions: DaySessions, buys: BoolArray) -> IntArray:
    """For each buying visit (ascending) the session in which the order is placed, rather a later one."""
    count = np.bincount(sessions.visit, minlength=len(buys))
    last = np.cumsum(count) - 1
    visit = np.flatnonzero(buys)
    late = np.maximum(rng.random(len(visit)), rng.random(len(visit)))
    return last[visit] - ((1 - late) * count[visit]).astype(np.int64)
