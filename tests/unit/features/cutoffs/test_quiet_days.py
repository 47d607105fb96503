"""Real quiet days of a small shop are part of its base rate."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from retail_core.features.cutoffs.cutoff_plan import labelled_cutoffs
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.labelled import build_labelled_rows
from retail_core.times import to_micros
from tests.feature_logs import FolderLake, write_lake

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
DAYS, USERS, VISITS_PER_DAY = 120, 60, 1.6
END = FIRST + timedelta(days=DAYS)
TASK = PredictionTask(lookback_days=7)


@pytest.fixture(scope="module")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> FolderLake:
    """60 users, each of whom comes on a day with 2.7 % and buys on every second visit: a fifth is silent."""
    rng = np.random.default_rng(11)
    events = []
    for day in range(DAYS):
        for user in np.flatnonzero(rng.random(USERS) < VISITS_PER_DAY / USERS):
            visit = FIRST + timedelta(days=day, seconds=float(rng.uniform(0, 86_000)))
            acts = ["view_item", "purchase"] if rng.random() < 0.5 else ["view_item"]
            for act in acts:
                visit += timedelta(seconds=20)
                events.append(OnlineEvent(f"{len(events):032x}", f"u{user}", to_micros(visit), act))
    last = END - timedelta(seconds=20)
    events.append(OnlineEvent("end", "u0", to_micros(last), "view_item"))
    return write_lake(tmp_path_factory.mktemp("lake"), events)


def base_rate(lake: FolderLake, task: PredictionTask) -> tuple[float, int]:
    """Share of buyers among the labelled rows, and the number of cut-offs."""
    labelled = build_labelled_rows(lake, task, ("daily",), END)  # type: ignore[arg-type]
    return float(labelled.rows["label"].mean()), labelled.rows["as_of"].nunique()


def test_the_base_rate_of_a_small_shop_counts_its_quiet_days(small_shop: FolderLake) -> None:
    """Every day was recorded, so that the truth is the rate over all days (`real`)."""
    truth, all_cutoffs = base_rate(small_shop, replace(TASK, quiet_days="real"))
    by_default, cutoffs = base_rate(small_shop, TASK)
    without_quiet_days, _ = base_rate(small_shop, replace(TASK, quiet_days="outage"))
    assert without_quiet_days > 1.2 * truth, "what a day without events did to the base rate"
    assert cutoffs == all_cutoffs
    assert by_default == truth


def test_the_plan_names_quiet_days_and_outages(small_shop: FolderLake) -> None:
    plan = labelled_cutoffs(small_shop, TASK, END)
    assert plan.gaps == ()
    assert len(plan.quiet_days) > 0.12 * DAYS
    strict = labelled_cutoffs(small_shop, replace(TASK, quiet_days="outage"), END)
    assert (strict.gaps, strict.quiet_days) == (plan.quiet_days, ())
