"""Every key of `EVENT_KEYS`, and one registered by a test, gives the same numbers in batch and online."""

from __future__ import annotations

from pathlib import Path

import pytest

from retail_core.features import definitions
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.definitions import expand_definitions
from retail_core.features.event_columns import EVENT_KEYS, EventColumns, EventKey, OnlineEvent, columns_read
from retail_core.features.feature_set import FeatureSet
from retail_core.features.kinds import Concentration, Distinct, FeatureDefinition
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.schemas import EVENT_COLUMNS
from retail_core.times import from_micros
from tests.feature_logs import HOUR, micros, pairs_of, write_lake

TASK = PredictionTask()
AS_OF = micros("2025-01-31T00:00:00+00:00")
CELLS = [("view_item", "a"), ("view_item", "b"), ("purchase", "b"), ("purchase", None), ("search", None)]
LOG = [
    OnlineEvent(
        f"e{n}",
        "u",
        AS_OF - (n + 1) * HOUR,
        event_type,
        item_id=cell,
        category=cell,
        brand=cell,
        order_id=cell,
    )
    for n, (event_type, cell) in enumerate(CELLS)
]


def compute_both(
    folder: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Features of all kinds that group by the key, from batch and online."""
    kinds = {
        f"distinct_{key}": Distinct(key),
        f"distinct_{key}_bought": Distinct(key, "purchase"),
        f"{key}_concentration": Concentration(key),
    }
    added = [
        FeatureDefinition(name, kind, "look-back" if isinstance(kind, Distinct) else None, "values", name)
        for name, kind in kinds.items()
    ]
    monkeypatch.setattr(definitions, "FEATURE_DEFINITIONS", added)
    expand_definitions.cache_clear()
    try:
        feature_set = FeatureSet(TASK, tuple(expand_definitions(TASK)))
        batch = compute_features(write_lake(folder, LOG), pairs_of([("u", AS_OF)]), feature_set)
        online = compute_user_features(LOG, from_micros(AS_OF), feature_set)
    finally:
        expand_definitions.cache_clear()
    return batch.loc[0, list(feature_set.names)].to_dict(), online


@pytest.mark.parametrize("key", sorted(EVENT_KEYS))
def test_batch_and_online_group_by_every_key(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, online = compute_both(tmp_path, key, monkeypatch)
    assert batch == online
    without_value_count_as_their_own = EVENT_KEYS[key].fallback is not None
    expected = [4, 2, 7 / 25] if without_value_count_as_their_own else [2, 1, 5 / 9]
    assert list(online.values()) == expected


def test_keys_are_columns_of_the_event_contract() -> None:
    columns = {key.column for key in EVENT_KEYS.values()}
    assert columns <= {*EVENT_COLUMNS} & {*OnlineEvent._fields} & {*EventColumns._fields}
    assert columns | {"event_id", "event_time", "event_type", "price_minor", "quantity"} == {*columns_read()}


def test_a_new_key_needs_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EVENT_KEYS, "brand", EventKey("brand"))
    batch, online = compute_both(tmp_path, "brand", monkeypatch)
    assert batch == online
    assert list(online.values()) == [2, 1, 5 / 9]
    assert "brand" in columns_read()
