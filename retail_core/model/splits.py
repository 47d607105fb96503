"""Four successive periods, and the time-ordered folds of the search.

Every row is a (user, cut-off) pair. Two neighbouring periods are kept apart by an embargo of one
horizon: the label of the last row before it ends at least one horizon before the next period starts,
so with daily cut-offs one whole cut-off is dropped between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from retail_core.arrays import BoolArray, IndexArray
from retail_core.errors import DataError
from retail_core.times import iso

PERIODS = ("train", "calibrate", "certify", "test")
MIN_SUCCESSIVE_DAYS = 14
PERIOD_SHARE, MAX_PERIOD_SHARE, MIN_TRAIN_SHARE = 0.15, 0.20, 0.40
TARGET_BUYERS = 120
"""Buyers a later period should have: twice what recall 0.95 at 95 % needs, so a miss is allowed."""

_DST_SLACK = pd.Timedelta(hours=2)


@dataclass(frozen=True)
class PeriodSplit:
    """Which rows (by position) belong to which period; `kind` is `successive` or `user-disjoint`."""

    kind: str
    train: IndexArray
    calibrate: IndexArray
    certify: IndexArray
    test: IndexArray

    def positions_by_period(self) -> dict[str, IndexArray]:
        """The four periods by name, in order of time."""
        return {name: getattr(self, name) for name in PERIODS}

    def summarize(self, rows: pd.DataFrame) -> dict[str, dict[str, object]]:
        """Rows, buyers' rows and first and last cut-off (ISO, UTC) of each period with rows: plain JSON."""
        parts = self.positions_by_period().items()
        return {name: _summary(rows.iloc[positions]) for name, positions in parts if len(positions)}


def split_into_periods(rows: pd.DataFrame, horizon: timedelta) -> PeriodSplit:
    """Split labelled rows (`user_id`, `as_of`, `label`) into train, calibrate, certify and test.

    With at least 14 cut-off days the four are successive; below that the earlier days train and on
    the last ones users are dealt by the hash of their id, so that no user-day is in two.

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
    """Which cut-offs lie before the period that starts at `start`, embargo respected.

    The slack lets a day of 23 hours count as a day.
    """
    return (start - times >= _gap(horizon)).to_numpy(bool)


def cutoffs_after(times: pd.Series, end: pd.Timestamp, horizon: timedelta) -> BoolArray:
    """Which cut-offs lie after the period whose last cut-off is `end`, embargo respected."""
    return (times - end >= _gap(horizon)).to_numpy(bool)


def _gap(horizon: timedelta) -> pd.Timedelta:
    length = pd.Timedelta(horizon)
    return max(length, 2 * length - _DST_SLACK)


def user_hash_fraction(users: pd.Series, salt: str) -> npt.NDArray[np.float64]:
    """A number in [0, 1) per user id: the same for the same user and salt, on every machine."""
    key = salt.encode().ljust(16, b"\0")[:16].decode()
    hashed = pd.util.hash_array(users.to_numpy(object), hash_key=key, categorize=True)
    return (hashed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _successive(
    rows: pd.DataFrame, days: pd.Series, distinct: pd.DatetimeIndex, horizon: timedelta
) -> PeriodSplit:
    chosen: dict[str, IndexArray] = dict.fromkeys(PERIODS, np.empty(0, np.intp))
    left = np.ones(len(rows), bool)
    for name in ("test", "certify", "calibrate"):
        available = distinct[distinct <= days[left].max()]
        period = left & (days >= _first_day(rows, days, available)).to_numpy(bool)
        chosen[name] = np.flatnonzero(period)
        left = cutoffs_before(rows["as_of"], rows["as_of"][period].min(), horizon)
        if not left.any():
            break
    chosen["train"] = np.flatnonzero(left)
    return PeriodSplit("successive", **chosen)


def _first_day(rows: pd.DataFrame, days: pd.Series, available: pd.DatetimeIndex) -> pd.Timestamp:
    """Where a later period begins that ends with the last available day.

    It takes 15 % of all rows, in whole days, and up to 20 % where buyers are few; never so many that the
    three later periods and their embargoes leave train much less than 40 %.
    """
    share = days.value_counts().sort_index() / len(days)
    affordable = (1 - MIN_TRAIN_SHARE - 3 / len(share)) / 3
    most = min(MAX_PERIOD_SHARE, affordable)
    latest_first = share[available[::-1]]
    reached = latest_first.cumsum() - latest_first / 2
    least_days, most_days = (max(1, int((reached <= part).sum())) for part in (min(PERIOD_SHARE, most), most))
    for count in range(least_days, most_days):
        chosen = rows["label"] & (days >= available[-count]) & (days <= available[-1])
        if rows["user_id"][chosen].nunique() >= TARGET_BUYERS:
            return available[-count]
    return available[-most_days]


def _user_disjoint(
    rows: pd.DataFrame, days: pd.Series, distinct: pd.DatetimeIndex, horizon: timedelta
) -> PeriodSplit:
    share = user_hash_fraction(rows["user_id"], "split")
    late_days = max(1, round(len(distinct) / 3))
    late = (days >= distinct[-late_days]).to_numpy(bool)
    early = cutoffs_before(rows["as_of"], rows["as_of"][late].min(), horizon)
    edges = (0.0, 1 / 3, 2 / 3, 1.0)
    if not early.any():
        late, early, edges = np.ones(len(rows), bool), share < 0.55, (0.55, 0.70, 0.85, 1.0)
    dealt = [late & (share >= low) & (share < high) for low, high in pairwise(edges)]
    return PeriodSplit("user-disjoint", *(np.flatnonzero(mask) for mask in (early, *dealt)))


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

    Where the days are too few for that (or a fold would lack a class) users are dealt by hash.
    """

    def __init__(self, rows: pd.DataFrame, horizon: timedelta, folds: int = 3) -> None:
        labels = rows["label"].to_numpy(bool)
        timed = [fold for fold in _time_folds(rows, horizon, folds) if _both_classes(labels, fold)]
        self.kind = "time" if len(timed) >= 2 else "user"
        self._folds = timed if len(timed) >= 2 else _user_folds(rows, folds)

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
        """How many folds; the arguments are scikit-learn's and unused."""
        del X, y, groups
        return len(self._folds)


def has_enough_days(rows: pd.DataFrame, blocks: int) -> bool:
    """Whether there are two cut-off days a block, so that blocks can be periods."""
    return bool(rows["as_of"].dt.floor("D").nunique() >= 2 * blocks)


def time_blocks(rows: pd.DataFrame, blocks: int) -> npt.NDArray[np.intp]:
    """The block (0 .. blocks-1) of each row: successive cut-off days with about equally many rows.

    With fewer than two days a block, users are dealt by hash instead.
    """
    days = rows["as_of"].dt.floor("D")
    if not has_enough_days(rows, blocks):
        return np.minimum(
            (user_hash_fraction(rows["user_id"], "blocks") * blocks).astype(np.intp), blocks - 1
        )
    counts = days.value_counts().sort_index()
    done = (counts.cumsum() - counts / 2) / counts.sum()
    block = np.minimum((done * blocks).astype(np.intp), blocks - 1)
    return np.asarray(days.map(block), dtype=np.intp)


def _time_folds(rows: pd.DataFrame, horizon: timedelta, folds: int) -> list[tuple[IndexArray, IndexArray]]:
    if not has_enough_days(rows, folds + 1):
        return []
    block = time_blocks(rows, folds + 1)
    result = []
    for number in range(1, folds + 1):
        valid = block == number
        earlier = cutoffs_before(rows["as_of"], rows["as_of"][valid].min(), horizon)
        result.append((np.flatnonzero(earlier), np.flatnonzero(valid)))
    return result


def _user_folds(rows: pd.DataFrame, folds: int) -> list[tuple[IndexArray, IndexArray]]:
    fold = np.minimum((user_hash_fraction(rows["user_id"], "folds") * folds).astype(np.intp), folds - 1)
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(folds)]


def _both_classes(labels: BoolArray, fold: tuple[IndexArray, IndexArray]) -> bool:
    return all(0 < labels[part].sum() < len(part) for part in fold)
