"""Predictions and outcomes are replaced by window; the shop's time zone follows from the ledger."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandera.errors import SchemaErrors

from retail_core.errors import IntegrityError
from retail_core.schemas import Outcome, Prediction
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.ledger import shop_zone, source_policy
from retail_core.store.mongo.predictions import (
    outcome_counts,
    read_outcomes,
    read_predictions,
    replace_predictions,
    write_outcomes,
)

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
T = datetime(2025, 3, 1, tzinfo=UTC)


def predictions(users: range, *, as_of: datetime = T, version: str = "1", seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    count = len(users)
    return pd.DataFrame(
        {
            "user_id": pd.Series([f"u{user}" for user in users], dtype="str"),
            "as_of": pd.Series([pd.Timestamp(as_of)] * count).astype("datetime64[ms, UTC]"),
            "model_version": pd.Series([version] * count, dtype="str"),
            "policy": pd.Series(["daily"] * count, dtype="str"),
            "probability": generator.random(count),
            "raw_score": generator.random(count),
            "rank": np.arange(1, count + 1),
            "will_purchase": generator.random(count) > 0.5,
            "contact": generator.random(count) > 0.5,
        }
    )


def outcomes(frame: pd.DataFrame, *, purchased: bool) -> pd.DataFrame:
    return frame.assign(purchased=purchased)


def replace(store: Store, frame: pd.DataFrame, *, as_of: datetime = T, version: str = "1") -> int:
    return replace_predictions(store, frame, as_of=as_of, model_version=version)


def test_predictions_are_read_as_they_were_written(store: Store) -> None:
    frame = predictions(range(45_000))
    assert replace(store, frame.sample(frac=1, random_state=1)) == 45_000
    stored_frame = read_predictions(store)
    pd.testing.assert_frame_equal(stored_frame, frame)
    Prediction.validate(stored_frame)
    stored = store.predictions.find_one({"user_id": "u7"}, {"_id": 0})
    assert stored is not None
    assert stored == frame[frame["user_id"] == "u7"].iloc[0].to_dict() | {"as_of": T}


def test_counts_of_each_list_are_those_of_its_rows(store: Store) -> None:
    frames = [
        outcomes(predictions(range(40), as_of=T + timedelta(days=day), seed=day), purchased=False).assign(
            purchased=np.arange(40) % 7 == 0
        )
        for day in range(3)
    ]
    write_outcomes(store, pd.concat(frames, ignore_index=True))
    first, second = outcome_counts(store, since=T, before=T + timedelta(days=2), policy="daily")
    assert (first["as_of"], second["as_of"], first["model_version"]) == (T, T + timedelta(days=1), "1")
    rows = frames[1]
    assert (second["rows"], second["buyers"]) == (40, 6)
    assert second["promised"] == pytest.approx(rows["probability"].sum())
    assert second["squares"] == pytest.approx((rows["probability"] ** 2).sum())
    assert second["true_positives"] == (rows["purchased"] & rows["will_purchase"]).sum()
    assert second["false_positives"] == (~rows["purchased"] & rows["will_purchase"]).sum()
    store.prediction_windows.update_one(
        {"collection": "outcomes", "as_of": T}, {"$set": {"state": "writing"}}
    )
    (remaining,) = outcome_counts(store, since=T, before=T + timedelta(days=2), policy="daily")
    assert remaining["as_of"] == T + timedelta(days=1)
    assert outcome_counts(store, since=T, before=T + timedelta(days=2), policy="first-visit") == []


def test_writing_a_window_a_second_time_replaces_only_it(store: Store) -> None:
    other_day = predictions(range(5), as_of=T - timedelta(days=1))
    other_version = predictions(range(5), version="2")
    replace(store, other_day, as_of=T - timedelta(days=1))
    replace(store, other_version, version="2")
    replace(store, predictions(range(10)))
    replacement = predictions(range(5, 12), seed=3)
    for _ in range(2):
        assert replace(store, replacement) == 7
    pd.testing.assert_frame_equal(read_predictions(store, as_of=T, model_version="1"), replacement)
    pd.testing.assert_frame_equal(read_predictions(store, before=T), other_day)
    pd.testing.assert_frame_equal(read_predictions(store, model_version="2"), other_version)
    assert len(read_predictions(store, before=T + timedelta(milliseconds=1))) == 17
    replace(store, replacement.head(0))
    assert read_predictions(store, as_of=T, model_version="1").empty
    assert list(read_predictions(store, as_of=T, model_version="1").dtypes) == list(replacement.dtypes)


def test_the_instant_is_rounded_down_to_milliseconds_in_any_zone(store: Store) -> None:
    frame = predictions(range(3))
    precise = T.astimezone(UTC) + timedelta(microseconds=400)
    assert replace(store, frame, as_of=precise) == 3
    assert len(read_predictions(store, as_of=precise)) == 3


def test_a_frame_of_another_window_is_refused_and_changes_nothing(store: Store) -> None:
    frame = predictions(range(3))
    replace(store, frame)
    with pytest.raises(IntegrityError, match="3 of 3 predictions are not of as_of"):
        replace(store, frame, version="2")
    with pytest.raises(SchemaErrors):
        replace(store, frame.assign(probability=1.5))
    with pytest.raises(SchemaErrors):
        replace(store, pd.concat([frame, frame]))
    pd.testing.assert_frame_equal(read_predictions(store), frame)


def test_an_incomplete_window_is_hidden_and_the_next_run_repairs_it(store: Store, mongod_uri: str) -> None:
    program = (
        "import sys; from pathlib import Path; from pydantic import SecretStr;"
        "from retail_core.settings import Settings;"
        "from retail_core.store.mongo.connection import open_store;"
        "from tests.integration.test_predictions import predictions, replace;"
        "s = open_store(Settings(home=Path(sys.argv[1]), mongodb_uri=SecretStr(sys.argv[2]),"
        " mongodb_database=sys.argv[3])); f = predictions(range(100_000), seed=2);"
        "print('ready', flush=True); replace(s, f)"
    )
    replace(store, predictions(range(1_000)))
    command = [sys.executable, "-c", program, str(store.settings.home), mongod_uri, store.database.name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        while child.poll() is None and store.predictions.count_documents({}, limit=20_001) <= 20_000:
            pass
        child.kill()
    assert 20_000 < store.predictions.count_documents({}) < 100_000
    assert read_predictions(store).empty
    second_run = predictions(range(500), seed=2)
    replace(store, second_run)
    pd.testing.assert_frame_equal(read_predictions(store), second_run)


def test_two_writers_of_one_window_never_leave_a_mix(store: Store) -> None:
    frames = [predictions(range(30_000), seed=1), predictions(range(15_000, 45_000), seed=2)]

    def attempt(frame: pd.DataFrame) -> bool:
        try:
            replace(store, frame)
        except IntegrityError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        succeeded = list(pool.map(attempt, frames))
    visible = read_predictions(store)
    assert visible.empty or any(visible.equals(frame) for frame in frames)
    assert any(succeeded) or visible.empty
    replace(store, frames[0])
    pd.testing.assert_frame_equal(read_predictions(store), frames[0])


def test_outcomes_are_replaced_by_window(store: Store) -> None:
    first, second = predictions(range(4)), predictions(range(4), as_of=T + timedelta(days=1))
    both = pd.concat([outcomes(first, purchased=False), outcomes(second, purchased=False)])
    assert write_outcomes(store, both) == 8
    assert write_outcomes(store, outcomes(second.head(3), purchased=True)) == 3
    stored = read_outcomes(store)
    Outcome.validate(stored)
    assert stored["purchased"].tolist() == [False] * 4 + [True] * 3
    assert len(read_outcomes(store, since=T + timedelta(days=1))) == 3
    assert read_outcomes(store, model_version="9").empty


def ledger_file(
    store: Store, name: str, source: str, zone: str | None, policy: str | None, rows: int
) -> None:
    store.ledger.insert_one(
        {
            "_id": f"file:{name}",
            "kind": "file",
            "source": source,
            "timezone": zone,
            "policy": policy,
            "counts": {"inserted": rows},
        }
    )


def test_the_source_with_most_events_names_zone_and_policy(store: Store) -> None:
    assert (shop_zone(store), source_policy(store)) == ("UTC", None)
    ledger_file(store, "1", "taobao", "Asia/Shanghai", "daily", 60)
    ledger_file(store, "2", "taobao", "Asia/Shanghai", "daily", 60)
    ledger_file(store, "3", "app_profile", "Europe/London", "first-visit", 100)
    ledger_file(store, "4", "api", None, None, 1_000)
    assert (shop_zone(store), source_policy(store)) == ("Asia/Shanghai", "daily")
    ledger_file(store, "5", "app_profile", "Europe/London", "first-visit", 30)
    assert (shop_zone(store), source_policy(store)) == ("Europe/London", "first-visit")
    tokyo = store.settings.model_copy(update={"timezone": "Asia/Tokyo"})
    assert shop_zone(Store(tokyo, store.client, store.database)) == "Asia/Tokyo"
