"""Files of users: attributes with and without a date, without events."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.features.batch.attribute_columns import attribute_columns_as_of
from retail_core.features.user_attributes import AttributeEncoding
from retail_core.ingest import IngestReport, ingest, replay, undo
from retail_core.scoring.shop_context import store_shop_context
from retail_core.sources import Source
from retail_core.store.lake.table import Lake, sync
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.ledger import shop_zone, source_policy
from retail_core.workspace import Workspace

AT = datetime(2025, 3, 1, tzinfo=UTC)
DATED = (
    "id,since,age\nu1,2025-01-10,30\nu1,2025-02-01,31\nu2,,50\nu1,2025-01-10,30\n,2025-01-10,9\nu3,soon,8\n"
)
MAPPING = "name: shop_users\ncolumns: {user_id: id}\nvalid_from: since\nattributes: {age: number}\n"
UNDATED = MAPPING.replace("valid_from: since\n", "")


def source_of(folder: Path, text: str) -> Source:
    path = folder / "users.yaml"
    path.write_text(text)
    return sources.from_mapping(path)


def ingest_users(store: Store, folder: Path, text: str = DATED, mapping: str = MAPPING) -> IngestReport:
    (folder / "users.csv").write_text(text)
    return ingest(store, [folder / "users.csv"], source_of(folder, mapping), timezone="Asia/Tokyo", at=AT)


def counts(report: IngestReport) -> tuple[int, int, int, int, int]:
    return (
        report.rows_read,
        report.events_inserted,
        report.users_inserted,
        report.duplicates,
        report.quarantined,
    )


def ages(store: Store, policy: str, *, undated: bool = False) -> list[float]:
    """Ages of u1 and u2 as of 2025-01-15, and of u1 before it is known."""
    sync(store)
    cutoffs = [
        datetime(2025, 1, 15, tzinfo=UTC),
        datetime(2025, 1, 15, tzinfo=UTC),
        datetime(2025, 1, 9, tzinfo=UTC),
    ]
    pairs = pd.DataFrame(
        {"user_id": ["u1", "u2", "u1"], "as_of": pd.DatetimeIndex(cutoffs).as_unit("ms"), "policy": policy}
    )
    attribute = AttributeEncoding("age", "number", undated=undated)
    columns = attribute_columns_as_of(Lake(store.settings.lake_url), pairs, [attribute])
    return [float(value) for value in columns["attr_age"]]


def test_rows_add_up_and_count_from_their_date(store: Store, tmp_path: Path) -> None:
    report = ingest_users(store, tmp_path)
    assert counts(report) == (6, 0, 3, 1, 2)
    assert report.summary["users"] == 2
    assert [(row["field"], row["rule"], row["count"]) for row in report.warnings] == [("since", "undated", 1)]
    assert {row["rule"] for row in store.quarantine.find()} == {"missing", "time"}
    assert ages(store, "daily") == pytest.approx([30, float("nan"), float("nan")], nan_ok=True)
    again = ingest_users(store, tmp_path, DATED + "u4,2025-02-01,20\n")
    assert counts(again) == (7, 0, 1, 4, 2)
    assert ingest_users(store, tmp_path, DATED).skipped_files == 1


def test_attributes_without_a_date_are_not_known_in_the_past(store: Store, tmp_path: Path) -> None:
    report = ingest_users(store, tmp_path, "id,age\nu1,30\nu2,50\n", UNDATED)
    assert counts(report) == (2, 0, 2, 0, 0)
    nan = float("nan")
    assert ages(store, "daily") == pytest.approx([nan, nan, nan], nan_ok=True)
    assert ages(store, "in-session") == pytest.approx([nan, nan, nan], nan_ok=True)


def test_a_file_of_users_decides_neither_zone_nor_policy(store: Store, tmp_path: Path) -> None:
    ingest_users(store, tmp_path)
    assert (shop_zone(store), source_policy(store)) == ("UTC", None)
    assert store_shop_context(Workspace.synchronized(store)) == 0
    with pytest.raises(InputError, match="would be read differently"):
        ingest_users(store, tmp_path, mapping=UNDATED)


def test_an_undone_file_of_users_leaves_nothing(store: Store, tmp_path: Path) -> None:
    ingest_users(store, tmp_path)
    (tmp_path / "more").mkdir()
    ingest_users(store, tmp_path / "more", "id,since,age\nu1,2025-01-10,30\nu5,2025-01-10,1\n")
    first, second = store.ledger.find({"kind": "file"}, sort=[("started_at", 1), ("counts.rows_read", -1)])
    assert second["counts"] == {"rows_read": 2, "inserted": 1, "duplicates": 1, "quarantined": 0}
    report = undo(store, first["_id"], at=AT)
    assert (report.users, report.users_removed, report.users_kept, report.quarantined_removed) == (3, 2, 1, 2)
    kept = store.ledger.find_one({"_id": second["_id"]}) or {}
    assert kept["counts"] == {"rows_read": 2, "inserted": 2, "duplicates": 0, "quarantined": 0}
    assert sorted(row["user_id"] for row in store.users.find()) == ["u1", "u5"]
    assert ages(store, "daily")[0] == 30
    undo(store, second["_id"], at=AT)
    assert store.users.count_documents({}) == store.quarantine.count_documents({}) == 0


def test_refused_users_can_be_replayed(store: Store, tmp_path: Path) -> None:
    ingest_users(store, tmp_path)
    mapping = MAPPING + "time: [iso, 'soon %Y']\nnulls: [soon]\n"
    report = replay(store, source_of(tmp_path, mapping), at=AT)
    assert (report.rows, report.events_inserted, report.quarantined) == (2, 1, 1)
    stored = store.users.find_one({"user_id": "u3"}) or {}
    assert (stored["valid_from"], stored["attributes"]) == (None, '{"age":8}')
