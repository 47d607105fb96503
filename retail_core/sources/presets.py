"""Presets: built-in descriptions of the raw files of public data sets and exports."""

from __future__ import annotations

from types import MappingProxyType

from retail_core.errors import InputError
from retail_core.schemas import EVENT_COLUMNS
from retail_core.sources.app_profile import APP_PROFILE
from retail_core.sources.identity import Identity
from retail_core.sources.online_retail import ONLINE_RETAIL
from retail_core.sources.otto import OTTO
from retail_core.sources.source import Source
from retail_core.sources.source_options import Layout, TimeFormat

_CANONICAL_COLUMNS = [name for name in EVENT_COLUMNS if name not in {"price_minor", "properties"}]

CANONICAL = Source(
    name="canonical",
    columns={name: (name,) for name in [*_CANONICAL_COLUMNS, "price"]},
    properties=None,
    identity=Identity(of="values"),
)

TAOBAO = Source(
    name="taobao",
    columns={
        "user_id": ("user_id",),
        "item_id": ("item_id",),
        "category": ("category_id",),
        "event_type": ("behavior",),
        "event_time": ("timestamp",),
    },
    timezone="Asia/Shanghai",
    layout=Layout(header=("user_id", "item_id", "category_id", "behavior", "timestamp")),
    time=TimeFormat("unix", "s"),
    vocabulary={"pv": "view_item", "cart": "add_to_cart", "fav": "add_to_wishlist", "buy": "purchase"},
)

REES46 = Source(
    name="rees46",
    columns={
        "user_id": ("user_id",),
        "event_time": ("event_time",),
        "event_type": ("event_type",),
        "item_id": ("product_id",),
        "category": ("category_code", "category_id"),
        "brand": ("brand",),
        "price": ("price",),
        "session_id": ("user_session",),
    },
    needs=("product_id", "user_session"),
    vocabulary={"view": "view_item", "cart": "add_to_cart"},
)

RETAILROCKET = Source(
    name="retailrocket",
    columns={
        "user_id": ("visitorid",),
        "event_time": ("timestamp",),
        "event_type": ("event",),
        "item_id": ("itemid",),
        "order_id": ("transactionid",),
    },
    time=TimeFormat("unix", "ms"),
    vocabulary={"view": "view_item", "addtocart": "add_to_cart", "transaction": "purchase"},
)


def _ga4(*names: str) -> tuple[str, ...]:
    """Spellings of a nested name in flattened exports: `items.price`, `items_price`, `price`."""
    return tuple(
        spelling for name in names for spelling in (name, name.replace(".", "_"), name.rpartition(".")[2])
    )


GA4 = Source(
    name="ga4",
    columns={
        "user_id": ("user_pseudo_id",),
        "event_time": ("event_timestamp",),
        "event_type": ("event_name",),
        "item_id": _ga4("items.item_id"),
        "category": _ga4("items.item_category"),
        "brand": _ga4("items.item_brand"),
        "price": _ga4("items.price"),
        "quantity": _ga4("items.quantity"),
        "currency": _ga4("event_params.currency"),
        "session_id": _ga4("event_params.ga_session_id"),
        "platform": ("platform",),
        "order_id": _ga4("ecommerce.transaction_id"),
    },
    time=TimeFormat("unix", "us"),
    properties=(
        "items.item_name",
        "items_item_name",
        "item_name",
        "event_params.page_location",
        "page_location",
    ),
    identity=Identity(
        columns=(
            "event_timestamp",
            "event_name",
            "user_pseudo_id",
            "event_bundle_sequence_id",
            "batch_page_id",
            "batch_ordering_id",
            "batch_event_index",
            *_ga4("event_params.ga_session_id", "event_params.page_location"),
            *_ga4("items.item_id", "items.item_name", "items.item_variant", "items.price", "items.quantity"),
        )
    ),
)
"""The identity leaves out what the intraday export of an event may lack, such as the transaction id."""

PRESETS = MappingProxyType(
    {
        source.name: source
        for source in (CANONICAL, TAOBAO, REES46, RETAILROCKET, ONLINE_RETAIL, OTTO, GA4, APP_PROFILE)
    }
)
"""Every preset by name."""


def get_preset(name: str) -> Source:
    """The preset of that name.

    Raises:
        InputError: there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"There is no source named {name!r}.", remedy=f"use one of: {', '.join(PRESETS)}.")
    return PRESETS[name]


def matching_preset(header: tuple[str, ...]) -> str | None:
    """Name of the preset whose columns a header has, or a first row without one; None if there is none."""
    other_than_canonical = [source for source in PRESETS.values() if source is not CANONICAL]
    for source in (*other_than_canonical, CANONICAL):
        if source.layout.header is None and not source.missing_columns(header):
            return source.name
    if len(header) == 5 and header[3] in TAOBAO.vocabulary:
        return TAOBAO.name
    return None
