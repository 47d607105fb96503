"""Grid search over families and their parameters, on time-ordered folds, with the fast forest where it runs.

Only the choice comes from the fast forest of scikit-learn-intelex. What is evaluated and served is a
stock forest fitted anew with the chosen parameters: the two grow different trees, and one rebuilt from
the other's trees does not give the other's probabilities.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

from retail_core.arrays import BoolArray, Float32Array, FloatArray
from retail_core.model.evaluation.metrics import WeightedRanking, bootstrap_user_weights
from retail_core.model.families import FOREST, Family, RankerConfig, fits_at_once, for_search
from retail_core.model.splits import PeriodFolds

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOTSTRAP_REPLICATES = 100
"""Draws of the users behind every standard error and interval of the search."""


@dataclass(frozen=True)
class GridCell:
    """One cell of a grid: its parameters and its average precision over the folds."""

    params: dict[str, float]
    mean_ap: float
    std_ap: float
    fold_ap: tuple[float, ...]
    fit_seconds: float
    family: str = FOREST

    @property
    def config(self) -> RankerConfig:
        """What it would be to fit it."""
        return RankerConfig(self.family, self.params)


@dataclass(frozen=True)
class SearchResult:
    """Every cell, the chosen one, and how the search was done.

    `compared` holds by name the best cell of every family, and the rule "open cart" where there are carts:
    its average precision, and how far the chosen one is ahead (`lead`, 95 % interval `low` to `high`, users
    resampled).
    """

    config: RankerConfig
    cells: tuple[GridCell, ...]
    engine: str
    folds: str
    rows: int
    positives: int
    negative_rate: float
    seconds: float
    compared: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def best_params(self) -> dict[str, float]:
        """Parameters of the chosen one."""
        return dict(self.config.params)

    def to_dict(self) -> dict[str, object]:
        """How it was done, without the cells; plain values."""
        kept = ("engine", "folds", "rows", "positives", "negative_rate", "seconds", "compared")
        return {"family": self.config.family} | {name: getattr(self, name) for name in kept}


@dataclass(frozen=True)
class SearchRows:
    """What is searched on: `matrix` (`estimator.to_matrix`) and `rows` (`user_id, as_of, label`), aligned.

    `rule` is the score of a rule of thumb to compare with. `negative_rate` is the share of the negatives
    that the sample kept; recorded, average precision on sampled rows being comparable between cells only.
    """

    matrix: Float32Array
    rows: pd.DataFrame
    folds: PeriodFolds
    negative_rate: float = 1.0
    rule: FloatArray | None = None


def search_families(data: SearchRows, families: Sequence[Family], *, seed: int) -> SearchResult:
    """Try every cell of every family and choose: the simplest that is as good as the best."""
    started = time.perf_counter()
    tried = [_search_family(data, family, seed) for family in families]
    cells = tuple(cell for found, _, _ in tried for cell in found)
    drawn = _resample_users(data, [scores for _, found, _ in tried for scores in found], seed)
    chosen = simplest_within_standard_error(cells, drawn)
    return SearchResult(
        config=cells[chosen].config,
        cells=cells,
        engine=", ".join(dict.fromkeys(engine for _, _, engine in tried)),
        folds=f"{data.folds.get_n_splits()} {data.folds.kind} folds",
        rows=len(data.rows),
        positives=int(data.rows["label"].sum()),
        negative_rate=data.negative_rate,
        seconds=time.perf_counter() - started,
        compared=_compare_candidates(data, cells, drawn, chosen, seed),
    )


def simplest_within_standard_error(cells: Sequence[GridCell], drawn: FloatArray) -> int:
    """The place of the smallest cell whose loss against the best is within one standard error.

    Args:
        cells: with their mean average precision.
        drawn: the same mean for each draw of the users, shape (draws, cells). The error is that of the
            paired differences: rows differ in difficulty, cells share the rows.
    """
    means = np.array([cell.mean_ap for cell in cells])
    best = int(np.argmax(means))
    errors = (drawn[:, [best]] - drawn).std(axis=0)
    close = np.flatnonzero(means[best] - means <= errors)
    return min(close.tolist(), key=lambda place: (cells[place].config.size, -means[place]))


class _ScoreRecorder:
    """Average precision as scikit-learn scores it, keeping what each fit says of its validation rows."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._scores: dict[tuple[object, ...], FloatArray] = {}

    def __call__(self, estimator: Any, matrix: Float32Array, labels: BoolArray) -> float:
        bought = estimator.predict_proba(matrix)[:, int(np.flatnonzero(estimator.classes_)[0])]
        score = np.asarray(bought, dtype=np.float64)
        self._scores[self._key(estimator.get_params(), matrix)] = score
        return _ap(score, labels)

    def scores(self, params: Mapping[str, float], matrix: Float32Array) -> FloatArray:
        """What the cell with `params` said of the rows of `matrix`; fits end in any order."""
        return self._scores[self._key(params, matrix)]

    def _key(self, params: Mapping[str, object], matrix: Float32Array) -> tuple[object, ...]:
        return (hash(matrix.tobytes()), *(params[name] for name in self._names))


def _ap(score: FloatArray, labels: BoolArray) -> float:
    return WeightedRanking(score, labels).average_precision(np.ones(len(labels), np.int64))


def _search_family(
    data: SearchRows, family: Family, seed: int
) -> tuple[list[GridCell], list[list[FloatArray]], str]:
    """Cells of one family, their validation scores by fold, and the engine."""
    estimator, engine = for_search(family, seed)
    recorder = _ScoreRecorder(tuple(family.grid))
    values = {name: list(choices) for name, choices in family.grid.items()}
    grid = GridSearchCV(estimator, values, scoring=recorder, cv=data.folds, refit=False, error_score="raise")
    with _quiet(), parallel_config(backend="threading", n_jobs=fits_at_once(family.name)):
        grid.fit(data.matrix, data.rows["label"].to_numpy(bool))
    cells = _cells(grid.cv_results_, family.name, data.folds.get_n_splits())
    valid = [data.matrix[rows] for _, rows in data.folds.split()]
    scores = [[recorder.scores(cell.params, matrix) for matrix in valid] for cell in cells]
    return cells, scores, engine


def _cells(results: dict[str, Any], family: str, folds: int) -> list[GridCell]:
    by_fold = np.column_stack([results[f"split{number}_test_score"] for number in range(folds)])
    return [
        GridCell(
            params=dict(params),
            mean_ap=float(by_fold[index].mean()),
            std_ap=float(by_fold[index].std()),
            fold_ap=tuple(float(value) for value in by_fold[index]),
            fit_seconds=float(results["mean_fit_time"][index]),
            family=family,
        )
        for index, params in enumerate(results["params"])
    ]


def _resample_users(data: SearchRows, scores: Sequence[Sequence[FloatArray]], seed: int) -> FloatArray:
    """Mean average precision over the folds for every draw of the users; shape (draws, scores)."""
    labels = data.rows["label"].to_numpy(bool)
    valid = [valid for _, valid in data.folds.split()]
    rankings = [
        [WeightedRanking(score, labels[rows]) for score, rows in zip(one, valid, strict=True)]
        for one in scores
    ]
    drawn = np.empty((BOOTSTRAP_REPLICATES, len(scores)))
    for number, weights in enumerate(
        bootstrap_user_weights(data.rows["user_id"], BOOTSTRAP_REPLICATES, seed)
    ):
        here = [weights[rows] for rows in valid]
        for place, one in enumerate(rankings):
            drawn[number, place] = np.mean(
                [ranking.average_precision(mine) for ranking, mine in zip(one, here, strict=True)]
            )
    return drawn


def _compare_candidates(
    data: SearchRows, cells: Sequence[GridCell], drawn: FloatArray, chosen: int, seed: int
) -> dict[str, dict[str, float]]:
    found = {}
    for family in dict.fromkeys(cell.family for cell in cells):
        places = [place for place, cell in enumerate(cells) if cell.family == family]
        best = max(places, key=lambda place: cells[place].mean_ap)
        found[family] = (cells[best].mean_ap, drawn[:, best])
    if data.rule is not None:
        valid = [data.rule[rows] for _, rows in data.folds.split()]
        labels = data.rows["label"].to_numpy(bool)
        parts = [_ap(data.rule[rows], labels[rows]) for _, rows in data.folds.split()]
        found["open cart"] = (float(np.mean(parts)), _resample_users(data, [valid], seed)[:, 0])
    return {
        name: _lead_with_interval(cells[chosen].mean_ap - ap, drawn[:, chosen] - other) | {"ap": ap}
        for name, (ap, other) in found.items()
    }


def _lead_with_interval(lead: float, drawn: FloatArray) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"lead": lead, "low": float(low), "high": float(high)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a line from scikit-learn-intelex for every fit and prediction."""
    logger = logging.getLogger("sklearnex")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
