"""Preset for a table with one row per app user: first visit, purchase and the screens viewed, no events."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.schemas import EARLIEST, LATEST, MAX_ID_LENGTH
from retail_core.sources.identity import Identity
from retail_core.sources.raw_table import Problems, RawTable
from retail_core.sources.source import Source
from retail_core.sources.source_options import TimeFormat
from retail_core.sources.text_cleaning import cleaned_ids, cleaned_text
from retail_core.sources.time_parsing import NOT_A_TIME, parse_times

SCREENS = {
    "productdetail": "product",
    "productlist": "product_list",
    "shoppingcart": "cart",
    "categorybrowse": "categories",
    "wishlist": "wishlist",
    "paymentmethods": "payment",
    "reviews": "review",
    "ordertracking": "order_tracking",
    "customerservice": "customer_service",
    "returnpolicy": "return_policy",
    "deliveryoptions": "delivery_options",
    "storelocator": "store_locator",
    "sizeguide": "size_guide",
    "addressbook": "address_book",
    "colorpicker": "color_picker",
}
"""Screen name in lower case without separators -> normalised name."""

_DATES = ("%m/%d/%y %H:%M", "%m/%d/%y", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")
_TIME_FORMAT = TimeFormat("strptime", formats=_DATES)
_SECOND_MS = 1_000


def screen_name(raw: str) -> str:
    """The normalised name of a screen; one that is not in `SCREENS` in lower case.

    >>> screen_name("ProductDetail"), screen_name("product"), screen_name("Search")
    ('product', 'product', 'search')
    """
    key = re.sub(r"[\s_-]+", "", raw).lower()
    return SCREENS.get(key, key)


def prepare_profiles(table: RawTable, source: Source) -> RawTable:
    """Events of each user: a `screen_view` per screen at the first visit, and a `purchase` at its date.

    A row with any problem is refused. A purchase at the time of the first visit is stored one second later,
    so that it follows the screen views. User attributes are valid from the first visit.
    """
    problems: Problems = {}
    visit = _instants(table, source, "first_visit_date", problems)
    purchase = _instants(table, source, "purchase_date", problems)
    _report_missing(table, source, visit, problems)
    if problems:
        table, accepted = table.refuse(problems)
        visit, purchase = visit[accepted], purchase[accepted]
    purchase = np.where(purchase == visit, purchase + _SECOND_MS, purchase)
    events = list(_events(table, source, visit, purchase))
    user_rows = np.array([event[0] for event in events], dtype=np.int64)
    event_table = table.take(user_rows)
    columns = {
        "user_id": cleaned_ids(table.columns["user_id"], source.nulls).take(pa.array(user_rows)),
        "platform": _optional(table, source, "platform").take(pa.array(user_rows)),
        "event_time": pa.array([event[1] for event in events], pa.timestamp("ms", "UTC")),
        "event_type": pa.array([event[2] for event in events], pa.string()),
        "category": pa.array([event[3] for event in events], pa.string()),
        "position": pa.array([event[4] for event in events], pa.string()),
    }
    return replace(event_table, columns=columns, users=_attribute_columns(table, source, visit))


def _instants(table: RawTable, source: Source, name: str, problems: Problems) -> IntArray:
    raw = table.columns[name]
    instants, rules = parse_times(raw, _TIME_FORMAT, source.timezone, source.nulls)
    earliest, latest = EARLIEST.value // 10**6, LATEST.value // 10**6
    outside = np.flatnonzero((instants != NOT_A_TIME) & ((instants < earliest) | (instants >= latest)))
    for row, rule in (rules | {int(row): "time_range" for row in outside}).items():
        problems.setdefault(row, (name, rule, raw[row].as_py()))
    return instants


def _report_missing(table: RawTable, source: Source, visit: IntArray, problems: Problems) -> None:
    for row, user in enumerate(cleaned_ids(table.columns["user_id"], source.nulls).to_pylist()):
        if user is None or visit[row] == NOT_A_TIME:
            name = "user_id" if user is None else "first_visit_date"
            problems.setdefault(row, (name, "missing", None))
        elif len(user) > MAX_ID_LENGTH:
            problems.setdefault(row, ("user_id", "length", user))


def _optional(table: RawTable, source: Source, name: str) -> pa.Array:
    if name not in table.columns:
        return pa.nulls(len(table), pa.string())
    return cleaned_text(table.columns[name], source.nulls)


def _events(
    table: RawTable, source: Source, visit: IntArray, purchase: IntArray
) -> Iterator[tuple[int, int, str, str | None, str | None]]:
    """Row of the user, instant in ms since 1970 UTC, type, category and position of each event."""
    for row, screens in enumerate(cleaned_text(table.columns["screen_list"], source.nulls).to_pylist()):
        names = [name for entry in (screens or "").split(",") if (name := entry.strip())]
        for position, name in enumerate(names):
            category = screen_name(name)[:MAX_ID_LENGTH]
            yield row, int(visit[row]), "screen_view", category or None, str(position)
        if purchase[row] != NOT_A_TIME:
            yield row, int(purchase[row]), "purchase", None, None


def _attribute_columns(table: RawTable, source: Source, visit: IntArray) -> dict[str, pa.Array]:
    attributes = {name: table.columns[name] for name in source.attributes if name in table.columns}
    return {
        "user_id": cleaned_ids(table.columns["user_id"], source.nulls),
        "valid_from": pa.array(visit),
    } | attributes


APP_PROFILE = Source(
    name="app_profile",
    columns={
        "user_id": ("user_id",),
        "event_time": ("event_time",),
        "event_type": ("event_type",),
        "category": ("category",),
        "platform": ("platform",),
    },
    policy="first-visit",
    properties=("position",),
    attributes={
        "age": "number",
        "platform": "text",
        "region": "text",
        "acquisition_channel": "text",
        "app_version": "text",
        "user_segment": "text",
        "session_count": "number",
        "total_screens_viewed": "number",
        "used_search_feature": "number",
        "wrote_review": "number",
        "added_to_wishlist": "number",
    },
    needs=("user_id", "first_visit_date", "screen_list", "purchase_date"),
    derived=("event_time", "event_type"),
    identity=Identity(
        columns=("user_id", "event_time", "event_type", "category", "position"), of_format=True
    ),
    prepare=prepare_profiles,
)
