"""The greatest value of the intervals that contain a pair."""

from __future__ import annotations

import numpy as np
import pyarrow
from hypothesis import given
from hypothesis import strategies as st

from retail_core.features.batch.key_intervals import max_over_intervals
from retail_core.features.batch.timeline import Timeline
from retail_core.features.time_windows import FeatureWindow
from tests.feature_logs import DAY


@given(
    intervals=st.lists(st.tuples(st.integers(0, 29), st.integers(1, 30), st.integers(-99, 99)), max_size=20)
)
def test_maximum_and_count_of_intervals_that_contain_a_pair(
    intervals: list[tuple[int, int, int]],
) -> None:
    timeline = Timeline(
        pyarrow.table({name: pyarrow.array([], pyarrow.int64()) for name in ("uid", "ts", "code")}),
        pyarrow.table({"uid": [0] * 30, "as_of": range(30)}),
        (FeatureWindow("1d", DAY),),
        (),
    )
    clipped = [(start, min(start + length, 30), value) for start, length, value in intervals]
    starts, ends, values = np.array(clipped, np.int64).reshape(-1, 3).T
    maxima = max_over_intervals(timeline, starts, ends, values)
    counts = timeline.sum_over_intervals(starts, ends)
    for pair in range(30):
        covering = [value for start, end, value in clipped if start <= pair < end]
        assert counts[pair] == len(covering)
        if covering:
            assert maxima[pair] == max(covering)
