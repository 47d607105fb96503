"""The real logs: every row is accounted for, cut-off lines are found, a second run costs next to nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from retail_core import sources
from retail_core.ingest import ingest
from retail_core.store.mongo.connection import Store

pytestmark = [pytest.mark.realdata, pytest.mark.integration, pytest.mark.long]

AT = datetime(2025, 1, 1, tzinfo=UTC)

EXPECTED = {
    "taobao": ("taobao/UserBehavior_head.csv.gz", (84_476, 84_475, 0, 1)),
    "rees46": ("rees46/2019-Oct_head.csv.gz", (17_435, 17_429, 5, 1)),
    "otto": ("otto/train.jsonl", (862, 862, 0, 0)),
    "app_profile": ("app_profile/retail_app_data.csv.gz", (101_721, 101_721, 0, 0)),
    "online_retail": ("online_retail/*.csv.gz", (541_909, 401_576, 5_225, 135_108)),
}
"""Source -> files, and rows read, inserted, duplicates, in quarantine."""

NO_PRODUCTS = ["ADJUST", "ADJUST2", "AMAZONFEE", "B", "BANK CHARGES", "CRUK", "S", "TEST001", "TEST002"]
"""Stock codes of Online Retail that are accounting entries or tests."""


@pytest.mark.parametrize("source", EXPECTED)
def test_every_real_row_is_accounted_for_and_a_second_run_is_quick(
    shared_data: Path, store: Store, source: str
) -> None:
    pattern, counts = EXPECTED[source]
    files = sorted(shared_data.glob(pattern))
    first = ingest(store, files, sources.get_preset(source), at=AT)
    assert (first.rows_read, first.events_inserted, first.duplicates, first.quarantined) == counts
    assert store.events.count_documents({}) == first.events_inserted
    assert store.quarantine.count_documents({}) == first.quarantined
    second = ingest(store, files, sources.get_preset(source), at=AT)
    assert (second.rows_read, second.events_inserted, second.skipped_files) == (0, 0, len(files))
    assert second.seconds <= first.seconds / 5 or second.seconds < 0.1


@pytest.mark.parametrize(("source", "line"), [("taobao", 84_476), ("rees46", 17_436)])
def test_exactly_the_cut_off_last_line_is_refused(shared_data: Path, source: str, line: int) -> None:
    (path,) = shared_data.glob(EXPECTED[source][0])
    refused = [
        refusal
        for chunk in sources.read_events(path, sources.get_preset(source))
        for refusal in chunk.refused
    ]
    assert [(refusal.line, refusal.rule) for refusal in refused] == [(line, "fields")]


def test_the_second_edition_of_online_retail_is_read_completely(shared_data: Path, store: Store) -> None:
    """The counts are computed from the files by pandas."""
    files = sorted(shared_data.glob("online_retail_2010/*.csv.gz"))
    lines = pd.concat([pd.read_csv(path, dtype=str, keep_default_na=False) for path in files])
    code = lines["StockCode"].str.strip()
    refused = lines["Customer ID"].eq("") | code.isin(NO_PRODUCTS) | lines["Invoice"].str.startswith("A")
    duplicates = int(lines[~refused].duplicated().sum())
    report = ingest(store, files, sources.get_preset("online_retail"), at=AT)
    assert report.rows_read == len(lines) == 502_938
    assert report.quarantined == refused.sum()
    assert report.duplicates == duplicates
    assert report.events_inserted == len(lines) - refused.sum() - duplicates
    assert report.filtered == []
    is_refund = lines["Invoice"].str.startswith("C") | lines["Quantity"].str.startswith("-")
    refunds = int((~lines[~refused].duplicated() & is_refund[~refused]).sum())
    assert store.events.count_documents({"event_type": "refund"}) == refunds
    spend = sum(
        event["price_minor"] * event["quantity"]
        for event in store.events.find({"event_type": "purchase"}, {"price_minor": 1, "quantity": 1})
    )
    sold = lines[~refused & ~is_refund].drop_duplicates()
    assert spend == pytest.approx(
        (sold["Price"].astype(float) * sold["Quantity"].astype(int)).sum() * 100, rel=1e-4
    )


def test_the_user_table_becomes_users_screens_and_purchases(shared_data: Path) -> None:
    path = shared_data / "app_profile" / "retail_app_data.csv.gz"
    chunks = list(sources.read_events(path, sources.get_preset("app_profile")))
    assert sum(len(chunk.users) for chunk in chunks) == 12_000
    bought = [(chunk.events["event_type"] == "purchase").sum() for chunk in chunks]
    assert sum(bought) == 7_053
    assert not any("purchase" in attributes for chunk in chunks for attributes in chunk.users["attributes"])
