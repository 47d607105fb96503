"""Events of a large shop, a day at a time, as arrays: the source of `scale_lake`.

Every day follows from its date and the seed alone. A history of 900 days therefore ends with the same 90 days
as one of 90 days, and days can be written in any order and by several processes.

A user arrives on a first day, stays for some days (exponential, 30 on average) and is active on a share of
them, which differs by user (beta, 0.12 on average). An active day has 1 + Poisson events, whose mean differs
by user and day (lognormal): half of the users have at most 7 events in four weeks, one in a thousand has more
than 238. At any midnight more than half of the users of the last four weeks had no event in the last 7 days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retail_core.arrays import BoolArray, FloatArray, IntArray
from retail_core.schemas import EVENT_ARROW

END = date(2025, 7, 1)
"""Day after the last day of every history."""

MAX_STAY = 120
ITEMS, CATEGORIES, BRANDS, FAVOURITES = 50_000, 200, 1_000, 12
_EPOCH, _FIRST_COHORT = date(1970, 1, 1), 16_000
_COHORT_BITS, _ID_BITS, _MULTIPLIER = 18, 40, 0x9E3779B1
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_DAY_MS = 86_400_000

TYPES = (
    "view_item", "view_item_list", "search", "add_to_cart", "remove_from_cart", "begin_checkout", "purchase",
)  # fmt: skip
_TYPE_SHARES = (0.56, 0.16, 0.1, 0.1, 0.02, 0.035)
_WITH_QUANTITY = ("add_to_cart", "remove_from_cart", "purchase")


@dataclass(frozen=True)
class ShopSize:
    """How large the shop is: users that arrive on a day (a user has about 23 events), and its seed."""

    arrivals: int
    seed: int = 7


@dataclass(frozen=True)
class _Cohort:
    """Users that arrived on one day."""

    number: IntArray
    stay: IntArray
    activity: FloatArray
    intensity: FloatArray
    propensity: FloatArray


def day_events(size: ShopSize, day: date) -> pa.Table:
    """Events of one day, of the columns `EVENT_ARROW`, in no particular order."""
    rng = np.random.default_rng([size.seed, 1, _ordinal(day)])
    users, intensity, propensity = _active_users(size, day, rng)
    means = intensity * rng.lognormal(0.0, 0.5, len(users))
    counts = np.minimum(1 + rng.poisson(means), 2_000)
    of_user = np.repeat(np.arange(len(users)), counts)
    return _event_table(rng, day, users[of_user], propensity[of_user], _times(rng, counts))


def _active_users(
    size: ShopSize, day: date, rng: np.random.Generator
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Numbers, intensities and propensities of the users with an event on the day."""
    parts: list[tuple[IntArray, FloatArray, FloatArray]] = []
    for age in range(MAX_STAY):
        cohort = _cohort(size, _ordinal(day) - age)
        is_active = cohort.stay > age
        if age:
            is_active &= rng.random(len(cohort.stay)) < cohort.activity
        parts.append((cohort.number[is_active], cohort.intensity[is_active], cohort.propensity[is_active]))
    number, intensity, propensity = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return number, intensity, propensity


@lru_cache(maxsize=2 * MAX_STAY)
def _cohort(size: ShopSize, ordinal: int) -> _Cohort:
    rng, count = np.random.default_rng([size.seed, 0, ordinal]), size.arrivals
    first = (ordinal - _FIRST_COHORT) << _COHORT_BITS
    return _Cohort(
        number=first + np.arange(count, dtype=np.int64),
        stay=np.minimum(1 + rng.exponential(30.0, count).astype(np.int64), MAX_STAY),
        activity=rng.beta(0.6, 4.4, count),
        intensity=rng.lognormal(np.log(2.2), 0.9, count),
        propensity=rng.lognormal(-0.5, 1.0, count),
    )


def _times(rng: np.random.Generator, counts: IntArray) -> IntArray:
    """Milliseconds within the day of each event; those of a user follow each other in sessions."""
    total = int(counts.sum())
    gaps = rng.exponential(40_000.0, total)
    starts_session = rng.random(total) < 0.08
    gaps[starts_session] += rng.exponential(3 * 3_600_000.0, int(starts_session.sum()))
    first = np.cumsum(counts) - counts
    hours = rng.normal(15.0, 4.5, len(counts)) % 24
    gaps[first] = hours * 3_600_000
    running = np.cumsum(gaps)
    before = np.concatenate([[0.0], running])[first]
    return (running - np.repeat(before, counts)).astype(np.int64) % _DAY_MS


def _event_table(
    rng: np.random.Generator, day: date, users: IntArray, propensity: FloatArray, times: IntArray
) -> pa.Table:
    total = len(users)
    kinds = np.searchsorted(np.cumsum(_TYPE_SHARES), rng.random(total) * sum(_TYPE_SHARES))
    kinds[rng.random(total) < 0.02 * propensity] = TYPES.index("purchase")
    items = _items(rng, users)
    has_item = kinds != TYPES.index("search")
    has_quantity = np.isin(kinds, [TYPES.index(name) for name in _WITH_QUANTITY])
    is_purchase = kinds == TYPES.index("purchase")
    user_code = (users * _MULTIPLIER) & ((1 << _ID_BITS) - 1)
    random_ids = rng.integers(0, 1 << 63, (2, total), dtype=np.int64)
    micros = (times + _ordinal(day) * _DAY_MS) * 1_000
    session = (user_code ^ (times // 3_600_000)) & ((1 << 48) - 1)
    columns = {
        "event_id": hex_text(random_ids, (16, 16)),
        "user_id": hex_text(user_code[None], (10,), "u"),
        "event_time": pa.array(micros, pa.timestamp("us", tz="UTC")),
        "event_type": _named(kinds, TYPES),
        "item_id": _named(items, _names("i", ITEMS), has_item),
        "category": _named(items % CATEGORIES, _names("c", CATEGORIES), has_item),
        "brand": _named(items % BRANDS, _names("b", BRANDS), has_item),
        "price_minor": _masked(199 + items * 7_919 % 19_800, has_item),
        "quantity": _masked(1 + (items + users) % 3, has_quantity),
        "currency": _named(np.zeros(total, np.int64), ("EUR",), has_item),
        "session_id": hex_text(session[None], (12,), "s"),
        "platform": _named(user_code % 3, ("android", "ios", "web")),
        "order_id": hex_text(random_ids[:1], (16,), "o", is_purchase),
        "properties": pa.nulls(total, pa.string()),
    }
    return pa.table([columns[name] for name in EVENT_ARROW.names], schema=EVENT_ARROW)


def _items(rng: np.random.Generator, users: IntArray) -> IntArray:
    """Popular items of the shop for half of the events, favourites of the user for the others."""
    popular = (ITEMS * rng.random(len(users)) ** 3).astype(np.int64)
    favourite = (users * 31 + rng.integers(0, FAVOURITES, len(users)) * 1_009) % ITEMS
    return np.where(rng.random(len(users)) < 0.5, popular, favourite)


def hex_text(
    values: IntArray, digits: tuple[int, ...], prefix: str = "", valid: BoolArray | None = None
) -> pa.Array:
    """Numbers as hexadecimal text of a fixed length.

    Args:
        values: the parts of each text, shape (parts, n).
        digits: number of digits of each part.
        prefix: before the digits.
        valid: which texts are not null; None for all.
    """
    rows, width = int(values.shape[1]), len(prefix) + sum(digits)
    text = np.empty((rows, width), np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix.encode(), np.uint8)
    at = len(prefix)
    for row, count in zip(values, digits, strict=True):
        for digit in range(count):
            text[:, at] = _HEX[(row >> 4 * (count - 1 - digit)) & 15]
            at += 1
    offsets = np.arange(rows + 1, dtype=np.int32) * width
    column = pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))
    return column if valid is None else _where(valid, column)


@lru_cache
def _names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number}" for number in range(count))


def _named(codes: IntArray, names: tuple[str, ...], valid: BoolArray | None = None) -> pa.Array:
    column = pa.array(names, pa.string()).take(pa.array(codes))
    return column if valid is None else _where(valid, column)


def _masked(values: IntArray, valid: BoolArray) -> pa.Array:
    return _where(valid, pa.array(values, pa.int64()))


def _where(valid: object, column: pa.Array) -> pa.Array:
    """The values where `valid`; null elsewhere."""
    return pc.if_else(pa.array(valid), column, pa.scalar(None, column.type))


def _ordinal(day: date) -> int:
    """Days since 1970."""
    return (day - _EPOCH).days


def midnight(day: date) -> datetime:
    """Begin of a day, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def history(days: int) -> list[date]:
    """The days of a history, ascending; the last one is the day before `END`."""
    return [END - timedelta(days=number) for number in range(days, 0, -1)]
