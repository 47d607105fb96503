"""Sizes of audiences and the expected number of buyers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from retail_core.errors import InputError
from retail_core.scoring.audience_selection import draw_control_group
from retail_core.scoring.audience_sizing import Sizing, expected_buyers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one size"),
        ({"budget": 5, "no_miss": True}, "one size"),
        ({"cost": 1.0}, "one size"),
        ({"budget": 0}, "contacts nobody"),
        ({"recall": 1.2}, "is out of range"),
        ({"recall": 0.0}, "is out of range"),
        ({"cost": 3.0, "value": 2.0}, "nobody or everybody"),
        ({"budget": 5, "control": 1.0}, "is out of range"),
    ],
)
def test_contradictory_and_impossible_sizes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sizing(**options)


def test_recall_one_is_the_operating_point_no_miss() -> None:
    assert Sizing(recall=1.0).point == Sizing(no_miss=True).point == "no-miss"
    assert [Sizing(budget=3).point, Sizing(recall=0.5).point, Sizing(cost=1, value=2).point] == [
        "budget",
        "recall",
        "cost",
    ]


def test_expected_buyers_have_the_normal_interval_within_the_possible_counts() -> None:
    mean, low, high = expected_buyers(np.full(100, 0.5))
    assert (mean, low, high) == pytest.approx((50, 50 - 1.96 * 5, 50 + 1.96 * 5))
    assert expected_buyers(np.array([0.01]))[1] == 0
    assert expected_buyers(np.array([0.99]))[2] == 1


def test_the_control_group_is_a_share_that_does_not_depend_on_the_order_of_rows() -> None:
    as_of = pd.Series(pd.Timestamp("2025-01-29", tz="UTC"), index=range(200)).astype("datetime64[ms, UTC]")
    members = pd.DataFrame({"user_id": [f"u{number}" for number in range(200)], "as_of": as_of})
    control = draw_control_group(members, 0.25, seed=7)
    assert control.sum() == 50
    shuffled = members.sample(frac=1, random_state=1)
    control_of_shuffled = draw_control_group(shuffled, 0.25, seed=7)
    assert set(shuffled["user_id"][control_of_shuffled]) == set(members["user_id"][control])
    assert not np.array_equal(draw_control_group(members, 0.25, seed=8), control)
