"""Grid search over model families and their parameters on time-ordered folds.

The search returns a configuration only; what is evaluated and served is fitted anew with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

from retail_core.arrays import BoolArray, Float32Array, FloatArray
from retail_core.model.evaluation.metrics import WeightedRanking, bootstrap_user_weights
from retail_core.model.families import ModelFamily, RankerConfig
from retail_core.model.splits import PeriodFolds

BOOTSTRAP_REPLICATES = 100
"""Resamples of the users behind every standard error and interval of the search."""


@dataclass(frozen=True)
class GridCell:
    """One cell of a grid with its average precision (AP) over the folds.

    Attributes:
        params: parameters of the ranker.
        mean_ap: mean over the folds.
        std_ap: standard deviation over the folds.
        fold_ap: AP of each fold.
        fit_seconds: mean seconds of a fit.
        family: name of the model family.
    """

    params: dict[str, float]
    mean_ap: float
    std_ap: float
    fold_ap: tuple[float, ...]
    fit_seconds: float
    family: str

    @property
    def config(self) -> RankerConfig:
        """The configuration of the cell."""
        return RankerConfig(self.family, self.params)


@dataclass(frozen=True)
class SearchResult:
    """Every cell, the selected configuration, and how the search was done.

    Attributes:
        config: the selected configuration.
        cells: every cell that was tried.
        engine: libraries that fitted the cells.
        folds: number and kind of the folds.
        rows: number of rows searched on.
        positives: number of rows of buyers among them.
        negative_rate: share of the negatives that the sample kept.
        seconds: duration.
        compared: by name the best cell of every family, and the rule "open cart" where there are carts: its
            `ap`, and the `lead` of the selected cell with its 95 % interval `low` to `high`, users resampled.
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
        """Parameters of the selected configuration."""
        return dict(self.config.params)

    def to_dict(self) -> dict[str, object]:
        """How the search was done, without the cells; plain values."""
        names = ("engine", "folds", "rows", "positives", "negative_rate", "seconds", "compared")
        return {"family": self.config.family} | {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class SearchRows:
    """Rows to search on.

    Attributes:
        matrix: features (`feature_matrix.to_matrix`), aligned with `rows`.
        rows: `user_id, as_of, label`.
        folds: train and validation rows.
        negative_rate: share of the negatives that the sample kept; recorded, because average precision on
            sampled rows is comparable between cells only.
        rule: score of a rule to compare with, aligned with `rows`.
    """

    matrix: Float32Array
    rows: pd.DataFrame
    folds: PeriodFolds
    negative_rate: float = 1.0
    rule: FloatArray | None = None


def search_families(data: SearchRows, families: Sequence[ModelFamily[Any]], *, seed: int) -> SearchResult:
    """Try every cell of every family and select the simplest that is as good as the best."""
    started = time.perf_counter()
    searched = [_search_family(data, family, seed) for family in families]
    cells = tuple(cell for family_cells, _, _ in searched for cell in family_cells)
    resampled = _resample_users(
        data, [scores for _, cell_scores, _ in searched for scores in cell_scores], seed
    )
    selected = simplest_within_standard_error(cells, resampled)
    return SearchResult(
        config=cells[selected].config,
        cells=cells,
        engine=", ".join(dict.fromkeys(library for _, _, library in searched)),
        folds=f"{data.folds.get_n_splits()} {data.folds.kind} folds",
        rows=len(data.rows),
        positives=int(data.rows["label"].sum()),
        negative_rate=data.negative_rate,
        seconds=time.perf_counter() - started,
        compared=_compare_candidates(data, cells, resampled, selected, seed),
    )


def simplest_within_standard_error(cells: Sequence[GridCell], resampled: FloatArray) -> int:
    """Position of the least complex cell whose loss against the best is within one standard error.

    Args:
        cells: with their mean average precision.
        resampled: the same mean for each resample of the users, shape (replicates, cells). The error is that
            of the paired differences, since all cells are evaluated on the same rows.
    """
    means = np.array([cell.mean_ap for cell in cells])
    best = int(np.argmax(means))
    errors = (resampled[:, [best]] - resampled).std(axis=0)
    candidates = np.flatnonzero(means[best] - means <= errors)
    return min(candidates.tolist(), key=lambda index: (cells[index].config.complexity, -means[index]))


class _ScoreRecorder:
    """Scikit-learn scorer (average precision) that stores the scores of each fit's validation rows."""

    def __init__(self, param_names: Sequence[str]) -> None:
        self._param_names = tuple(param_names)
        self._scores: dict[tuple[object, ...], FloatArray] = {}

    def __call__(self, estimator: Any, matrix: Float32Array, labels: BoolArray) -> float:
        bought = estimator.predict_proba(matrix)[:, int(np.flatnonzero(estimator.classes_)[0])]
        scores = np.asarray(bought, dtype=np.float64)
        self._scores[self._key(estimator.get_params(), matrix)] = scores
        return _average_precision(scores, labels)

    def scores(self, params: Mapping[str, float], matrix: Float32Array) -> FloatArray:
        """Scores of the rows of `matrix` by the cell with `params`; fits end in any order."""
        return self._scores[self._key(params, matrix)]

    def _key(self, params: Mapping[str, object], matrix: Float32Array) -> tuple[object, ...]:
        return (hash(matrix.tobytes()), *(params[name] for name in self._param_names))


def _average_precision(scores: FloatArray, labels: BoolArray) -> float:
    return WeightedRanking(scores, labels).average_precision(np.ones(len(labels), np.int64))


def _search_family(
    data: SearchRows, family: ModelFamily[Any], seed: int
) -> tuple[list[GridCell], list[list[FloatArray]], str]:
    """Cells of one family, their validation scores by fold, and the library that fitted them."""
    estimator, library = family.search_estimator(seed)
    recorder = _ScoreRecorder(tuple(family.grid))
    grid = {name: list(values) for name, values in family.grid.items()}
    search = GridSearchCV(estimator, grid, scoring=recorder, cv=data.folds, refit=False, error_score="raise")
    with _without_fit_messages(), parallel_config(backend="threading", n_jobs=family.parallel_fits):
        search.fit(data.matrix, data.rows["label"].to_numpy(bool))
    cells = _grid_cells(search.cv_results_, family.name, data.folds.get_n_splits())
    validation = [data.matrix[rows] for _, rows in data.folds.split()]
    scores = [[recorder.scores(cell.params, matrix) for matrix in validation] for cell in cells]
    return cells, scores, library


def _grid_cells(results: dict[str, Any], family: str, folds: int) -> list[GridCell]:
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
    """Mean average precision over the folds in every resample of the users.

    Args:
        data: rows and folds.
        scores: by candidate, the scores of each fold's validation rows.
        seed: of the resampling.

    Returns:
        Shape (replicates, candidates).
    """
    labels = data.rows["label"].to_numpy(bool)
    validation = [rows for _, rows in data.folds.split()]
    rankings = [
        [
            WeightedRanking(fold_scores, labels[rows])
            for fold_scores, rows in zip(by_fold, validation, strict=True)
        ]
        for by_fold in scores
    ]
    means = np.empty((BOOTSTRAP_REPLICATES, len(scores)))
    resamples = bootstrap_user_weights(data.rows["user_id"], BOOTSTRAP_REPLICATES, seed)
    for replicate, weights in enumerate(resamples):
        fold_weights = [weights[rows] for rows in validation]
        for candidate, by_fold in enumerate(rankings):
            means[replicate, candidate] = np.mean(
                [ranking.average_precision(w) for ranking, w in zip(by_fold, fold_weights, strict=True)]
            )
    return means


def _compare_candidates(
    data: SearchRows, cells: Sequence[GridCell], resampled: FloatArray, selected: int, seed: int
) -> dict[str, dict[str, float]]:
    """See `SearchResult.compared`."""
    candidates: dict[str, tuple[float, FloatArray]] = {}
    for family in dict.fromkeys(cell.family for cell in cells):
        indices = [index for index, cell in enumerate(cells) if cell.family == family]
        best = max(indices, key=lambda index: cells[index].mean_ap)
        candidates[family] = (cells[best].mean_ap, resampled[:, best])
    if data.rule is not None:
        validation = [data.rule[rows] for _, rows in data.folds.split()]
        labels = data.rows["label"].to_numpy(bool)
        fold_ap = [_average_precision(data.rule[rows], labels[rows]) for _, rows in data.folds.split()]
        candidates["open cart"] = (float(np.mean(fold_ap)), _resample_users(data, [validation], seed)[:, 0])
    return {
        name: _lead_with_interval(cells[selected].mean_ap - ap, resampled[:, selected] - candidate)
        | {"ap": ap}
        for name, (ap, candidate) in candidates.items()
    }


def _lead_with_interval(lead: float, resampled_leads: FloatArray) -> dict[str, float]:
    low, high = np.quantile(resampled_leads, [0.025, 0.975])
    return {"lead": lead, "low": float(low), "high": float(high)}


@contextmanager
def _without_fit_messages() -> Iterator[None]:
    """Suppress the line that scikit-learn-intelex logs for every fit and prediction."""
    logger = logging.getLogger("sklearnex")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
