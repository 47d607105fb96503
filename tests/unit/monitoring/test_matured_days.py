"""Which stored lists count as matured days, and for which version."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.spec import ModelSpec
from retail_core.monitoring.matured_days import MaturedDays, select_days
from retail_core.monitoring.performance_test import ReferencePerformance

MADRID = "Europe/Madrid"
DAY = timedelta(days=1)
TRAINED = datetime(2025, 3, 1, tzinfo=UTC) - timedelta(hours=1)
"""A midnight in Madrid."""


def spec(
    version: str, trained: datetime, *, horizon_hours: int = 24, recalibrated: datetime | None = None
) -> ModelSpec:
    task = PredictionTask(timezone=MADRID, horizon_hours=horizon_hours)
    recalibration = {"recalibration": {"as_of": recalibrated.isoformat()}} if recalibrated else {}
    return ModelSpec(
        version=version,
        run_id="r",
        trained_at=trained,
        feature_set=default_feature_set(task),
        policies=("daily",),
        thresholds={},
        certificates={},
        reasons={},
        metrics={},
        reference={},
        data={"as_of": trained.isoformat()},
        training=recalibration,
    )


def row(as_of: datetime, version: str = "2", **counts: Any) -> dict[str, Any]:
    usual = {
        "rows": 100,
        "buyers": 3,
        "promised": 3.5,
        "squares": 0.5,
        "true_positives": 1,
        "false_positives": 2,
    }
    return {"as_of": as_of, "model_version": version} | usual | counts


def select(rows: list[dict[str, Any]], *specs: ModelSpec, announced: tuple[date, ...] = ()) -> MaturedDays:
    by_version = {entry.version: entry for entry in specs or (spec("2", TRAINED),)}
    return select_days(rows, by_version, TRAINED + 10 * DAY, announced)


def test_lists_whose_labels_are_unknown_or_were_trained_on_do_not_count() -> None:
    lists = [row(TRAINED + n * DAY) for n in range(-3, 12)]
    days = select(lists).days
    assert [day.as_of for day in days] == [TRAINED + n * DAY for n in range(10)]


def test_a_recalibrated_version_counts_from_its_recalibration() -> None:
    champion = spec("2", TRAINED - 30 * DAY, recalibrated=TRAINED)
    assert select([row(TRAINED - 2 * DAY), row(TRAINED + DAY)], champion).days[0].as_of == TRAINED + DAY


def test_days_of_an_earlier_champion_count_where_the_champion_has_no_list() -> None:
    champion, earlier = spec("2", TRAINED), spec("1", TRAINED - 20 * DAY)
    lists = [row(TRAINED + n * DAY, "1") for n in (-2, 0, 1)] + [row(TRAINED + DAY), row(TRAINED + DAY, "9")]
    days = select(lists, champion, earlier).days
    assert [(day.version, (day.as_of - TRAINED) // DAY) for day in days] == [("1", -2), ("1", 0), ("2", 1)]


def test_of_overlapping_lists_the_first_of_a_day_counts_also_when_clocks_change() -> None:
    spring = datetime(2025, 3, 30, tzinfo=UTC) - timedelta(hours=1)
    champion = spec("2", spring - DAY)
    midnights = [spring, spring + timedelta(hours=23), spring + timedelta(hours=47)]
    lists = [row(midnights[0]), row(midnights[0] + timedelta(hours=9)), *(row(t) for t in midnights[1:])]
    selected = select_days(lists, {"2": champion}, spring + 10 * DAY, ())
    assert [day.as_of for day in selected.days] == midnights


def test_a_long_horizon_counts_one_list_per_horizon() -> None:
    days = select([row(TRAINED + n * DAY) for n in range(10)], spec("2", TRAINED, horizon_hours=72)).days
    assert [(day.as_of - TRAINED) // DAY for day in days] == [0, 3, 6]


def test_announced_local_days_are_left_out_and_counted() -> None:
    matured = select(
        [row(TRAINED + n * DAY) for n in range(5)], announced=(date(2025, 3, 2), date(2025, 3, 9))
    )
    assert [(day.as_of - TRAINED) // DAY for day in matured.days] == [0, 2, 3, 4]
    assert matured.announced == 1


def test_a_window_has_the_newest_days_since_an_instant() -> None:
    matured = select([row(TRAINED + n * DAY, buyers=n) for n in range(8)])
    window = matured.since(TRAINED + 3 * DAY).newest(2)
    assert window.promised().observed.tolist() == [6, 7]
    assert matured.since(None).buyers == 28


def test_confusion_counts_leave_out_versions_without_a_reference() -> None:
    champion, earlier = spec("2", TRAINED), spec("1", TRAINED - 20 * DAY)
    matured = select([row(TRAINED - 2 * DAY, "1"), row(TRAINED + DAY)], champion, earlier)
    reference = ReferencePerformance("2", 0.3, 0.3, 0.02, 0.03, 0.1, 1.0)
    confusion = matured.confusion({"2": reference})
    assert np.array_equal(confusion.non_buyers, [97])
    assert matured.confusion({"2": reference, "1": reference}).version.tolist() == [1, 0]
