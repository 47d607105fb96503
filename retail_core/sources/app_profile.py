"""A user table without events: dates of first visit and purchase, and the screens seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retail_core.schemas import EARLIEST, LATEST, MAX_ID_LENGTH
from retail_core.sources.source import Problems, Source, Table, TimeFormat
from retail_core.sources.values import NOT_A_TIME, text, times

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
"""Screen name, lower case and without separators -> the one name both vocabularies get."""

_DATES = ("%m/%d/%y %H:%M", "%m/%d/%y", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")
_FORM = TimeFormat("strptime", formats=_DATES)
_SECOND = 1_000


def screen_name(raw: str) -> str:
    """The normalised name of a screen; one that is not in the table is lower-cased.

    >>> screen_name("ProductDetail"), screen_name("product"), screen_name("Search")
    ('product', 'product', 'search')
    """
    plain = re.sub(r"[\s_-]+", "", raw).lower()
    return SCREENS.get(plain, plain)


def prepare(table: Table, source: Source) -> Table:
    """One `screen_view` per screen at the first visit, one `purchase` where there is a purchase date.

    A row is taken or refused as a whole. A purchase exactly at the first visit is moved one second
    on: the screens come first. What is known of the user holds from the first visit on.
    """
    problems: Problems = {}
    visit = _instants(table, source, "first_visit_date", problems)
    bought = _instants(table, source, "purchase_date", problems)
    _missing(table, visit, problems)
    if problems:
        table, kept = table.without(problems)
        visit, bought = visit[kept], bought[kept]
    bought = np.where(bought == visit, bought + _SECOND, bought)
    events = list(_events(table, visit, bought))
    owners = np.array([event[0] for event in events], dtype=np.int64)
    spread = table.take(owners)
    columns = {
        "user_id": text(table.columns["user_id"]).take(pa.array(owners)),
        "platform": _optional(table, "platform").take(pa.array(owners)),
        "event_time": pa.array([event[1] for event in events], pa.timestamp("ms", "UTC")),
        "event_type": pa.array([event[2] for event in events], pa.string()),
        "category": pa.array([event[3] for event in events], pa.string()),
        "position": pa.array([event[4] for event in events], pa.string()),
    }
    return replace(spread, columns=columns, users=_profiles(table, source, visit))


def _instants(table: Table, source: Source, name: str, problems: Problems) -> npt.NDArray[np.int64]:
    raw = table.columns[name]
    found, rules = times(raw, _FORM, source.timezone)
    early, late = EARLIEST.value // 10**6, LATEST.value // 10**6
    outside = np.flatnonzero((found != NOT_A_TIME) & ((found < early) | (found >= late)))
    for row, rule in (rules | {int(row): "time_range" for row in outside}).items():
        problems.setdefault(row, (name, rule, raw[row].as_py()))
    return found


def _missing(table: Table, visit: npt.NDArray[np.int64], problems: Problems) -> None:
    for row, user in enumerate(text(table.columns["user_id"]).to_pylist()):
        if user is None or visit[row] == NOT_A_TIME:
            name = "user_id" if user is None else "first_visit_date"
            problems.setdefault(row, (name, "missing", None))
        elif len(user) > MAX_ID_LENGTH:
            problems.setdefault(row, ("user_id", "length", user))


def _optional(table: Table, name: str) -> pa.Array:
    return text(table.columns[name]) if name in table.columns else pa.nulls(len(table), pa.string())


def _events(
    table: Table, visit: npt.NDArray[np.int64], bought: npt.NDArray[np.int64]
) -> Iterator[tuple[int, int, str, str | None, str | None]]:
    """Owner row, instant in ms, type, category and position of each event, row by row."""
    for row, screens in enumerate(text(table.columns["screen_list"]).to_pylist()):
        names = [name for part in (screens or "").split(",") if (name := part.strip())]
        for position, name in enumerate(names):
            category = screen_name(name)[:MAX_ID_LENGTH]
            yield row, int(visit[row]), "screen_view", category or None, str(position)
        if bought[row] != NOT_A_TIME:
            yield row, int(bought[row]), "purchase", None, None


def _profiles(table: Table, source: Source, visit: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
    known = {name: table.columns[name] for name in source.attributes if name in table.columns}
    return {"user_id": text(table.columns["user_id"]), "valid_from": pa.array(visit)} | known


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
    prepare=prepare,
)
