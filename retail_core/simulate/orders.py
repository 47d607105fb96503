"""Orders: their lines, from an older cart or viewed that day, and the events that lead to the check-out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from retail_core.arrays import BoolArray, FloatArray, IntArray
from retail_core.simulate.acts import STEP, Acts, acts
from retail_core.simulate.browsing import Shop, new_items
from retail_core.simulate.intent import RECENT_SLOTS, Visits
from retail_core.simulate.visit_sessions import DaySessions, order_session

_MOST_FURTHER_LINES = 30


@dataclass(frozen=True)
class Lines:
    """Order lines.

    `fresh` lines are looked at in `session` at page `step` first and put into the cart if `carted`;
    the others wait in the cart from an earlier day.
    """

    order: IntArray
    item: IntArray
    quantity: IntArray
    fresh: BoolArray
    session: IntArray
    step: IntArray
    carted: BoolArray


@dataclass(frozen=True)
class Orders:
    """The day's orders: `session` in which and `step` after which each is placed, and their lines."""

    session: IntArray
    step: IntArray
    lines: Lines


def place_orders(rng: np.random.Generator, shop: Shop, sessions: DaySessions, visits: Visits) -> Orders:
    """One order for each buying visit, now and then a second one."""
    session = order_session(rng, sessions, visits.buys)
    twice = rng.random(len(session)) < 0.07
    session = np.concatenate([session, order_session(rng, sessions, visits.buys)[twice]])
    second = np.arange(len(session)) >= len(twice)
    after = rng.random(len(session)) ** 3 * sessions.steps[session]
    step = sessions.steps[session] - 1 - after.astype(np.int64)
    waiting = _waiting(rng, shop, sessions, session, second)
    line_count = 1 + np.minimum(
        rng.poisson(shop.population.basket[sessions.user[session]]), _MOST_FURTHER_LINES
    )
    have = np.bincount(waiting.order, minlength=len(session))
    missing = np.maximum(line_count - have, np.where(have == 0, 1, 0))
    fresh = _fresh(rng, shop, sessions, Orders(session, step, waiting), missing)
    return Orders(session, step, _distinct([waiting, fresh], shop.catalogue.items))


def _waiting(
    rng: np.random.Generator, shop: Shop, sessions: DaySessions, session: IntArray, second: BoolArray
) -> Lines:
    """Lines from older carts: the newest one rather likely, the others less, old ones hardly."""
    hidden, user = shop.hidden, sessions.user[session]
    item, day = hidden.cart_item[user], hidden.cart_day[user]
    filled = item >= 0
    newest = np.where(filled, day, -1_000).max(axis=1, keepdims=True)
    age = shop.day.index - day
    chance: FloatArray = np.where(day == newest, 0.55, 0.12) * np.exp(-age / 9.0)
    order, slot = np.nonzero(filled & ~second[:, None] & (rng.random(item.shape) < chance))
    n = len(order)
    return Lines(
        order=order,
        item=item[order, slot],
        quantity=hidden.cart_quantity[user[order], slot],
        fresh=np.zeros(n, dtype=bool),
        session=session[order],
        step=np.zeros(n, dtype=np.int64),
        carted=np.zeros(n, dtype=bool),
    )


def _fresh(
    rng: np.random.Generator, shop: Shop, sessions: DaySessions, orders: Orders, count: IntArray
) -> Lines:
    """`count` lines per order seen that same day: before the order in its session, or in an earlier one."""
    order = np.repeat(np.arange(len(count)), count)
    session = orders.session[order]
    rank = sessions.rank[session]
    earlier = (rng.random(len(order)) < 0.35) & (rank > 0)
    session = np.where(earlier, session - 1 - (rng.random(len(order)) * rank).astype(np.int64), session)
    room = np.where(earlier, sessions.steps[session], orders.step[order] + 1)
    recent_item = shop.hidden.recent[sessions.user[session], rng.integers(0, RECENT_SLOTS, len(order))]
    is_recent = (rng.random(len(order)) < 0.5) & (recent_item >= 0)
    item = np.where(is_recent, recent_item, new_items(rng, shop, sessions, session))
    return Lines(
        order=order,
        item=item,
        quantity=shop.catalogue.quantities(rng, item),
        fresh=np.ones(len(order), dtype=bool),
        session=session,
        step=(rng.random(len(order)) * room).astype(np.int64),
        carted=rng.random(len(order)) < 0.45,
    )


def _distinct(tables: list[Lines], items: int) -> Lines:
    """All lines, an item once per order (the first one stays), by order."""
    columns = {
        name: np.concatenate([getattr(p, name) for p in tables]) for name in Lines.__dataclass_fields__
    }
    _, first = np.unique(columns["order"] * items + columns["item"], return_index=True)
    return Lines(**{name: column[first] for name, column in columns.items()})


def pay(orders: Orders) -> list[Acts]:
    """Views and adds of the fresh lines, check-outs, and the purchase lines with their order number."""
    lines = orders.lines
    fresh, carted = lines.fresh, lines.fresh & lines.carted
    at, end = lines.step * STEP, orders.step * STEP
    bought = acts(orders.session[lines.order], end[lines.order] + 9, "purchase", lines.item, lines.quantity)
    return [
        acts(lines.session[fresh], at[fresh] + 1, "view_item", lines.item[fresh]),
        acts(
            lines.session[carted], at[carted] + 3, "add_to_cart", lines.item[carted], lines.quantity[carted]
        ),
        acts(orders.session, end + 8, "begin_checkout"),
        replace(bought, order=lines.order),
    ]
