"""User attributes as of the cut-off, and which attributes get a column."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path

import pytest

from retail_core.features.batch.attribute_columns import attribute_warnings, infer_attributes
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import FeatureSet
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.user_attributes import AttributeEncoding
from retail_core.times import from_micros
from tests.feature_logs import HOUR, micros, pairs_of, write_lake

AS_OF = micros("2025-01-31T00:00:00+00:00")
LOG = [OnlineEvent("1", "u", AS_OF - HOUR, "view_item")]


def _user(user: str, since: str | None, **attributes: object) -> dict[str, object]:
    valid_from = None if since is None else datetime.fromisoformat(since)
    return {"user_id": user, "valid_from": valid_from, "attributes": json.dumps(attributes)}


def test_attributes_are_those_valid_at_the_cutoff(tmp_path: Path) -> None:
    users = [
        _user("u", "2025-01-10T00:00+00:00", age=30, tier="new"),
        _user("u", "2025-01-31T00:00+00:00", age=31, tier="gold"),
        _user("u", "2025-01-31T00:00:00.001+00:00", age=99, tier="lost"),
        _user("w", None, age=50, tier="gold"),
    ]
    lake = write_lake(tmp_path, LOG, users)
    feature_set = FeatureSet(
        PredictionTask(),
        (),
        (AttributeEncoding("age", "number"), AttributeEncoding("tier", "category", ("gold", "new"))),
    )
    pairs = pairs_of(
        [("u", AS_OF), ("u", AS_OF - HOUR), ("u", AS_OF - 30 * 24 * HOUR), ("w", AS_OF), ("x", AS_OF)]
    )
    rows = compute_features(lake, pairs, feature_set)
    assert rows["attr_age"].tolist()[:2] == [31, 30]
    assert rows["attr_age"].isna().tolist() == [False, False, True, True, True]
    assert rows["attr_tier=gold"].tolist() == [1, 0, 0, 0, 0]
    first = compute_features(lake, pairs.assign(policy="first-visit"), feature_set)
    assert first["attr_age"].tolist()[3] == 50
    assert len(attribute_warnings(lake)) == 1
    assert attribute_warnings(write_lake(tmp_path, LOG)) == ()
    online = compute_user_features([], from_micros(AS_OF), feature_set, {"age": 31, "tier": "gold"})
    assert list(online.values()) == rows.loc[0, list(online)].tolist()


@pytest.mark.parametrize("undated", [False, True])
def test_inferred_attributes(tmp_path: Path, undated: bool) -> None:
    users = [
        _user(
            f"u{i}", "2025-01-01T00:00+00:00", age=20 + i % 7, tier="gold" if i % 3 else "new",
            phone=f"+49{i}", number=i, country="DE", income=1000.5 * i, opt_in=i % 2 == 0,
        )
        for i in range(60)
    ]  # fmt: skip
    users += [_user(f"v{i}", None, segment="buyer" if i % 2 else "no") for i in range(9)]
    users += [_user(f"w{i}", "2025-02-01T00:00+00:00", later=i % 2) for i in range(9)]
    lake = write_lake(tmp_path, [], users)
    inferred = infer_attributes(lake, from_micros(AS_OF), include_undated=undated)
    expected = [
        AttributeEncoding("age", "number"), AttributeEncoding("income", "number"),
        AttributeEncoding("opt_in", "number"),
        AttributeEncoding("tier", "category", ("gold", "new")),
    ]  # fmt: skip
    if undated:
        expected.insert(3, AttributeEncoding("segment", "category", ("buyer", "no")))
    assert list(inferred) == expected
    assert infer_attributes(write_lake(tmp_path, []), from_micros(AS_OF)) == ()
    rows = compute_features(lake, pairs_of([("u1", AS_OF)]), FeatureSet(PredictionTask(), (), inferred))
    assert not math.isnan(rows["attr_age"][0])


def test_an_attribute_without_a_date_is_used_only_where_it_is_admitted(tmp_path: Path) -> None:
    users = [_user(f"v{i}", None, segment="buyer" if i % 2 else "no", age=20 + i % 3) for i in range(9)]
    lake = write_lake(tmp_path, LOG, users)
    assert infer_attributes(lake, from_micros(AS_OF)) == ()
    admitted = infer_attributes(lake, from_micros(AS_OF), admit=("segment",))
    assert admitted == (AttributeEncoding("segment", "category", ("buyer", "no"), undated=True),)
    feature_set = FeatureSet(PredictionTask(), (), admitted)
    assert FeatureSet.from_dict(feature_set.to_dict()) == feature_set
    assert feature_set.select(["attr_segment=buyer"]).attributes[0].undated
    rows = compute_features(lake, pairs_of([("v1", AS_OF), ("v2", AS_OF), ("x", AS_OF)]), feature_set)
    assert rows["attr_segment=buyer"].tolist() == [1, 0, 0]
    (warning,) = attribute_warnings(lake)
    assert "age, segment" in warning
    (warning,) = attribute_warnings(lake, ("segment",))
    assert "segment" not in warning
    assert attribute_warnings(lake, ("segment", "age")) == ()
