"""The hidden state of users (mood, cart, open check-out) and the exact odds of buying that follow.

At each midnight a user is in one of three moods or gone. In the night the mood moves (a Markov step),
then a visit is drawn, then whether the visiting day ends in a purchase. All three are single draws with
known odds, so the probability of buying before the next midnight is a sum of three products: exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.arrays import BoolArray, FloatArray, IntArray
from retail_core.simulate.simulation_config import Day
from retail_core.simulate.user_traits import Population
from retail_core.simulate.vectors import choose, rank_in_group, sigmoid

DORMANT, BROWSING, INTENT, GONE, UNBORN = range(5)
CART_SLOTS = 10
RECENT_SLOTS = 4

_VISIT_FACTOR = np.array([0.045, 1.0, 3.0])
_VISIT_BASE = np.array([0.0, 0.0, 1.2])
_BUY_LOGIT = np.array([-4.9, -4.3, -3.25])
_AFTER_PURCHASE = np.array([0.35, 0.48, 0.17])
_DRIFT_ODDS = {"intent": 0.4, "intent_mild": 0.6}
LONG_AGO = -1_000
_TASTE_SHARE = np.array([0.6, 0.25, 0.15])
_FIRST_MOOD = np.array([0.0, 0.72, 0.28])


@dataclass
class Hidden:
    """The changing state of the users; `cart_*` are (users, CART_SLOTS), -1 marks an empty slot."""

    mood: IntArray
    focus: IntArray
    recent: IntArray
    cart_item: IntArray
    cart_day: IntArray
    cart_quantity: IntArray
    cart_next: IntArray
    checkout_day: IntArray

    def put_in_cart(self, user: IntArray, item: IntArray, quantity: IntArray, day: int) -> None:
        """Add items to the carts of `user` (sorted); in a full cart the oldest slots are overwritten."""
        slot = (self.cart_next[user] + rank_in_group(user)) % CART_SLOTS
        self.cart_item[user, slot] = item
        self.cart_day[user, slot] = day
        self.cart_quantity[user, slot] = quantity
        self.cart_next += np.bincount(user, minlength=len(self.cart_next))

    def take_from_cart(self, user: IntArray, item: IntArray) -> None:
        """Remove those items wherever they are in those users' carts."""
        row, slot = np.nonzero(self.cart_item[user] == item[:, None])
        self.cart_item[user[row], slot] = -1


@dataclass(frozen=True)
class Odds:
    """Odds of one day, all (users, 3) over the moods: moving into it, visiting in it, buying if visiting."""

    move: FloatArray
    visit: FloatArray
    buy: FloatArray

    @property
    def purchase(self) -> FloatArray:
        """Exact probability, shape (users,), of at least one purchase on the day."""
        return np.asarray((self.move * self.visit * self.buy).sum(axis=1), dtype=np.float64)


@dataclass(frozen=True)
class Visits:
    """The day's visitors (ascending user index), their mood and whether they buy."""

    user: IntArray
    mood: IntArray
    buys: BoolArray


def new_hidden(rng: np.random.Generator, population: Population) -> Hidden:
    """The state before the burn-in: empty carts, moods near their long-run shares."""
    n = population.size
    mood = rng.choice(3, n, p=[0.55, 0.38, 0.07])
    return Hidden(
        mood=np.where(population.arrival >= 0, UNBORN, mood).astype(np.int64),
        focus=population.tastes[:, 0].copy(),
        recent=np.full((n, RECENT_SLOTS), -1, dtype=np.int64),
        cart_item=np.full((n, CART_SLOTS), -1, dtype=np.int64),
        cart_day=np.zeros((n, CART_SLOTS), dtype=np.int64),
        cart_quantity=np.zeros((n, CART_SLOTS), dtype=np.int64),
        cart_next=np.zeros(n, dtype=np.int64),
        checkout_day=np.full(n, LONG_AGO),
    )


def odds_of(population: Population, hidden: Hidden, day: Day) -> Odds:
    """The odds of `day`, given the hidden state at its midnight and the announced calendar only."""
    stir = (1.35 if day.eve else 1.0) * (1.6 if day.promotion else 1.0)
    need = np.minimum(population.need * stir, 0.6)
    wake = np.minimum(0.11 * np.sqrt(population.activity), 0.5)
    zero = np.zeros(population.size)
    table = np.stack(
        [
            np.stack([1 - wake - 0.3 * need, wake, 0.3 * need], axis=1),
            np.stack([zero + 0.07, 0.93 - need, need], axis=1),
            np.stack([zero + 0.05, zero + 0.11, zero + 0.84], axis=1),
            np.zeros((population.size, 3)),
        ]
    )
    mood = np.minimum(hidden.mood, GONE)
    move = table[mood, np.arange(population.size)] * (1 - population.lapse)[:, None]
    rhythm = population.weekday[:, day.date.weekday()] * (1.25 if day.promotion else 1.0)
    rhythm = rhythm * (1.7 if day.drift == "volume" else 1.0)
    rate = (population.activity[:, None] * _VISIT_FACTOR + _VISIT_BASE) * rhythm[:, None]
    logit = population.buying + _cart_pull(population, hidden, day) + _calendar_pull(day)
    return Odds(move=move, visit=1 - np.exp(-rate), buy=sigmoid(logit[:, None] + _BUY_LOGIT))


def _cart_pull(population: Population, hidden: Hidden, day: Day) -> FloatArray:
    filled = hidden.cart_item >= 0
    newest = np.where(filled, hidden.cart_day, LONG_AGO).max(axis=1)
    lines = np.minimum(filled.sum(axis=1), 4)
    pull = population.cart_weight * np.exp(-(day.index - 1 - newest) / 4.0) * (1.5 + 0.3 * lines)
    unfinished = np.exp(-(day.index - 1 - hidden.checkout_day) / 2.0)
    return np.asarray(pull + 1.8 * unfinished, dtype=np.float64)


def _calendar_pull(day: Day) -> float:
    drift = np.log(_DRIFT_ODDS.get(day.drift, 1.0)) if day.drift else 0.0
    return float(drift + (0.45 if day.promotion else 0.0) - (0.25 if day.eve else 0.0))


def simulate_day(
    rng: np.random.Generator, population: Population, hidden: Hidden, odds: Odds, day: Day
) -> Visits:
    """Draw the day's moods, visits and purchases, and set `hidden.mood` to that of the next midnight."""
    before = hidden.mood
    mood = choose(rng, odds.move)
    arrives = population.arrival == day.index
    first = choose(rng, np.broadcast_to(_FIRST_MOOD, (population.size, 3)))
    mood = np.where(arrives, first, np.where(before == UNBORN, UNBORN, mood))
    present = np.flatnonzero(mood < GONE)
    visitor_mood = mood[present]
    comes = (rng.random(len(present)) < odds.visit[present, visitor_mood]) | arrives[present]
    user, visitor_mood = present[comes], visitor_mood[comes]
    buys = rng.random(len(user)) < odds.buy[user, visitor_mood]
    taste_rank = np.minimum(choose(rng, np.broadcast_to(_TASTE_SHARE, (population.size, 3))), 2)
    fresh = np.flatnonzero((mood == INTENT) & (before != INTENT))
    hidden.focus[fresh] = population.tastes[fresh, taste_rank[fresh]]
    hidden.mood = mood
    after = choose(rng, np.broadcast_to(_AFTER_PURCHASE, (int(buys.sum()), 3)))
    hidden.mood[user[buys]] = after
    return Visits(user=user, mood=visitor_mood, buys=buys)
