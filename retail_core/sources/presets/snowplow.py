"""Snowplow: enriched events as TSV, or as JSON lines of the Analytics SDKs.

TSV: https://docs.snowplow.io/docs/pipeline/enriched-tsv-format (131 columns, no header, no quoting)
JSON: https://docs.snowplow.io/docs/api-reference/analytics-sdk
Fields: https://docs.snowplow.io/docs/fundamentals/canonical-event
E-commerce: https://docs.snowplow.io/docs/events/ootb-data/ecommerce-events
Original e-commerce plugin:
https://docs.snowplow.io/docs/collecting-data/collecting-from-own-applications/javascript-trackers/web-tracker/plugins/ecommerce
Users: https://docs.snowplow.io/docs/events/identifiers

Times are UTC without an offset; `derived_tstamp` is corrected for the device's clock. Prices are decimal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from retail_core.sources.identity_links import LinkColumns
from retail_core.sources.presets.record_tables import (
    Record,
    column_texts,
    expanded_table,
    first_value,
    nested_column,
    objects_of,
)
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source
from retail_core.sources.source_options import Layout

_TSV_HEADER = """
app_id platform etl_tstamp collector_tstamp dvce_created_tstamp event event_id txn_id name_tracker
v_tracker v_collector v_etl user_id user_ipaddress user_fingerprint domain_userid domain_sessionidx
network_userid geo_country geo_region geo_city geo_zipcode geo_latitude geo_longitude
geo_region_name ip_isp ip_organization ip_domain ip_netspeed page_url page_title page_referrer
page_urlscheme page_urlhost page_urlport page_urlpath page_urlquery page_urlfragment refr_urlscheme
refr_urlhost refr_urlport refr_urlpath refr_urlquery refr_urlfragment refr_medium refr_source
refr_term mkt_medium mkt_source mkt_term mkt_content mkt_campaign contexts se_category se_action
se_label se_property se_value unstruct_event tr_orderid tr_affiliation tr_total tr_tax tr_shipping
tr_city tr_state tr_country ti_orderid ti_sku ti_name ti_category ti_price ti_quantity
pp_xoffset_min pp_xoffset_max pp_yoffset_min pp_yoffset_max useragent br_name br_family br_version
br_type br_renderengine br_lang br_features_pdf br_features_flash br_features_java
br_features_director br_features_quicktime br_features_realplayer br_features_windowsmedia
br_features_gears br_features_silverlight br_cookies br_colordepth br_viewwidth br_viewheight
os_name os_family os_manufacturer os_timezone dvce_type dvce_ismobile dvce_screenwidth
dvce_screenheight doc_charset doc_width doc_height tr_currency tr_total_base tr_tax_base
tr_shipping_base ti_currency ti_price_base base_currency geo_timezone mkt_clickid mkt_network
etl_tags dvce_sent_tstamp refr_domain_userid refr_dvce_tstamp derived_contexts domain_sessionid
derived_tstamp event_vendor event_name event_format event_version event_fingerprint true_tstamp
"""
TSV_COLUMNS = tuple(_TSV_HEADER.split())
"""Columns of the TSV in their order."""

_SNOWPLOW = "com_snowplowanalytics_snowplow"
_ECOMMERCE = f"{_SNOWPLOW}_ecommerce"
_ACTION = f"{_ECOMMERCE}_snowplow_ecommerce_action"
_SESSION = f"{_SNOWPLOW}_client_session"
_SESSION_COLUMN = f"contexts_{_SESSION}_1[0]"
_LEGACY = (f"{_SNOWPLOW}_add_to_cart", f"{_SNOWPLOW}_remove_from_cart")
_SCREEN = "com_snowplowanalytics_mobile_screen_view"
_SCHEMA = re.compile(r"^iglu:([^/]+)/([^/]+)/")
_READ_ENTITIES = "|".join(
    (
        _ACTION, _SESSION, _SCREEN, *_LEGACY,
        *(f"{_ECOMMERCE}_{name}" for name in ("product", "checkout_step", "transaction", "refund")),
    )
)  # fmt: skip
_SDK_COLUMN = re.compile(r"^(?:contexts|unstruct_event)_(.+?)_\d+(?:_\d+_\d+)?$")

Entities = dict[str, list[Mapping[str, object]]]
"""Self-describing data of an event by vendor and name, as the Analytics SDKs write them."""


def prepare_events(table: RawTable, source: Source) -> RawTable:
    """One record for each product of an e-commerce action, one for any other event."""
    entities = _entities(table)
    fields = {name: column_texts(table, source, name) for name in _FIELDS}
    records: list[Record] = []
    for row, by_name in enumerate(entities):
        atomic = {name: texts[row] for name, texts in fields.items()}
        event = _event(atomic, by_name)
        for number, values in enumerate(_items(atomic, by_name), 1):
            event_id = atomic["event_id"]
            numbered = f"{event_id}#{number}" if event_id and number > 1 else event_id
            records.append((row, event | values | {"event_id": numbered}))
    return expanded_table(table, records)


def _entities(table: RawTable) -> list[Entities]:
    by_row: list[Entities] = [{} for _ in range(len(table))]
    for name in table.columns:
        if name in {"contexts", "derived_contexts", "unstruct_event"}:
            for entities, value in zip(by_row, nested_column(table, name), strict=True):
                _add_self_describing(entities, value)
        elif match := _SDK_COLUMN.match(name):
            for entities, value in zip(by_row, nested_column(table, name), strict=True):
                objects = [value] if isinstance(value, Mapping) else objects_of(value)
                if objects:
                    entities.setdefault(match[1], []).extend(objects)
    return by_row


def _add_self_describing(entities: Entities, value: object) -> None:
    """Add the entities of `{"schema": ..., "data": ...}`; `data` are the properties or further entities."""
    if not isinstance(value, Mapping):
        return
    data, match = value.get("data"), _SCHEMA.match(str(value.get("schema")))
    if isinstance(data, list) or (isinstance(data, Mapping) and "schema" in data and "data" in data):
        for entity in data if isinstance(data, list) else [data]:
            _add_self_describing(entities, entity)
    elif isinstance(data, Mapping) and match:
        entities.setdefault(f"{match[1].replace('.', '_')}_{match[2]}", []).append(data)


def _first(entities: Entities, *names: str) -> Mapping[str, object]:
    return next((entities[name][0] for name in names if entities.get(name)), {})


def _event(atomic: Mapping[str, str | None], entities: Entities) -> dict[str, object]:
    """Columns of the event as a whole."""
    transaction = _first(entities, f"{_ECOMMERCE}_transaction", f"{_ECOMMERCE}_refund")
    session = _first(entities, _SESSION)
    return {
        "event_type": _event_type(atomic, entities),
        "order_id": transaction.get("transaction_id") or atomic["ti_orderid"] or atomic["tr_orderid"],
        "screen_name": _first(entities, _SCREEN).get("name"),
        f"{_SESSION_COLUMN}.userId": session.get("userId"),
        f"{_SESSION_COLUMN}.sessionId": session.get("sessionId"),
    }


def _event_type(atomic: Mapping[str, str | None], entities: Entities) -> str | None:
    action = first_value(_first(entities, _ACTION), "type")
    if action == "checkout_step":
        step = first_value(_first(entities, f"{_ECOMMERCE}_checkout_step"), "step")
        return "begin_checkout" if step in {None, "1"} else action
    if atomic["event"] == "struct":
        return atomic["se_action"]
    return action or atomic["event_name"] or atomic["event"]


def _items(atomic: Mapping[str, str | None], entities: Entities) -> Iterator[dict[str, object]]:
    """Columns of each product of an e-commerce action, or of the item of another event."""
    if _ACTION not in entities:
        yield _single_item(atomic, _first(entities, *_LEGACY))
        return
    products = entities.get(f"{_ECOMMERCE}_product", [])
    for product in products:
        yield {
            "item_id": product.get("id"),
            "item_name": product.get("name"),
            "category": product.get("category"),
            "brand": product.get("brand"),
            "price": product.get("price"),
            "quantity": product.get("quantity"),
            "currency": product.get("currency"),
        }
    if not products:
        order = _first(entities, f"{_ECOMMERCE}_transaction", f"{_ECOMMERCE}_refund")
        yield {
            "price": first_value(order, "revenue", "refund_amount"),
            "currency": order.get("currency"),
        }


def _single_item(atomic: Mapping[str, str | None], legacy: Mapping[str, object]) -> dict[str, object]:
    """The item of the original e-commerce plugin.

    Its `transaction` has no price here, since the `transaction_item` events sent with it have theirs.
    """
    return {
        "item_id": atomic["ti_sku"] or legacy.get("sku"),
        "item_name": atomic["ti_name"] or legacy.get("name"),
        "category": atomic["ti_category"] or legacy.get("category"),
        "price": atomic["ti_price"] or legacy.get("unitPrice"),
        "quantity": atomic["ti_quantity"] or legacy.get("quantity"),
        "currency": atomic["ti_currency"] or atomic["tr_currency"] or legacy.get("currency"),
    }


_FIELDS = (
    "event_id", "event", "event_name", "se_action", "tr_orderid", "tr_currency", "ti_orderid", "ti_sku",
    "ti_name", "ti_category", "ti_price", "ti_quantity", "ti_currency",
)  # fmt: skip

SNOWPLOW = Source(
    name="snowplow",
    columns={
        "event_id": ("event_id",),
        "user_id": ("user_id", "domain_userid", f"{_SESSION_COLUMN}.userId"),
        "event_time": ("derived_tstamp", "collector_tstamp"),
        "event_type": ("event_type",),
        "item_id": ("item_id",),
        "category": ("category",),
        "brand": ("brand",),
        "price": ("price",),
        "quantity": ("quantity",),
        "currency": ("currency",),
        "session_id": ("domain_sessionid", f"{_SESSION_COLUMN}.sessionId"),
        "platform": ("platform",),
        "order_id": ("order_id",),
    },
    layout=Layout(delimiter="\t", header=TSV_COLUMNS, unquoted=True),
    vocabulary={
        "page_ping": None,
        "page_view": "screen_view",
        "product_view": "view_item",
        "list_view": "view_item_list",
        "site_search": "search",
        "transaction": "purchase",
        "transaction_item": "purchase",
    },
    properties=("page_urlpath", "screen_name", "item_name"),
    needs=("event_id", "event", "collector_tstamp"),
    derived=("event_type",),
    reads=(*_FIELDS, "contexts", "derived_contexts", "unstruct_event"),
    reads_matching=rf"(?:contexts|unstruct_event)_(?:{_READ_ENTITIES})_\d+(?:_\d+_\d+)?",
    prepare=prepare_events,
    links=LinkColumns(anonymous=("domain_userid", f"{_SESSION_COLUMN}.userId"), of_format=True),
)
"""On the web the device's id is `domain_userid`, in apps the `userId` of the session entity."""
