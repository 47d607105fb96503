"""Context features are stored by training, scoring and ingestion, and read by day."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from bentos.history_reader import HistoryReader
from bentos.mongo_connection import MongoConnection
from retail_core import sources
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import CONTEXT_MEASURES, context_key, local_day
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import FeatureSet
from retail_core.features.prediction_task import PredictionTask
from retail_core.ingest import ingest
from retail_core.scoring.shop_context import (
    compute_context,
    store_context,
    store_shop_context,
    stored_context,
)
from retail_core.simulate import SimulationConfig, simulate
from retail_core.store.mongo.connection import Store
from retail_core.workspace import Workspace
from tests.feature_logs import DAY, HOUR, micros, write_lake

pytestmark = pytest.mark.integration

AS_OF = datetime(2025, 1, 31, tzinfo=UTC)
TASK = PredictionTask(timezone="Asia/Tokyo")


def test_stored_context_equals_computed_context(store: Store, tmp_path: Path) -> None:
    as_of_us = micros(AS_OF.isoformat())
    log = [OnlineEvent(f"{i:032x}", f"u{i % 7}", as_of_us - i * 5 * HOUR, "purchase") for i in range(300)]
    lake = write_lake(tmp_path, log)
    context = compute_context(lake, TASK, AS_OF)
    store_context(store, context, TASK, AS_OF)
    day = local_day(AS_OF, TASK)
    assert context == context_by_day(lake, TASK, [day])
    assert stored_context(store, TASK, AS_OF) == context[day]
    assert set(context[day]) == {name for name, *_ in CONTEXT_MEASURES}
    # Any instant of that local day finds it; no other day, and no other task, does.
    assert stored_context(store, TASK, AS_OF + timedelta(hours=14)) == context[day]
    assert stored_context(store, TASK, AS_OF + timedelta(hours=15)) is None
    assert stored_context(store, PredictionTask(), AS_OF) is None


def test_the_service_reads_the_stored_context(store: Store, tmp_path: Path) -> None:
    as_of_us = micros(AS_OF.isoformat())
    log = [OnlineEvent(f"{i:032x}", f"u{i % 7}", as_of_us - i * 5 * HOUR, "purchase") for i in range(300)]
    store_context(store, compute_context(write_lake(tmp_path, log), TASK, AS_OF), TASK, AS_OF)
    key = context_key(local_day(AS_OF, TASK), TASK)

    async def ask() -> dict[str, dict[str, float | None]]:
        connection = MongoConnection(store.settings)
        try:
            return await HistoryReader(connection).context([key, "1999-01-01 UTC 7d"])
        finally:
            await connection.close()

    assert asyncio.run(ask()) == {key: stored_context(store, TASK, AS_OF)}


def test_late_events_replace_stored_values_and_nulls_are_kept(store: Store, tmp_path: Path) -> None:
    as_of_us = micros(AS_OF.isoformat())
    view = OnlineEvent("1", "u", as_of_us - DAY, "view_item")
    store_context(store, compute_context(write_lake(tmp_path, [view]), TASK, AS_OF), TASK, AS_OF)
    before = stored_context(store, TASK, AS_OF) or {}
    assert (before["buyers_yesterday"], before["rate_usual"]) == (0, None)
    with_late = write_lake(tmp_path, [view, view._replace(event_id="2", event_type="purchase")])
    store_context(store, compute_context(with_late, TASK, AS_OF), TASK, AS_OF)
    assert (stored_context(store, TASK, AS_OF) or {})["buyers_yesterday"] == 1
    assert store.context.count_documents({}) == 1


def test_batch_features_from_the_lake_equal_the_stored_context(store: Store, tmp_path: Path) -> None:
    """Its folders are named by day, which the engine reads as a column."""
    log = tmp_path / "log.csv"
    simulate(SimulationConfig(users=60, days=20, seed=3, start=date(2025, 1, 11)), log)
    ingest(store, [log], sources.get_preset("canonical"), at=AS_OF)
    lake, task = Workspace.synchronized(store).lake, PredictionTask()
    context = compute_context(lake.snapshot(), task, AS_OF)[date(2025, 1, 31)]
    assert context["buyers_usual"] is not None
    names = tuple(f"shop_{name}" for name in context)
    pairs = daily_pairs(lake, task, [AS_OF])
    rows = compute_features(lake, pairs, FeatureSet(task, names))
    assert len(rows) > 1
    assert rows[list(names)].drop_duplicates().to_dict("records") == [
        {f"shop_{name}": value for name, value in context.items()}
    ]


def test_every_recent_day_of_the_lake_is_stored(store: Store, tmp_path: Path) -> None:
    """Up to the one that begins at the shop's next midnight, from the same events as in batch."""
    log = tmp_path / "log.csv"
    simulate(SimulationConfig(users=60, days=20, seed=3, start=date(2025, 1, 11)), log)
    assert store_shop_context(Workspace(store)) == 0
    ingest(store, [log], sources.get_preset("canonical"), at=AS_OF)
    workspace = Workspace.synchronized(store)
    # The first day has nothing before it; the log ends on the 30th.
    assert store_shop_context(workspace) == 20
    days = [date(2025, 1, 12) + timedelta(days=n) for n in range(20)]
    computed = context_by_day(workspace.lake, PredictionTask(), days)
    for day in days:
        at = datetime(day.year, day.month, day.day, 23, tzinfo=UTC)
        expected = {
            name: None if math.isnan(value or 0.0) else value for name, value in computed[day].items()
        }
        assert stored_context(store, PredictionTask(), at) == expected
    assert stored_context(store, PredictionTask(), datetime(2025, 2, 1, tzinfo=UTC)) is None
