"""Public data sets whose files need no preparation: Taobao, REES46, Retailrocket."""

from __future__ import annotations

from retail_core.sources.source import Source
from retail_core.sources.source_options import Layout, TimeFormat

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
