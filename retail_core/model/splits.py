"""Four successive periods, and the time-ordered folds of the search.

Every row is a (user, cut-off) pair. Two successive periods are separated by an embargo of one horizon: the
label window of the last row of a period ends at least one horizon before the next period starts, so with
daily cut-offs one whole cut-off is dropped between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, FloatArray, IndexArray
from retail_core.errors import DataError
from retail_core.times import iso

PERIODS = ("train", "calibrate", "certify", "test")
MIN_SUCCESSIVE_DAYS = 14
PERIOD_SHARE, MAX_PERIOD_SHARE, MIN_TRAIN_SHARE = 0.15, 0.20, 0.40
TARGET_BUYERS = 120
"""Buyers a later period should have: twice what recall 0.95 at 95 % needs, so that misses are allowed."""

_DST_SLACK = pd.Timedelta(hours=2)


@dataclass(frozen=True)
class PeriodSplit:
    """Positions of the rows of each period; `kind` is `successive` or `user-disjoint`."""

    kind: str
    train: IndexArray
    calibrate: IndexArray
    certify: IndexArray
    test: IndexArray

    def positions_by_period(self) -> dict[str, IndexArray]:
        """The four periods by name, in order of time."""
        return {name: getattr(self, name) for name in PERIODS}

    def summarize(self, rows: pd.DataFrame) -> dict[str, dict[str, object]]:
        """Rows, positives, buyers, first and last cut-off (ISO 8601, UTC) of each period with rows."""
        periods = self.positions_by_period().items()
        return {name: _summary(rows.iloc[positions]) for name, positions in periods if len(positions)}


def refuse_periods_without_buyers(rows: pd.DataFrame, split: PeriodSplit, policy: str) -> None:
    """Refuse a split with a period in which nothing can be measured: all users buy, or none does.

    Args:
        rows: `as_of`, `policy` and `label` of all rows.
        split: positions in `rows`.
        policy: the cut-off policy whose rows are looked at.

    Raises:
        DataError: names the first such period.
    """
    for name, positions in split.positions_by_period().items():
        period = rows.iloc[positions]
        labels = period["label"][period["policy"].eq(policy)]
        bought = int(labels.sum())
        if bought not in {0, len(labels)}:
            continue
        first, last = period["as_of"].min(), period["as_of"].max()
        lacking = "no buyer" if bought == 0 else "nobody who does not buy"
        raise DataError(
            f"The {name} period (cut-offs {iso(first)} to {iso(last)}, {len(labels):,} rows) has {lacking}.",
            remedy="train as of an instant before purchases stop (--as-of), or ingest a log in which they go "
            "on; a longer RETAIL_HORIZON_HOURS or RETAIL_ELIGIBLE_DAYS gives each period more buyers.",
        )


def split_into_periods(rows: pd.DataFrame, horizon: timedelta) -> PeriodSplit:
    """Split labelled rows (`user_id`, `as_of`, `label`) into train, calibrate, certify and test.

    With at least 14 cut-off days the four are successive. With fewer, the earlier days are train and the rows
    of the last days are assigned to periods by a hash of the user id, so that no user-day is in two periods.

    Raises:
        DataError: a period would be empty, or train would have one class only.
    """
    days = rows["as_of"].dt.floor("D")
    distinct = pd.DatetimeIndex(np.sort(days.unique()))
    split = (
        _successive(rows, days, distinct, horizon)
        if len(distinct) >= MIN_SUCCESSIVE_DAYS
        else _user_disjoint(rows, days, distinct, horizon)
    )
    _refuse_unusable(split, rows["label"].to_numpy(bool))
    return split


def cutoffs_before(times: pd.Series, start: pd.Timestamp, horizon: timedelta) -> BoolArray:
    """Mask of the cut-offs before a period that starts at `start`, without those in the embargo.

    A day of 23 hours counts as a day.
    """
    return (start - times >= _min_distance(horizon)).to_numpy(bool)


def cutoffs_after(times: pd.Series, end: pd.Timestamp, horizon: timedelta) -> BoolArray:
    """Mask of the cut-offs after a period whose last cut-off is `end`, without those in the embargo."""
    return (times - end >= _min_distance(horizon)).to_numpy(bool)


def _min_distance(horizon: timedelta) -> pd.Timedelta:
    length = pd.Timedelta(horizon)
    return max(length, 2 * length - _DST_SLACK)


def user_hash_fraction(users: pd.Series, salt: str) -> FloatArray:
    """Hash of each user id and the salt as a number in [0, 1), the same on every machine."""
    key = salt.encode().ljust(16, b"\0")[:16].decode()
    hashed = pd.util.hash_array(users.to_numpy(object), hash_key=key, categorize=True)
    return (hashed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _successive(
    rows: pd.DataFrame, days: pd.Series, distinct: pd.DatetimeIndex, horizon: timedelta
) -> PeriodSplit:
    periods: dict[str, IndexArray] = dict.fromkeys(PERIODS, np.empty(0, np.intp))
    remaining = np.ones(len(rows), bool)
    for name in ("test", "certify", "calibrate"):
        available = distinct[distinct <= days[remaining].max()]
        in_period = remaining & (days >= _first_day(rows, days, available)).to_numpy(bool)
        periods[name] = np.flatnonzero(in_period)
        remaining = cutoffs_before(rows["as_of"], rows["as_of"][in_period].min(), horizon)
        if not remaining.any():
            break
    periods["train"] = np.flatnonzero(remaining)
    return PeriodSplit("successive", **periods)


def _first_day(rows: pd.DataFrame, days: pd.Series, available: pd.DatetimeIndex) -> pd.Timestamp:
    """First day of a later period that ends with the last available day.

    The period has 15 % of all rows, in whole days, up to 20 % where buyers are few, and never so many that
    the three later periods and their embargoes leave much less than 40 % for train.
    """
    share = days.value_counts().sort_index() / len(days)
    affordable = (1 - MIN_TRAIN_SHARE - 3 / len(share)) / 3
    max_share = min(MAX_PERIOD_SHARE, affordable)
    newest_first = share[available[::-1]]
    cumulative = newest_first.cumsum() - newest_first / 2
    min_days, max_days = (
        max(1, int((cumulative <= limit).sum())) for limit in (min(PERIOD_SHARE, max_share), max_share)
    )
    for count in range(min_days, max_days):
        buying = rows["label"] & (days >= available[-count]) & (days <= available[-1])
        if rows["user_id"][buying].nunique() >= TARGET_BUYERS:
            return available[-count]
    return available[-max_days]


def _user_disjoint(
    rows: pd.DataFrame, days: pd.Series, distinct: pd.DatetimeIndex, horizon: timedelta
) -> PeriodSplit:
    fraction = user_hash_fraction(rows["user_id"], "split")
    late_days = max(1, round(len(distinct) / 3))
    late = (days >= distinct[-late_days]).to_numpy(bool)
    early = cutoffs_before(rows["as_of"], rows["as_of"][late].min(), horizon)
    edges = (0.0, 1 / 3, 2 / 3, 1.0)
    if not early.any():
        late, early, edges = np.ones(len(rows), bool), fraction < 0.55, (0.55, 0.70, 0.85, 1.0)
    later = [late & (fraction >= low) & (fraction < high) for low, high in pairwise(edges)]
    return PeriodSplit("user-disjoint", *(np.flatnonzero(mask) for mask in (early, *later)))


def _refuse_unusable(split: PeriodSplit, labels: BoolArray) -> None:
    for name, positions in split.positions_by_period().items():
        if len(positions) == 0:
            raise DataError(
                f"No labelled rows are left for the {name} period.",
                remedy="ingest a longer log, or train with a later --as-of.",
            )
    bought = int(labels[split.train].sum())
    if bought in {0, len(split.train)}:
        raise DataError(
            f"All {len(split.train)} rows of the train period have the same answer ({bought} purchases).",
            remedy="ingest a log in which some users buy and others do not.",
        )


def _summary(rows: pd.DataFrame) -> dict[str, object]:
    bought = rows["label"]
    return {
        "rows": len(rows),
        "positives": int(bought.sum()),
        "buyers": int(rows["user_id"][bought].nunique()),
        "first_cutoff": iso(rows["as_of"].min().to_pydatetime()),
        "last_cutoff": iso(rows["as_of"].max().to_pydatetime()),
    }


class PeriodFolds:
    """Expanding, time-ordered folds for GridSearchCV: whole cut-off days, an embargo before each.

    Where there are too few days for that, or a fold would lack a class, users are assigned by hash.
    """

    def __init__(self, rows: pd.DataFrame, horizon: timedelta, folds: int = 3) -> None:
        labels = rows["label"].to_numpy(bool)
        time_folds = [fold for fold in _time_folds(rows, horizon, folds) if _both_classes(labels, fold)]
        self.kind = "time" if len(time_folds) >= 2 else "user"
        self._folds = time_folds if len(time_folds) >= 2 else _user_folds(rows, folds)

    def split(
        self,
        X: object = None,  # noqa: N803 - scikit-learn's name
        y: object = None,
        groups: object = None,
    ) -> Iterator[tuple[IndexArray, IndexArray]]:
        """Train and validation positions of each fold; the arguments are scikit-learn's and unused."""
        del X, y, groups
        yield from self._folds

    def get_n_splits(
        self,
        X: object = None,  # noqa: N803 - scikit-learn's name
        y: object = None,
        groups: object = None,
    ) -> int:
        """Number of folds; the arguments are scikit-learn's and unused."""
        del X, y, groups
        return len(self._folds)


def has_enough_days(rows: pd.DataFrame, blocks: int) -> bool:
    """Whether there are two cut-off days per block, so that blocks can be periods."""
    return bool(rows["as_of"].dt.floor("D").nunique() >= 2 * blocks)


def time_blocks(rows: pd.DataFrame, blocks: int) -> IndexArray:
    """The block (0 .. blocks-1) of each row: successive cut-off days with about equally many rows.

    With fewer than two days per block, users are assigned to blocks by hash instead.
    """
    days = rows["as_of"].dt.floor("D")
    if not has_enough_days(rows, blocks):
        return np.minimum(
            (user_hash_fraction(rows["user_id"], "blocks") * blocks).astype(np.intp), blocks - 1
        )
    counts = days.value_counts().sort_index()
    cumulative = (counts.cumsum() - counts / 2) / counts.sum()
    block = np.minimum((cumulative * blocks).astype(np.intp), blocks - 1)
    return np.asarray(days.map(block), dtype=np.intp)


def _time_folds(rows: pd.DataFrame, horizon: timedelta, folds: int) -> list[tuple[IndexArray, IndexArray]]:
    if not has_enough_days(rows, folds + 1):
        return []
    block = time_blocks(rows, folds + 1)
    pairs = []
    for number in range(1, folds + 1):
        validation = block == number
        earlier = cutoffs_before(rows["as_of"], rows["as_of"][validation].min(), horizon)
        pairs.append((np.flatnonzero(earlier), np.flatnonzero(validation)))
    return pairs


def _user_folds(rows: pd.DataFrame, folds: int) -> list[tuple[IndexArray, IndexArray]]:
    fold = np.minimum((user_hash_fraction(rows["user_id"], "folds") * folds).astype(np.intp), folds - 1)
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(folds)]


def _both_classes(labels: BoolArray, fold: tuple[IndexArray, IndexArray]) -> bool:
    return all(0 < labels[positions].sum() < len(positions) for positions in fold)
