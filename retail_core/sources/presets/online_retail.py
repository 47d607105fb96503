"""UCI Online Retail, invoice lines of a British shop, in both editions.

https://archive.ics.uci.edu/dataset/352/online+retail and
https://archive.ics.uci.edu/dataset/502/online+retail+ii, which names three columns differently.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from retail_core.arrow_compute import pc
from retail_core.sources.raw_table import Problems, RawTable
from retail_core.sources.source import Source
from retail_core.sources.text_cleaning import cleaned_text

BOOKKEEPING = (
    "ADJUST", "ADJUST2", "AMAZONFEE", "B", "BANK CHARGES", "CRUK", "S", "TEST001", "TEST002",
)  # fmt: skip
"""Stock codes of adjustments, fees, bad debt, charity, samples and tests: no act of a user."""


def prepare_invoices(table: RawTable, source: Source) -> RawTable:
    """Turn cancellations into refunds of a positive quantity and refuse bookkeeping lines.

    A line with an invoice number that begins with C or with a negative quantity is a `refund`; an invoice
    number that begins with A is an adjustment.
    """
    invoice, code, quantity = (
        cleaned_text(table.columns[name], source.nulls) for name in ("InvoiceNo", "StockCode", "Quantity")
    )
    is_refund = pc.or_(
        pc.fill_null(pc.starts_with(invoice, "C"), False),
        pc.fill_null(pc.match_substring_regex(quantity, r"^-\d"), False),
    )
    columns = dict(table.columns)
    columns["Quantity"] = pc.if_else(
        is_refund, pc.replace_substring_regex(quantity, r"^-(\d)", r"\1"), quantity
    )
    columns["event_type"] = pc.if_else(is_refund, pa.scalar("refund"), pa.scalar("purchase"))
    prepared = replace(table, columns=columns)
    problems = _bookkeeping_lines(invoice, code)
    return prepared.refuse(problems)[0] if problems else prepared


def _bookkeeping_lines(invoice: pa.Array, code: pa.Array) -> Problems:
    is_bookkeeping = pc.fill_null(pc.is_in(code, value_set=pa.array(BOOKKEEPING)), False)
    problems: Problems = {
        row: ("StockCode", "not_a_product", code[row].as_py()) for row in _rows(is_bookkeeping)
    }
    is_adjustment = pc.fill_null(pc.starts_with(invoice, "A"), False)
    problems |= {row: ("InvoiceNo", "adjustment", invoice[row].as_py()) for row in _rows(is_adjustment)}
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
    prepare=prepare_invoices,
    spellings={"Invoice": "InvoiceNo", "Price": "UnitPrice", "Customer ID": "CustomerID"},
)
