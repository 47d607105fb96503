"""Acts of visitors other than orders: pages, item views, carts, wishlists, abandoned check-outs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.arrays import IntArray
from retail_core.simulate.acts import STEP, Acts, acts
from retail_core.simulate.catalogue import Catalogue
from retail_core.simulate.intent import RECENT_SLOTS, Hidden, Visits
from retail_core.simulate.simulation_config import Day
from retail_core.simulate.user_traits import Population
from retail_core.simulate.visit_sessions import DaySessions, trending

# By mood: dormant, browsing, intent.
_CART_FACTOR_BY_MOOD = np.array([0.35, 0.5, 2.3])
_REVIEW_PROBABILITY_BY_MOOD = np.array([0.04, 0.05, 0.20])
_CHECKOUT_PROBABILITY_BY_MOOD = np.array([0.003, 0.004, 0.12])
_SEARCHES_BY_MOOD = np.array([0.8, 0.9, 1.6])


@dataclass(frozen=True)
class Shop:
    """Inputs of every draw of a day: population, catalogue, hidden state and day."""

    population: Population
    catalogue: Catalogue
    hidden: Hidden
    day: Day


def browse(rng: np.random.Generator, shop: Shop, sessions: DaySessions) -> list[Acts]:
    """Session starts and pages: lists, searches, screens and item views, with adds to cart and wishlist."""
    session = np.repeat(np.arange(sessions.count), sessions.steps)
    first = np.cumsum(sessions.steps) - sessions.steps
    place = (np.arange(len(session)) - first[session]) * STEP
    draw = rng.random(len(session))
    searches = shop.population.search_rate[sessions.user[session]] * _SEARCHES_BY_MOOD[sessions.mood[session]]
    views_from = 0.17 + searches
    listing, screen = draw < 0.12, (draw >= 0.12) & (draw < 0.17)
    searching, viewing = (draw >= 0.17) & (draw < views_from), draw >= views_from
    opening = np.arange(sessions.count)
    views = _views(rng, shop, sessions, session[viewing], place[viewing])
    return [
        acts(opening, np.full(sessions.count, -1), "session_start"),
        acts(session[listing], place[listing], "view_item_list", -2 - sessions.focus[session[listing]]),
        acts(session[screen], place[screen], "screen_view"),
        acts(session[searching], place[searching], "search"),
        views,
        *_adds_and_wishes(rng, shop, sessions, views),
    ]


def _views(
    rng: np.random.Generator, shop: Shop, sessions: DaySessions, session: IntArray, place: IntArray
) -> Acts:
    user, mood = sessions.user[session], sessions.mood[session]
    item = new_items(rng, shop, sessions, session)
    recent_item = shop.hidden.recent[user, rng.integers(0, RECENT_SLOTS, len(user))]
    is_review = (rng.random(len(user)) < _REVIEW_PROBABILITY_BY_MOOD[mood]) & (recent_item >= 0)
    item = np.where(is_review, recent_item, item)
    repeat = np.flatnonzero(rng.random(len(user)) < 0.07)
    repeat = repeat[repeat > 0]
    repeat = repeat[session[repeat] == session[repeat - 1]]
    item[repeat] = item[repeat - 1]
    return acts(session, place, "view_item", item)


def new_items(rng: np.random.Generator, shop: Shop, sessions: DaySessions, session: IntArray) -> IntArray:
    """An item for each row: of the session's category mostly, else of any, near the user's price level."""
    user = sessions.user[session]
    stray = rng.choice(len(shop.catalogue.share), len(user), p=shop.catalogue.share)
    if shop.day.drift == "mix":
        stray = trending(rng, stray)
    category = np.where(rng.random(len(user)) < 0.78, sessions.focus[session], stray)
    level = np.clip(shop.population.price_level[user] + rng.normal(0, 0.15, len(user)), 0, 1)
    return shop.catalogue.pick(rng, category, level)


def _adds_and_wishes(rng: np.random.Generator, shop: Shop, sessions: DaySessions, views: Acts) -> list[Acts]:
    user, mood = sessions.user[views.session], sessions.mood[views.session]
    eager = 1.3 if shop.day.eve else 1.0
    adds = rng.random(len(user)) < shop.population.cart_rate[user] * _CART_FACTOR_BY_MOOD[mood] * eager
    wishes = rng.random(len(user)) < shop.population.wish_rate[user]
    cart, wish = views.take(adds), views.take(wishes)
    pieces = shop.catalogue.quantities(rng, cart.item)
    return [
        acts(cart.session, cart.place + 2, "add_to_cart", cart.item, pieces),
        acts(wish.session, wish.place + 4, "add_to_wishlist", wish.item),
    ]


def remove_from_carts(rng: np.random.Generator, shop: Shop, sessions: DaySessions) -> Acts:
    """Removals from older carts, by some users in their first session; the hidden cart is updated."""
    hidden = shop.hidden
    session = np.flatnonzero((sessions.rank == 0) & (rng.random(sessions.count) < 0.12))
    slot = rng.integers(0, hidden.cart_item.shape[1], len(session))
    holds = hidden.cart_item[sessions.user[session], slot] >= 0
    session, slot = session[holds], slot[holds]
    user = sessions.user[session]
    item, pieces = hidden.cart_item[user, slot], hidden.cart_quantity[user, slot]
    hidden.take_from_cart(user, item)
    place = rng.integers(0, sessions.steps[session]) * STEP + 6
    return acts(session, place, "remove_from_cart", item, pieces)


def abandon_checkouts(rng: np.random.Generator, sessions: DaySessions, visits: Visits) -> Acts:
    """Check-outs begun and abandoned on days without an order."""
    begins = rng.random(sessions.count) < _CHECKOUT_PROBABILITY_BY_MOOD[sessions.mood]
    session = np.flatnonzero(begins & ~visits.buys[sessions.visit])
    return acts(session, (sessions.steps[session] - 1) * STEP + 8, "begin_checkout")
