"""One day of the shop: from the hidden state at midnight to the day's events in time order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.simulate.acts import TYPE, Acts, join
from retail_core.simulate.arrays import Flags, Ints
from retail_core.simulate.browsing import Shop, browse, clear_out, give_up
from retail_core.simulate.intent import LONG_AGO, RECENT_SLOTS, Visits
from retail_core.simulate.orders import pay, place_orders
from retail_core.simulate.sessions import Sessions, offsets, open_sessions, starts

_REFUND_RATE = 0.03


@dataclass(frozen=True)
class Events:
    """Events of one day in time order; -1 stands for none (in `item` for no item, see `Acts`).

    `ms` is the millisecond of the UTC day; `session` and `order` are counted over the whole run;
    `paid` is the unit price in hundredths where it is not the day's (refunds), else -1.
    """

    user: Ints
    ms: Ints
    kind: Ints
    item: Ints
    quantity: Ints
    session: Ints
    platform: Ints
    order: Ints
    paid: Ints

    def take(self, index: Ints | Flags) -> Events:
        """Those rows."""
        return Events(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def in_time(self) -> Events:
        """By time; ties keep their order."""
        return self.take(np.argsort(self.ms, kind="stable"))


@dataclass
class Numbering:
    """How many sessions and orders there were so far."""

    sessions: int = 0
    orders: int = 0


@dataclass
class Refunds:
    """Lines that will be given back, each with the day on which the money goes back."""

    due: Ints
    lines: Events

    @classmethod
    def none(cls) -> Refunds:
        """No line yet."""
        empty = np.zeros(0, dtype=np.int64)
        return cls(due=empty, lines=Events(*(empty for _ in Events.__dataclass_fields__)))

    def draw(self, rng: np.random.Generator, bought: Events, price: Ints, today: int) -> None:
        """A few of today's purchase lines come back 2 to 24 days later, in office hours."""
        chosen = np.flatnonzero(rng.random(len(bought.user)) < _REFUND_RATE)
        n, none = len(chosen), np.full(len(chosen), -1, dtype=np.int64)
        lines = Events(
            user=bought.user[chosen],
            ms=(8 * 3_600_000 + rng.random(n) * 9 * 3_600_000).astype(np.int64),
            kind=np.full(n, TYPE["refund"], dtype=np.int64),
            item=bought.item[chosen],
            quantity=bought.quantity[chosen],
            session=none,
            platform=none,
            order=bought.order[chosen],
            paid=price[bought.item[chosen]],
        )
        self.lines = merge([self.lines, lines])
        self.due = np.concatenate([self.due, today + 2 + np.minimum(rng.poisson(6.0, n), 22)])

    def falling_due(self, today: int) -> Events:
        """Take out what is due today."""
        now = self.due <= today
        due, self.lines = self.lines.take(now), self.lines.take(~now)
        self.due = self.due[~now]
        return due


def merge(parts: list[Events]) -> Events:
    """All parts in one, unsorted."""
    return Events(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in Events.__dataclass_fields__)
    )


def events_of(rng: np.random.Generator, shop: Shop, visits: Visits, numbering: Numbering) -> Events:
    """Everything the day's visitors do, in time order; carts and last seen items move on."""
    sessions = open_sessions(rng, shop.population, shop.hidden, visits, shop.day)
    parts = [clear_out(rng, shop, sessions), *browse(rng, shop, sessions), give_up(rng, sessions, visits)]
    orders = place_orders(rng, shop, sessions, visits)
    done = join([*parts, *pay(orders)]).in_order()
    since = offsets(rng, done.session, done.pace())
    length = np.zeros(sessions.count)
    np.maximum.at(length, done.session, since)
    start = starts(rng, shop.population, sessions, length)
    _remember(shop, sessions, done)
    events = Events(
        user=sessions.user[done.session],
        ms=((start[done.session] + since) * 1_000).astype(np.int64),
        kind=done.kind,
        item=done.item,
        quantity=done.quantity,
        session=numbering.sessions + done.session,
        platform=sessions.platform[done.session],
        order=np.where(done.order >= 0, numbering.orders + done.order, -1),
        paid=np.full(len(done.kind), -1, dtype=np.int64),
    )
    numbering.sessions += sessions.count
    numbering.orders += len(orders.session)
    return events.in_time()


def _remember(shop: Shop, sessions: Sessions, done: Acts) -> None:
    hidden = shop.hidden
    views = done.of("view_item")
    hidden.recent[sessions.user[views.session], views.item % RECENT_SLOTS] = views.item
    adds = done.of("add_to_cart")
    hidden.put_in_cart(sessions.user[adds.session], adds.item, adds.quantity, shop.day.index)
    lines = done.of("purchase")
    hidden.take_from_cart(sessions.user[lines.session], lines.item)
    hidden.checkout_day[sessions.user[done.of("begin_checkout").session]] = shop.day.index
    hidden.checkout_day[sessions.user[lines.session]] = LONG_AGO
