"""UCI Online Retail: invoice lines of a British shop. Its quirks, and what they become."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from retail_core.arrow_compute import pc
from retail_core.sources.source import Problems, Source, Table
from retail_core.sources.values import text

BOOKKEEPING = ("AMAZONFEE", "B", "BANK CHARGES", "CRUK", "S")
"""Stock codes of fees, bad debt, charity and samples: the shop's own entries, not a user's."""


def prepare(table: Table, _: Source) -> Table:
    """Cancellations become refunds of a positive quantity; bookkeeping lines are refused.

    An invoice number that begins with C, or a negative quantity, makes a `refund`; one that begins
    with A is an adjustment. `17850.0` as a customer is user `17850`.
    """
    invoice, code = text(table.columns["InvoiceNo"]), text(table.columns["StockCode"])
    quantity = text(table.columns["Quantity"])
    back = pc.or_(
        pc.fill_null(pc.starts_with(invoice, "C"), False),
        pc.fill_null(pc.match_substring_regex(quantity, r"^-\d"), False),
    )
    columns = dict(table.columns)
    columns["CustomerID"] = pc.replace_substring_regex(text(columns["CustomerID"]), r"\.0+$", "")
    columns["Quantity"] = pc.if_else(back, pc.replace_substring_regex(quantity, r"^-(\d)", r"\1"), quantity)
    columns["event_type"] = pc.if_else(back, pa.scalar("refund"), pa.scalar("purchase"))
    changed = replace(table, columns=columns)
    problems = _bookkeeping(invoice, code)
    return changed.without(problems)[0] if problems else changed


def _bookkeeping(invoice: pa.Array, code: pa.Array) -> Problems:
    own = pc.fill_null(pc.is_in(code, value_set=pa.array(BOOKKEEPING)), False)
    problems: Problems = {row: ("StockCode", "not_a_product", code[row].as_py()) for row in _rows(own)}
    adjusted = pc.fill_null(pc.starts_with(invoice, "A"), False)
    problems |= {row: ("InvoiceNo", "adjustment", invoice[row].as_py()) for row in _rows(adjusted)}
    return problems


def _rows(mask: pa.Array) -> list[int]:
    rows: list[int] = pc.indices_nonzero(mask).to_pylist()
    return rows


ONLINE_RETAIL = Source(
    name="online_retail",
    columns={
        "user_id": ("CustomerID",),
        "event_time": ("InvoiceDate",),
        "event_type": ("event_type",),
        "item_id": ("StockCode",),
        "price": ("UnitPrice",),
        "quantity": ("Quantity",),
        "order_id": ("InvoiceNo",),
    },
    timezone="Europe/London",
    policy="daily",
    constants={"currency": "GBP"},
    properties=("Country", "Description"),
    needs=("CustomerID", "InvoiceDate", "InvoiceNo", "StockCode", "Quantity"),
    derived=("event_type",),
    prepare=prepare,
)
