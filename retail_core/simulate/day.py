"""One day of the shop: from the hidden state at midnight to the day's events in time order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.arrays import BoolArray, IntArray
from retail_core.simulate.acts import TYPE, Acts, concatenate
from retail_core.simulate.browsing import Shop, abandon_checkouts, browse, remove_from_carts
from retail_core.simulate.intent import LONG_AGO, RECENT_SLOTS, Visits
from retail_core.simulate.orders import pay, place_orders
from retail_core.simulate.visit_sessions import DaySessions, offsets, open_sessions, starts

_REFUND_RATE = 0.03


@dataclass(frozen=True)
class DayEvents:
    """Events of one day in time order; -1 stands for none (in `item` for no item, see `Acts`).

    `ms` is the millisecond of the UTC day; `session` and `order` are counted over the whole run;
    `paid` is the unit price in hundredths where it is not the day's (refunds), else -1.
    """

    user: IntArray
    ms: IntArray
    kind: IntArray
    item: IntArray
    quantity: IntArray
    session: IntArray
    platform: IntArray
    order: IntArray
    paid: IntArray

    def take(self, index: IntArray | BoolArray) -> DayEvents:
        """Those rows."""
        return DayEvents(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def in_time(self) -> DayEvents:
        """By time; ties keep their order."""
        return self.take(np.argsort(self.ms, kind="stable"))


@dataclass
class Numbering:
    """Counters of sessions and orders over the run."""

    sessions: int = 0
    orders: int = 0


@dataclass
class Refunds:
    """Order lines that will be refunded, each with the day of the refund."""

    due: IntArray
    lines: DayEvents

    @classmethod
    def none(cls) -> Refunds:
        """No line yet."""
        empty = np.zeros(0, dtype=np.int64)
        return cls(due=empty, lines=DayEvents(*(empty for _ in DayEvents.__dataclass_fields__)))

    def draw(self, rng: np.random.Generator, bought: DayEvents, price: IntArray, today: int) -> None:
        """A few of today's purchase lines come back 2 to 24 days later, in office hours."""
        refunded = np.flatnonzero(rng.random(len(bought.user)) < _REFUND_RATE)
        n, none = len(refunded), np.full(len(refunded), -1, dtype=np.int64)
        lines = DayEvents(
            user=bought.user[refunded],
            ms=(8 * 3_600_000 + rng.random(n) * 9 * 3_600_000).astype(np.int64),
            kind=np.full(n, TYPE["refund"], dtype=np.int64),
            item=bought.item[refunded],
            quantity=bought.quantity[refunded],
            session=none,
            platform=none,
            order=bought.order[refunded],
            paid=price[bought.item[refunded]],
        )
        self.lines = merge([self.lines, lines])
        self.due = np.concatenate([self.due, today + 2 + np.minimum(rng.poisson(6.0, n), 22)])

    def falling_due(self, today: int) -> DayEvents:
        """Remove and return the lines that are due today."""
        is_due = self.due <= today
        due, self.lines = self.lines.take(is_due), self.lines.take(~is_due)
        self.due = self.due[~is_due]
        return due


def merge(tables: list[DayEvents]) -> DayEvents:
    """The rows of all tables, unsorted."""
    return DayEvents(
        *(
            np.concatenate([getattr(table, name) for table in tables])
            for name in DayEvents.__dataclass_fields__
        )
    )


def events_of(rng: np.random.Generator, shop: Shop, visits: Visits, numbering: Numbering) -> DayEvents:
    """Events of the day in time order; carts and recently viewed items are updated."""
    sessions = open_sessions(rng, shop.population, shop.hidden, visits, shop.day)
    without_orders = [
        remove_from_carts(rng, shop, sessions),
        *browse(rng, shop, sessions),
        abandon_checkouts(rng, sessions, visits),
    ]
    orders = place_orders(rng, shop, sessions, visits)
    ordered = concatenate([*without_orders, *pay(orders)]).in_order()
    since = offsets(rng, ordered.session, ordered.relative_gaps())
    length = np.zeros(sessions.count)
    np.maximum.at(length, ordered.session, since)
    start = starts(rng, shop.population, sessions, length)
    _remember(shop, sessions, ordered)
    events = DayEvents(
        user=sessions.user[ordered.session],
        ms=((start[ordered.session] + since) * 1_000).astype(np.int64),
        kind=ordered.kind,
        item=ordered.item,
        quantity=ordered.quantity,
        session=numbering.sessions + ordered.session,
        platform=sessions.platform[ordered.session],
        order=np.where(ordered.order >= 0, numbering.orders + ordered.order, -1),
        paid=np.full(len(ordered.kind), -1, dtype=np.int64),
    )
    numbering.sessions += sessions.count
    numbering.orders += len(orders.session)
    return events.in_time()


def _remember(shop: Shop, sessions: DaySessions, done: Acts) -> None:
    hidden = shop.hidden
    views = done.of("view_item")
    hidden.recent[sessions.user[views.session], views.item % RECENT_SLOTS] = views.item
    adds = done.of("add_to_cart")
    hidden.put_in_cart(sessions.user[adds.session], adds.item, adds.quantity, shop.day.index)
    lines = done.of("purchase")
    hidden.take_from_cart(sessions.user[lines.session], lines.item)
    hidden.checkout_day[sessions.user[done.of("begin_checkout").session]] = shop.day.index
    hidden.checkout_day[sessions.user[lines.session]] = LONG_AGO
