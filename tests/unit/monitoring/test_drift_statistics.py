"""Population stability index and its limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_core.arrays import FloatArray
from retail_core.monitoring.drift_statistics import (
    MIN_LIMIT,
    SCORE,
    bin_counts,
    bin_edges,
    drifted_importance,
    feature_drifts,
    stability_index,
)

ROWS = 2_000
IMPORTANCE = {"stable": 0.5, "shifted": 0.3, "missing": 0.2, SCORE: 0.0}


def window(seed: int, *, shift: float = 0.0, missing: float = 0.1) -> FloatArray:
    """Rows of a window; `shift` is added to the second column, `missing` is the NaN share of the third."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 1.0, (ROWS, len(IMPORTANCE)))
    values[:, 1] += shift
    values[rng.random(ROWS) < missing, 2] = np.nan
    return values


REFERENCE = [window(seed) for seed in range(5)]


def test_an_unchanged_population_does_not_drift() -> None:
    drifts = feature_drifts(REFERENCE, [window(11), window(12)], IMPORTANCE)
    assert [drift.name for drift in drifts] == list(IMPORTANCE)
    assert not any(drift.drifted for drift in drifts)
    assert all(drift.limit >= MIN_LIMIT for drift in drifts)
    assert drifted_importance(drifts) == 0


def test_a_shifted_and_a_missing_feature_drift_with_their_importance() -> None:
    newest = [window(11, shift=2, missing=1), window(12, shift=2, missing=1)]
    drifts = feature_drifts(REFERENCE, newest, IMPORTANCE)
    assert [drift.name for drift in drifts if drift.drifted] == ["shifted", "missing"]
    assert drifted_importance(drifts) == pytest.approx(0.5)


def test_one_unusual_window_is_not_drift() -> None:
    drifts = feature_drifts(REFERENCE, [window(11, shift=2), window(12)], IMPORTANCE)
    assert not any(drift.drifted for drift in drifts)


def test_the_limit_grows_with_the_variation_within_the_reference() -> None:
    varying = [window(seed, shift=0.8 * (seed % 2)) for seed in range(6)]
    newest = [window(11, shift=0.8), window(12, shift=0.8)]
    by_name = {drift.name: drift for drift in feature_drifts(varying, newest, IMPORTANCE)}
    assert by_name["shifted"].limit > by_name["stable"].limit
    assert not by_name["shifted"].drifted


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(np.nan)), min_size=1, max_size=60))
def test_each_value_is_in_one_bin_and_the_index_of_equal_counts_is_zero(values: list[float]) -> None:
    column = np.array(values)
    counts = bin_counts(column, bin_edges(column))
    assert counts.sum() == len(values)
    assert stability_index(counts, counts) == 0
    assert stability_index(counts, counts[::-1]) >= 0
