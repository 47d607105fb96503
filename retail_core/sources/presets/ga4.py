"""Google Analytics 4: the BigQuery export."""

from __future__ import annotations

from retail_core.sources.identity import Identity
from retail_core.sources.source import Source
from retail_core.sources.source_options import TimeFormat


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
