"""When a shift is drift, without any store."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_core.monitoring.drift import (
    FLOOR,
    SCORE,
    Floats,
    bin_counts,
    bin_edges,
    drifted_share,
    shifts,
    stability_index,
)
from retail_core.monitoring.population import Drift
from retail_core.monitoring.report import OK, UNSURE, status_of
from retail_core.monitoring.triggers import TriggerCheck, drift

ROWS = 2_000
WEIGHTS = {"steady": 0.5, "moved": 0.3, "vanished": 0.2, SCORE: 0.0}


def window(seed: int, *, moved: float = 0.0, unknown: float = 0.1) -> Floats:
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 1.0, (ROWS, len(WEIGHTS)))
    values[:, 1] += moved
    values[rng.random(ROWS) < unknown, 2] = np.nan
    return values


REFERENCE = [window(seed) for seed in range(5)]


def test_a_shop_that_stays_as_it_was_does_not_drift() -> None:
    found = shifts(REFERENCE, [window(11), window(12)], WEIGHTS)
    assert [one.name for one in found] == list(WEIGHTS)
    assert not any(one.drifted for one in found)
    assert all(one.limit >= FLOOR for one in found)
    assert drifted_share(found) == 0


def test_a_moved_and_a_vanished_feature_are_named_and_weighed() -> None:
    found = shifts(REFERENCE, [window(11, moved=2, unknown=1), window(12, moved=2, unknown=1)], WEIGHTS)
    assert [one.name for one in found if one.drifted] == ["moved", "vanished"]
    assert drifted_share(found) == pytest.approx(0.5)


def test_one_strange_window_is_not_drift() -> None:
    found = shifts(REFERENCE, [window(11, moved=2), window(12)], WEIGHTS)
    assert not any(one.drifted for one in found)


def test_what_varies_within_the_reference_may_vary_as_much_again() -> None:
    """A feature that differs from window to window anyway has a wider limit."""
    restless = [window(seed, moved=0.8 * (seed % 2)) for seed in range(6)]
    found = {
        one.name: one for one in shifts(restless, [window(11, moved=0.8), window(12, moved=0.8)], WEIGHTS)
    }
    assert found["moved"].limit > found["steady"].limit
    assert not found["moved"].drifted


def test_the_trigger_fires_from_the_limit_on_and_names_what_moved() -> None:
    found = shifts(REFERENCE, [window(11, moved=2), window(12, moved=2)], WEIGHTS)
    checked = drift(Drift(found, "some rows"), "4", 0.3)
    assert checked.fired
    assert checked.value == pytest.approx(0.3)
    assert "version 4, some rows: 1 of 3 features drifted: moved PSI" in checked.evidence
    assert not drift(Drift(found, "some rows"), "4", 0.31).fired


def test_too_little_to_compare_is_said_and_never_fires() -> None:
    checked = drift(Drift([], "", "2 midnights"), "4", 0.25)
    assert (checked.fired, checked.value) == (False, None)
    assert checked.evidence == "insufficient data: 2 midnights"


def test_the_status_names_what_fired_else_what_is_not_known() -> None:
    quiet, unknown = TriggerCheck("a", False, 0.0, 1.0, ""), TriggerCheck("b", False, None, 1.0, "")
    fired = TriggerCheck("c", True, 2.0, 1.0, "")
    assert status_of([quiet]) == OK
    assert status_of([quiet, unknown]) == UNSURE
    assert status_of([quiet, unknown, fired]) == "c"


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(np.nan)), min_size=1, max_size=60))
def test_every_value_is_counted_once_and_nothing_shifts_from_itself(values: list[float]) -> None:
    column = np.array(values)
    counts = bin_counts(column, bin_edges(column))
    assert counts.sum() == len(values)
    assert stability_index(counts, counts) == 0
    assert stability_index(counts, counts[::-1]) >= 0
