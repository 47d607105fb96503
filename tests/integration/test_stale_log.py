"""Lists from a log that has stopped, or goes on with few of its events: a warning, or refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.errors import DataError
from retail_core.ingest import ingest
from retail_core.scoring.audience_selection import score_eligible_users
from retail_core.scoring.scores import score
from retail_core.store.mongo.connection import open_store
from retail_core.workspace import Workspace
from tests.serving import AS_OF, Shop

STOPPED = AS_OF + timedelta(days=5)


def test_a_stopped_or_thin_log_is_warned_of_and_can_be_refused(shop: Shop, tmp_path: Path) -> None:
    with open_store(shop.settings) as store:
        workspace = Workspace.synchronized(store)
        assert score(workspace, as_of=AS_OF, out=None, keep=False).warnings == ()
        report = score(workspace, as_of=STOPPED, out=None)
        assert report.warnings[0].startswith("The log is late: its newest event is of 2025-01-28T2")
        assert report.warnings[1].startswith(f"The list is short: {report.users:,} users were active")
        estimate = store.list_estimates.find_one({"_id": {"$regex": "^2025-02-03"}})
        assert estimate is not None
        assert estimate["warnings"] == list(report.warnings)
        late = score_eligible_users(workspace, AS_OF, now=STOPPED)
        assert [warning[:15] for warning in late.warnings] == ["The log is late"]
    strict = shop.settings.model_copy(update={"stale_log": "refuse"})
    with open_store(strict) as store:
        stored = store.predictions.count_documents({})
        with pytest.raises(DataError, match="The log is late") as refused:
            score(Workspace(store), as_of=STOPPED + timedelta(days=1), out=tmp_path / "scores.csv")
        assert "RETAIL_STALE_LOG" in refused.value.remedy
        assert store.predictions.count_documents({}) == stored
        assert not (tmp_path / "scores.csv").exists()
    _ingest_few_users(shop, tmp_path)
    with open_store(shop.settings) as store:
        report = score(Workspace.synchronized(store), as_of=AS_OF + timedelta(days=8), out=None, keep=False)
    assert [warning.partition(":")[0] for warning in report.warnings] == [
        "The list is short",
        "Few buyers are expected",
    ]


def _ingest_few_users(shop: Shop, folder: Path) -> None:
    """Events of thirty users on each of the days after the log has stopped, so that it is not silent."""
    instants = [AS_OF + timedelta(minutes=5 * n) for n in range(8 * 24 * 12)]
    rows = [f"u-{n % 30},{at.isoformat()},view_item" for n, at in enumerate(instants)]
    log = folder / "few.csv"
    log.write_text("\n".join(["user_id,event_time,event_type", *rows]) + "\n")
    with open_store(shop.settings) as store:
        ingest(store, [log], sources.get_preset("canonical"), at=STOPPED)
