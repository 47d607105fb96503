"""Chunks of unchunked users give the same features as all users at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retail_core.features.batch import feature_kernel
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from tests.feature_logs import DAY, HOUR, micros, pairs_of, write_lake

AS_OF = micros("2025-01-31T00:00:00+00:00")


@pytest.mark.parametrize(("max_pairs", "max_sort_key"), [(3, 1 << 62), (100_000, 45 * DAY), (1, 1)])
def test_chunks_of_users_give_the_same_features(
    max_pairs: int, max_sort_key: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More pairs than a chunk takes, or sort keys of user and time above 64 bits."""
    rng = np.random.default_rng(2)
    events = [
        OnlineEvent(f"{i:032x}", f"u{rng.integers(9)}", AS_OF - int(rng.integers(40 * DAY)), "purchase", "a")
        for i in range(300)
    ]
    lake, feature_set = write_lake(tmp_path, events), default_feature_set(PredictionTask())
    pairs = pairs_of((f"u{n}", AS_OF - back) for n in range(11) for back in (0, HOUR, 3 * DAY, 9 * DAY))
    unchunked = compute_features(lake, pairs, feature_set)
    monkeypatch.setattr(feature_kernel, "_MAX_PAIRS", max_pairs)
    monkeypatch.setattr(feature_kernel, "_MAX_SORT_KEY", max_sort_key)
    pd.testing.assert_frame_equal(compute_features(lake, pairs, feature_set), unchunked, check_exact=True)
