"""Feature values in plain words, built from the definitions of the features.

A new feature needs nothing here: its meaning, unit and window make a sentence. Special wordings exist only
where that sentence reads badly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from retail_core.features.kinds import Feature, FeatureDefinition
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.time_windows import DAY_US, FeatureWindow
from retail_core.model.explanations.quantities import (
    age,
    amount,
    between,
    event_nouns,
    money,
    singular,
    within,
)

FEATURE_SUBJECTS: Mapping[str, str] = {
    "active_days": "active days",
    "sessions": "sessions",
    "purchase_days": "purchase days",
    "same_weekday_active_days": "active days on the weekday ahead",
    "same_weekday_purchase_days": "purchase days on the weekday ahead",
    "spend": "spent",
    "refunds": "refunded",
    "hour": "hour of the day",
    "purchase_intent": "recent activity, carts counted most",
    "category_concentration": "interest in one category",
    "last_session_events": "events in the last session",
    "last_session_carts": "cart events in the last session",
    "last_session_minutes": "minutes of the last session",
    "shop_buyers_yesterday": "buyers in the shop on the day before",
    "shop_buyers_usual": "buyers in the shop on such a weekday",
    "shop_rate_usual": "the shop's usual share of buyers on such a weekday",
    "shop_rate_recent": "the shop's share of buyers in the last 7 days",
    "shop_weekday_index": "the shop's sales on such a weekday against an average day",
    "shop_demand_yesterday": "the shop's buyers on the day before against such weekdays",
}
"""Subjects for definitions whose meaning, written for a table, makes no sentence."""

FLAG_TEXTS: Mapping[str, tuple[str, str]] = {
    "carted_not_bought": ("carted and not bought since", "nothing carted and left"),
    "in_session": ("in a session right now", "not in a session right now"),
    "new_user": ("first seen less than a day ago", "first seen more than a day ago"),
    "known_buyer": ("a buyer of late", "no buyer of late"),
    "weekend": ("it is the weekend", "it is not the weekend"),
    "shop_closed": ("a weekday on which the shop is closed", "a weekday on which the shop is open"),
}
"""Sentences for a flag that is set, and for one that is not."""

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MIN_RATE_RATIO, MIN_USUAL_EVENTS = 1.5, 4
"""A rate is compared with the usual one from this ratio (or inverse) and this many usual events on."""


@dataclass(frozen=True)
class FeatureValues:
    """Feature values of one user at one cut-off.

    Attributes:
        task: the prediction task.
        values: by column; None where null.
    """

    task: PredictionTask
    values: Mapping[str, float | None]

    @property
    def lookback_window(self) -> FeatureWindow:
        """The look-back."""
        return self.task.windows[-1]

    def get(self, name: str) -> float | None:
        """Value of a column; None where it is null or not in the model."""
        return self.values.get(name)


def events(row: FeatureValues, event_type: str | None, window: FeatureWindow) -> str | None:
    """How often an event happened in the window, compared with the usual rate, and when it last happened.

    None where the model lacks the features of the sentence, as in `cart` and `rhythm`.
    """
    stem = event_type or "event"
    count, last = f"{stem}_count_{window.label}", f"hours_since_{stem}"
    if count not in row.values:
        return None
    singular_noun, plural_noun = event_nouns(event_type)
    number, since = row.get(count), row.get(last)
    if number is None:  # a request that gives features need not give all
        return f"{plural_noun}{within(window)}: unknown"
    ago = "" if since is None else f", the last {age(since)} ago"
    if not number:
        never = last in row.values and since is None
        return f"no {singular_noun}{within(row.lookback_window if never else window)}{ago}"
    count_text = amount(number, singular_noun, plural_noun)
    return f"{count_text}{within(window)}{_against_usual(row, stem, window, number)}{ago}"


def cart(row: FeatureValues) -> str | None:
    """Number of items in the cart, for how long, and their value."""
    if "cart_count" not in row.values:
        return None
    number, value = row.get("cart_count"), row.get("open_cart_value")
    if not number:
        return "items in the cart: unknown" if number is None else "nothing in the cart"
    duration = between(row.get("cart_newest_hours"), row.get("cart_oldest_hours"))
    worth = f", worth {money(value)}" if value else ""
    return f"{amount(number, 'item', 'items')} in the cart{duration}{worth}"


def rhythm(row: FeatureValues, event_type: str | None) -> str | None:
    """How often the user is active or buys, and how long ago the last time was."""
    gap = "mean_gap_days" if event_type is None else f"mean_{event_type}_gap_days"
    if gap not in row.values:
        return None
    noun, _ = event_nouns(event_type)
    days, since = row.get(gap), row.get(f"hours_since_{event_type or 'event'}")
    if days is None:
        return f"fewer than two days with {'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    does = {None: "active", "purchase": "buys"}.get(event_type, noun)
    ago = "" if since is None else f", the last time {age(since)} ago"
    often = "day" if days == 1 else f"{days:.2g} days"
    return f"{does} every {often} on average{ago}"


def attribute(name: str, row: FeatureValues) -> str:
    """A user attribute; of a category's columns the one that is set."""
    columns = [column for column in row.values if column.split("=")[0] == f"attr_{name}"]
    if columns == [f"attr_{name}"]:
        value = row.get(columns[0])
        return f"{name}: unknown" if value is None else f"{name}: {value:,.4g}"
    current = [column.partition("=")[2] for column in columns if row.get(column)]
    named = ", ".join(column.partition("=")[2] for column in columns)
    return f"{name} is {current[0]}" if current else f"{name} is none of {named}"


def generic(feature: Feature, value: float | None) -> str:
    """Any feature: its meaning, its window, and its value with the unit."""
    entry = feature.definition
    subject = FEATURE_SUBJECTS.get(entry.name) or _subject(entry)
    window = within(feature.window) if feature.window and entry.over else ""
    if entry.unit == "flag":
        return _flag(entry, subject, value)
    if value is None:
        return f"{subject}{window}: {_unknown(entry)}"
    if entry.name == "weekday":
        return f"it is {WEEKDAYS[int(value) % 7]}"
    if entry.unit.endswith("s") and entry.unit in subject.split():
        return f"{amount(value, subject.replace(entry.unit, singular(entry.unit), 1), subject)}{window}"
    if entry.over and entry.unit == "minor units":
        return f"{money(value) if value else 'nothing'} {subject}{window}"
    return f"{subject}{window}: {_with_unit(entry, value)}"


def _against_usual(row: FeatureValues, stem: str, window: FeatureWindow, number: float) -> str:
    """Rate in the window relative to that in the remaining look-back, where the two differ clearly."""
    total = row.get(f"{stem}_count_{row.lookback_window.label}")
    if total is None or total - number < MIN_USUAL_EVENTS or window.micros % DAY_US:
        return ""
    usual_rate = (total - number) / (row.lookback_window.micros - window.micros)
    ratio = number / window.micros / usual_rate
    if 1 / MIN_RATE_RATIO < ratio < MIN_RATE_RATIO:
        return ""
    return f", {ratio:.0f} times the usual" if ratio >= 10 else f", {ratio:.1f} times the usual"


def _subject(entry: FeatureDefinition) -> str:
    """First clause of the meaning in lower case, without code marks."""
    clause = entry.meaning.rstrip(".").split(";")[0].split(":")[0].replace("`", "").removeprefix("1 where ")
    return clause[:1].lower() + clause[1:]


def _flag(entry: FeatureDefinition, subject: str, value: float | None) -> str:
    if value is None:
        return f"{subject}: {_unknown(entry)}"
    yes, no = FLAG_TEXTS.get(entry.name, (f"{subject}: yes", f"{subject}: no"))
    return yes if value else no


def _unknown(entry: FeatureDefinition) -> str:
    return "unknown" if entry.null == "never" else entry.null


def _with_unit(entry: FeatureDefinition, value: float) -> str:
    if entry.unit == "hours":
        return age(value)
    if entry.unit == "minor units":
        return money(value)
    if entry.unit == "share":
        return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"
    if entry.unit in {"ratio", "score"} or entry.unit[:1].isdigit():
        return f"{value:,.3g}"
    return amount(value, singular(entry.unit), entry.unit)
