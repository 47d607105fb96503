"""The library API: equal to the batch and the export command, and clear about events it refuses."""

from __future__ import annotations

import doctest
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest

from retail_core import api
from retail_core.api import PredictionTask, labels, point_in_time_features, predictions
from retail_core.errors import DataError, InputError
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.engine import DUCKDB
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_export import export_features
from retail_core.features.feature_set import default_feature_set
from retail_core.model.calibration import fit_calibrator
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.linear import LogisticRanker
from retail_core.model.served_model import ModelSpec, ServedModel
from retail_core.schemas import EVENT_COLUMNS, EVENT_TYPES
from retail_core.scoring.list_predictions import predict_eligible
from retail_core.store.lake.table import Lake
from retail_core.times import to_micros
from tests.feature_logs import FolderLake, pairs_of, write_lake

AS_OF = datetime(2025, 1, 31, tzinfo=UTC)
TASK = PredictionTask(timezone="Europe/Berlin")
USERS = pd.DataFrame(
    {
        "user_id": [f"u{n}" for n in range(30)],
        "valid_from": pd.Timestamp("2025-01-02", tz="UTC"),
        "attributes": [
            json.dumps({"age": 20 + n % 7, "tier": "gold" if n % 3 else "new"}) for n in range(30)
        ],
    }
)


def random_log(size: int = 600, until: datetime = AS_OF + timedelta(days=3)) -> list[OnlineEvent]:
    """Events of 30 users over 35 days, with nulls and equal times."""
    rng = np.random.default_rng(11)
    end = to_micros(until)
    return [
        OnlineEvent(
            f"{n:032x}", f"u{rng.integers(30)}", end - int(rng.integers(35 * 24 * 60)) * 60_000_000,
            str(rng.choice(EVENT_TYPES)), rng.choice([None, "a", "b"]), rng.choice([None, "x", "y"]), None,
            rng.choice([None, 199, 1_000]), rng.choice([None, 1, 3]), rng.choice([None, "o1"]),
        )
        for n in range(size)
    ]  # fmt: skip


LOG = random_log()


def event_frame(log: list[OnlineEvent]) -> pd.DataFrame:
    frame = pd.DataFrame(log, columns=list(OnlineEvent._fields))
    frame["event_time"] = pd.to_datetime(frame["event_time"], unit="us", utc=True)
    return frame


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return write_lake(tmp_path, LOG, USERS.to_dict("records"))


def test_the_examples_of_the_module_run() -> None:
    outcome = doctest.testmod(api)
    assert outcome.attempted > 10
    assert outcome.failed == 0


def test_features_at_cutoffs_equal_the_batch(lake: FolderLake) -> None:
    instants = [to_micros(AS_OF - timedelta(hours=n)) for n in (0, 5, 100)]
    cutoffs = pairs_of((f"u{n}", t) for n in range(31) for t in instants).assign(note="x")
    expected = compute_features(lake, cutoffs, default_feature_set(TASK))
    pd.testing.assert_frame_equal(
        point_in_time_features(event_frame(LOG), cutoffs, task=TASK), expected, check_exact=True
    )


def test_features_of_eligible_users_equal_the_export_command(lake: FolderLake, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    export_features(cast("Lake", lake), TASK, [AS_OF], out)
    features = point_in_time_features(event_frame(LOG), as_of=AS_OF, task=TASK, users=USERS)
    assert {"attr_age", "attr_tier=gold"} <= set(features.columns)
    pd.testing.assert_frame_equal(features, pd.read_parquet(out), check_exact=True)


@pytest.mark.parametrize("source", ["file", "folder", "lake"])
def test_events_are_read_from_parquet_and_lakes(source: str, lake: FolderLake, tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    pd.read_parquet(lake.events).to_parquet(folder / "part.parquet")
    events = {"file": folder / "part.parquet", "folder": str(folder), "lake": lake}[source]
    users = None if source == "lake" else USERS
    features = point_in_time_features(events, as_of=AS_OF, task=TASK, users=users)
    expected = point_in_time_features(event_frame(LOG), as_of=AS_OF, task=TASK, users=USERS)
    pd.testing.assert_frame_equal(features, expected, check_exact=True)


def test_events_at_or_after_as_of_change_nothing() -> None:
    frame = event_frame(LOG)
    before = frame[frame["event_time"] < AS_OF]
    assert len(before) < len(frame)
    model = small_model()
    for log in (before, frame, frame.drop(columns="event_id")):
        features = point_in_time_features(log, as_of=[AS_OF, AS_OF - timedelta(days=1)], task=TASK)
        expected = point_in_time_features(before, as_of=[AS_OF, AS_OF - timedelta(days=1)], task=TASK)
        pd.testing.assert_frame_equal(features, expected, check_exact=True)
        pd.testing.assert_frame_equal(
            predictions(model, log, AS_OF), predictions(model, before, AS_OF), check_exact=True
        )


OUTAGES = PredictionTask(quiet_days="outage")


def test_labels_are_unknown_beyond_the_log_and_in_gaps() -> None:
    days = [n for n in range(20) if n != 12]
    events = pd.DataFrame(
        {
            "user_id": [f"u{n % 2}" for n in days],
            "event_time": [pd.Timestamp("2025-01-01T10:00Z") + pd.Timedelta(days=n) for n in days],
            "event_type": "purchase",
        }
    )
    pairs = pd.DataFrame(
        {"user_id": "u1", "as_of": pd.date_range("2025-01-09", "2025-01-21", freq="D", tz="UTC")},
        index=range(100, 113),
    )
    by_rate = labels(events, pairs)["label"]
    assert not by_rate[104], "one user a day: a silent day is usual"
    assert by_rate.drop(104).equals(labels(events, pairs, OUTAGES)["label"].drop(104))
    label = labels(events, pairs, OUTAGES)["label"]
    assert label.index.tolist() == pairs.index.tolist()
    # u1 purchases on even dates; 13 January has no event, the log ends on 20 January at 10:00.
    assert label.tolist() == [
        False,
        True,
        False,
        True,
        pd.NA,
        True,
        False,
        True,
        False,
        True,
        False,
        pd.NA,
        pd.NA,
    ]
    assert labels(events.iloc[:0], pairs)["label"].isna().all()


def small_model() -> ServedModel:
    """A logistic regression on all features, without a registry."""
    feature_set = default_feature_set(TASK)
    rng = np.random.default_rng(3)
    rows = rng.gamma(1.0, 2.0, (500, len(feature_set.columns)))
    bought = rng.random(500) < 0.3
    model = CalibratedRanker({"daily": LogisticRanker().fit(rows, bought)})
    model.calibrators = {"daily": fit_calibrator(model.raw_score(rows), bought)}
    figures = {"ap": 0.3, "auc": 0.8, "f1": 0.3, "base_rate": 0.04, "n": 1000, "positives": 40}
    spec = ModelSpec(
        version="7", run_id="", trained_at=AS_OF, feature_set=feature_set, policies=("daily",),
        thresholds={"daily": {"f1": 0.2, "recall": 0.02, "no-miss": 0.01, "contact": 0.02}},
        certificates={"daily": None}, reasons={"daily": ""}, metrics={"daily": figures}, reference=figures,
        data={}, self_test={},
    )  # fmt: skip
    return ServedModel(spec, model)


def test_predictions_equal_those_of_the_score_command(lake: FolderLake) -> None:
    model = small_model()
    expected = predict_eligible(lake, model, AS_OF, DUCKDB)
    assert len(expected) > 10
    assert expected["probability"].nunique() > 1
    for as_of in (AS_OF, "2025-01-31T00:00:00Z", "2025-01-31T01:00:00+01:00"):
        table = predictions(model, event_frame(LOG), as_of, users=USERS)
        pd.testing.assert_frame_equal(table, expected, check_exact=True)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        predictions(tmp_path, event_frame(LOG), AS_OF)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event_time": pd.Timestamp("2025-01-30")}, "events.event_time has no time zone"),
        ({"event_time": "2025-01-30T00:00:00Z"}, "events.event_time contains"),
        ({"colour": "red", "size": 3}, "unknown columns: colour, size"),
        ({"price_minor": -5}, r"events.price_minor fails the check .* -5"),
        ({"price_minor": 1.5}, "events.price_minor fails"),
        ({"user_id": None}, "events.user_id fails the check not_nullable 600 times"),
        ({"user_id": 17}, "events.user_id fails"),
        ({"event_time": pd.Timestamp("1971-01-01", tz="UTC")}, "events.event_time fails"),
        ({"event_id": "x"}, "not unique: 599 rows"),
    ],
)
def test_events_outside_the_contract_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        point_in_time_features(event_frame(LOG).assign(**change), as_of=AS_OF)
    assert error.value.remedy


def test_missing_columns_cutoffs_and_naive_instants_are_refused() -> None:
    frame, pairs = event_frame(LOG), pairs_of([("u1", to_micros(AS_OF))])
    with pytest.raises(InputError, match="events lacks the columns event_type"):
        point_in_time_features(frame.drop(columns="event_type"), as_of=AS_OF)
    with pytest.raises(InputError, match="Exactly one"):
        point_in_time_features(frame)
    with pytest.raises(InputError, match="Exactly one"):
        point_in_time_features(frame, pairs, as_of=AS_OF)
    for naive in ("2025-01-31", datetime(2025, 1, 31)):  # noqa: DTZ001 - a naive instant is refused
        with pytest.raises(InputError, match="no time zone"):
            point_in_time_features(frame, as_of=naive)
    with pytest.raises(InputError, match="not an ISO 8601 time"):
        point_in_time_features(frame, as_of="soon")
    with pytest.raises(InputError, match=r"cutoffs\.as_of has no time zone"):
        labels(frame, pairs.assign(as_of=pairs["as_of"].dt.tz_localize(None)))
    with pytest.raises(InputError, match="fails the check multiple_fields_uniqueness"):
        labels(frame, pd.concat([pairs, pairs]))
    with pytest.raises(InputError, match="users has unknown columns: age"):
        point_in_time_features(frame, as_of=AS_OF, users=USERS.assign(age=3))
    with pytest.raises(DataError, match="No user has an event"):
        point_in_time_features(frame, as_of="2024-01-01T00:00:00Z")


def test_every_column_of_the_event_contract_is_accepted() -> None:
    frame = event_frame(LOG).assign(currency="EUR", session_id=None, platform="web", properties="{}")
    assert set(frame.columns) == set(EVENT_COLUMNS)
    features = point_in_time_features(frame, as_of=AS_OF, task=TASK)
    expected = point_in_time_features(event_frame(LOG), as_of=AS_OF, task=TASK)
    pd.testing.assert_frame_equal(features, expected, check_exact=True)
