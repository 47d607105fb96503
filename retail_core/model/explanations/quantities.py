"""Counts, ages, amounts of money and windows in words."""

from __future__ import annotations

from collections.abc import Mapping

from retail_core.features.time_windows import DAY_US, HOUR_US, FeatureWindow

NOUNS: Mapping[str | None, tuple[str, str]] = {
    None: ("event", "events"),
    "view_item": ("item view", "item views"),
    "view_item_list": ("list view", "list views"),
    "search": ("search", "searches"),
    "add_to_cart": ("addition to the cart", "additions to the cart"),
    "remove_from_cart": ("removal from the cart", "removals from the cart"),
    "add_to_wishlist": ("addition to the wish list", "additions to the wish list"),
    "begin_checkout": ("checkout begun", "checkouts begun"),
    "screen_view": ("screen view", "screen views"),
    "session_start": ("start of the app", "starts of the app"),
    "purchase": ("purchase", "purchases"),
    "refund": ("refund", "refunds"),
}
"""Singular and plural noun of an event type; other types are called by their name."""


def event_nouns(event_type: str | None) -> tuple[str, str]:
    """Singular and plural noun of an event type.

    >>> event_nouns("newsletter_opened")
    ('newsletter opened event', 'newsletter opened events')
    """
    if event_type in NOUNS:
        return NOUNS[event_type]
    noun = f"{event_type} event".replace("_", " ")
    return noun, f"{noun}s"


def amount(value: float, noun: str, plural: str) -> str:
    """A count with its noun.

    >>> amount(1, "item", "items"), amount(0, "item", "items"), amount(1200, "item", "items")
    ('1 item', 'no items', '1,200 items')
    """
    if not value:
        return f"no {plural}"
    return f"{value:,.0f} {noun if value == 1 else plural}" if value % 1 == 0 else f"{value:,.3g} {plural}"


def age(hours: float) -> str:
    """A duration.

    >>> age(0.2), age(5.2), age(1.0), age(80.0)
    ('12 min', '5 h', '1 h', '3 days')
    """
    if hours < 0.99:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


def money(minor: float) -> str:
    """Minor units as an amount of money.

    >>> money(123_450)
    '1,234.50'
    """
    return f"{minor / 100:,.2f}"


def within(window: FeatureWindow) -> str:
    """A feature window, as the end of a sentence.

    >>> within(FeatureWindow("1d", DAY_US)), within(FeatureWindow("6h", 6 * HOUR_US))
    (' in the last day', ' in the last 6 h')
    """
    days, hours = window.micros // DAY_US, window.micros // HOUR_US
    if window.micros % DAY_US:
        return " in the last hour" if hours == 1 else f" in the last {hours} h"
    return " in the last day" if days == 1 else f" in the last {days} days"


def between(newest: float | None, oldest: float | None) -> str:
    """Duration from the newest item to the oldest, in hours; None where unknown."""
    ages = list(dict.fromkeys(age(hours) for hours in (newest, oldest) if hours is not None))
    if len(ages) == 2 and ages[0].split()[1] == ages[1].split()[1]:
        ages[0] = ages[0].split()[0]
    return f" for {' to '.join(ages)}" if ages else ""


def singular(unit: str) -> str:
    """Singular of a unit.

    >>> singular("categories"), singular("items")
    ('category', 'item')
    """
    return f"{unit[:-3]}y" if unit.endswith("ies") else unit.removesuffix("s")
