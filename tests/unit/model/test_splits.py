"""Four successive periods with an embargo between them and no user-day in two of them."""

from __future__ import annotations

from datetime import timedelta
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_core.errors import DataError
from retail_core.model.splits import (
    PERIODS,
    PeriodFolds,
    refuse_periods_without_buyers,
    split_into_periods,
    time_blocks,
    user_hash_fraction,
)
from tests.examples import examples

DAY = timedelta(hours=24)


def make_rows(days: int, users: int = 60, *, rate: float = 0.2, zone: str = "UTC") -> pd.DataFrame:
    rng = np.random.default_rng(days * 1000 + users)
    midnights = pd.date_range("2025-03-01", periods=days, freq="D", tz=zone).tz_convert("UTC").as_unit("ms")
    frame = pd.DataFrame(
        {
            "user_id": np.tile([f"u{number}" for number in range(users)], days),
            "as_of": np.repeat(midnights, users),
        }
    )
    frame["label"] = rng.random(len(frame)) < rate
    return frame


@settings(max_examples=examples(25), deadline=None)
@given(days=st.integers(14, 80), zone=st.sampled_from(["UTC", "Europe/London", "America/New_York"]))
def test_periods_are_successive_with_one_cutoff_between_them(days: int, zone: str) -> None:
    rows = make_rows(days, users=20, zone=zone)
    split = split_into_periods(rows, DAY)
    assert split.kind == "successive"
    periods = [rows.iloc[positions] for positions in split.positions_by_period().values()]
    for earlier, later in pairwise(periods):
        between = rows["as_of"].between(earlier["as_of"].max(), later["as_of"].min(), inclusive="neither")
        assert rows["as_of"][between].nunique() == 1
        assert later["as_of"].min() - earlier["as_of"].max() >= 2 * DAY - timedelta(hours=1)
    assert periods[0]["as_of"].nunique() >= 0.33 * days
    assert periods[-1]["as_of"].max() == rows["as_of"].max()


def test_periods_grow_where_buyers_are_few() -> None:
    many, few = make_rows(60, users=200, rate=0.3), make_rows(60, users=200, rate=0.005)
    lengths = [rows.iloc[split_into_periods(rows, DAY).test]["as_of"].nunique() for rows in (many, few)]
    assert lengths == [9, 11]


@pytest.mark.parametrize("days", [1, 2, 3, 7, 13])
def test_short_log_assigns_users_so_that_no_user_day_is_in_two_periods(days: int) -> None:
    rows = make_rows(days, users=400)
    split = split_into_periods(rows, DAY)
    assert split.kind == "user-disjoint"
    users = {
        name: set(rows.iloc[positions]["user_id"]) for name, positions in split.positions_by_period().items()
    }
    later = PERIODS if days < 3 else PERIODS[1:]
    assert all(not users[first] & users[second] for first, second in combinations(later, 2))
    assert len(np.unique(np.concatenate(list(split.positions_by_period().values())))) == sum(
        map(len, split.positions_by_period().values())
    )
    if days >= 3:
        assert rows.iloc[split.train]["as_of"].max() + 2 * DAY <= rows.iloc[split.test]["as_of"].min()


def test_first_visit_cutoffs_are_split_by_time() -> None:
    rng = np.random.default_rng(3)
    seconds = np.sort(rng.integers(0, 90 * 86_400, 5_000))
    rows = pd.DataFrame(
        {
            "user_id": [f"u{number}" for number in range(5_000)],
            "as_of": (pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(seconds, unit="s")).as_unit(
                "ms"
            ),
            "label": rng.random(5_000) < 0.4,
        }
    )
    periods = [
        rows.iloc[positions]["as_of"]
        for positions in split_into_periods(rows, DAY).positions_by_period().values()
    ]
    for earlier, later in pairwise(periods):
        assert later.min() - earlier.max() >= 2 * DAY - timedelta(hours=2)


def test_one_class_in_train_is_refused_with_its_numbers() -> None:
    rows = make_rows(30)
    rows["label"] = rows["as_of"] > rows["as_of"].quantile(0.9)
    with pytest.raises(DataError, match=r"All \d+ rows of the train period .* \(0 purchases\)"):
        split_into_periods(rows, DAY)


def test_a_period_without_buyers_is_refused_with_its_cutoffs() -> None:
    rows = make_rows(30).assign(policy="daily")
    split = split_into_periods(rows, DAY)
    refuse_periods_without_buyers(rows, split, "daily")
    rows.loc[split.certify, "label"] = False
    with pytest.raises(DataError, match=r"The certify period \(cut-offs 2025-.* has no buyer") as caught:
        refuse_periods_without_buyers(rows, split, "daily")
    assert "--as-of" in caught.value.remedy
    rows.loc[split.certify, "label"] = True
    with pytest.raises(DataError, match=r"certify period .* has nobody who does not buy"):
        refuse_periods_without_buyers(rows, split, "daily")


def test_folds_train_on_the_past_only_and_keep_days_whole() -> None:
    rows = make_rows(40)
    folds = PeriodFolds(rows, DAY)
    assert (folds.kind, folds.get_n_splits()) == ("time", 3)
    for train, valid in folds.split():
        earlier, later = rows.iloc[train]["as_of"], rows.iloc[valid]["as_of"]
        assert later.min() - earlier.max() >= 2 * DAY
        assert not set(earlier) & set(later)
        assert len(valid) == rows["as_of"].isin(later.unique()).sum()


def test_folds_of_few_days_assign_users() -> None:
    rows = make_rows(3)
    folds = PeriodFolds(rows, DAY)
    assert folds.kind == "user"
    for train, valid in folds.split():
        assert not set(rows.iloc[train]["user_id"]) & set(rows.iloc[valid]["user_id"])


def test_blocks_are_successive_and_about_equal() -> None:
    rows = make_rows(30)
    block = time_blocks(rows, 3)
    assert np.all(np.diff(block) >= 0)
    assert set(np.bincount(block)) == {600}


def test_user_share_depends_on_user_and_salt_only() -> None:
    users = pd.Series(["a", "b", "ä€", "a"], dtype="str")
    share = user_hash_fraction(users, "split")
    assert share[0] == share[3]
    assert np.array_equal(user_hash_fraction(users[::-1], "split"), share[::-1])
    assert not np.array_equal(user_hash_fraction(users, "blocks"), share)
    many = user_hash_fraction(pd.Series([f"user-{number}" for number in range(20_000)], dtype="str"), "split")
    assert abs(many.mean() - 0.5) < 0.01


def test_days_with_few_rows_do_not_become_the_test_period() -> None:
    """Days count by their rows, so half a year of few users who never buy is not the test period."""
    rows = make_rows(60, users=100)
    tail = make_rows(180, users=2, rate=0.0)
    tail["as_of"] += pd.Timedelta(days=61)
    together = pd.concat([rows, tail], ignore_index=True)
    split = split_into_periods(together, DAY)
    share = {name: len(positions) / len(together) for name, positions in split.positions_by_period().items()}
    assert all(0.1 < share[name] < 0.25 for name in PERIODS[1:])
    assert together["label"].iloc[split.test].sum() > 50
