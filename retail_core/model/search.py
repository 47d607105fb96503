"""Grid search over the forest's size, on time-ordered folds, with the fast forest where it runs.

Only the choice of parameters comes from the fast forest of scikit-learn-intelex. What is evaluated
and served is a stock forest fitted anew with them: the two grow different trees, and one rebuilt
from the other's trees does not give the other's probabilities.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

from retail_core.model.estimator import Matrix
from retail_core.model.splits import PeriodFolds

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

TREES = (100, 200)
DEPTHS = (8, 12, 16)
LEAF = 10
"""Fewest sampled rows a leaf may have; fixed, so that the grid stays small."""


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: its parameters and its average precision over the folds."""

    params: dict[str, int]
    mean_ap: float
    std_ap: float
    fold_ap: tuple[float, ...]
    fit_seconds: float


@dataclass(frozen=True)
class SearchResult:
    """Every cell, the chosen one's parameters, and how the search was done."""

    best: dict[str, int]
    cells: tuple[Cell, ...]
    engine: str
    folds: str
    rows: int
    positives: int
    negative_rate: float
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """How it was done, without the cells; plain values."""
        kept = ("engine", "folds", "rows", "positives", "negative_rate", "seconds")
        return {name: getattr(self, name) for name in kept}


def search(
    matrix: Matrix, rows: pd.DataFrame, folds: PeriodFolds, *, negative_rate: float, seed: int
) -> SearchResult:
    """Try every cell and choose.

    Args:
        matrix: features of the sampled rows (`estimator.to_matrix`), shape (rows, features).
        rows: the same rows' `label` (and `user_id`, `as_of`).
        folds: built from `rows`.
        negative_rate: share of the negatives that the sample kept; recorded, average precision on
            sampled rows being comparable between cells only.
        seed: of the forests.
    """
    started = time.perf_counter()
    labels = rows["label"].to_numpy(bool)
    forest, engine = _fast_forest()
    grid = GridSearchCV(
        forest(min_samples_leaf=LEAF, random_state=seed, n_jobs=2),
        {"n_estimators": list(TREES), "max_depth": list(DEPTHS)},
        scoring="average_precision",
        cv=folds,
        refit=False,
        error_score="raise",
    )
    with _quiet():
        grid.fit(matrix, labels)
    cells = _cells(grid.cv_results_, folds.get_n_splits())
    return SearchResult(
        best=simplest_within_error(cells).params,
        cells=cells,
        engine=engine,
        folds=f"{folds.get_n_splits()} {folds.kind} folds",
        rows=len(rows),
        positives=int(labels.sum()),
        negative_rate=negative_rate,
        seconds=time.perf_counter() - started,
    )


def simplest_within_error(cells: tuple[Cell, ...]) -> Cell:
    """The cheapest cell whose loss against the best is within one standard error over the folds.

    The error is that of the paired differences: folds differ in difficulty, cells share the folds.
    """
    best = max(cells, key=lambda cell: cell.mean_ap)
    folds = len(best.fold_ap)

    def close(cell: Cell) -> bool:
        loss = np.array(best.fold_ap) - np.array(cell.fold_ap)
        error = loss.std(ddof=1) / np.sqrt(folds) if folds > 1 else 0.0
        return bool(loss.mean() <= error)

    return min((cell for cell in cells if close(cell)), key=lambda cell: _cost(cell.params))


def _cost(params: dict[str, int]) -> tuple[int, int]:
    return params["n_estimators"] * params["max_depth"], params["max_depth"]


def _cells(results: dict[str, Any], folds: int) -> tuple[Cell, ...]:
    by_fold = np.column_stack([results[f"split{number}_test_score"] for number in range(folds)])
    return tuple(
        Cell(
            params={name: int(value) for name, value in params.items()},
            mean_ap=float(by_fold[index].mean()),
            std_ap=float(by_fold[index].std()),
            fold_ap=tuple(float(value) for value in by_fold[index]),
            fit_seconds=float(results["mean_fit_time"][index]),
        )
        for index, params in enumerate(results["params"])
    )


def _fast_forest() -> tuple[Callable[..., RandomForestClassifier], str]:
    """The forest of scikit-learn-intelex, or the stock one where it cannot be imported."""
    try:
        from sklearnex.ensemble import RandomForestClassifier as FastForest
    except ImportError as error:
        log.warning("scikit-learn-intelex does not run here (%s): the search takes ten times longer.", error)
        return RandomForestClassifier, "scikit-learn"
    return FastForest, "scikit-learn-intelex"


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
