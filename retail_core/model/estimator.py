"""The object that is fitted, judged, stored and served: a ranker and a calibrator for every policy."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier

from retail_core.arrays import Float32Array, FloatArray
from retail_core.errors import InputError
from retail_core.model.boosting import BoostedTrees
from retail_core.model.calibration import Calibrator
from retail_core.model.feature_matrix import Features, to_matrix
from retail_core.model.linear import LogisticRanker
from retail_core.model.sampling import correct_prior

_CHUNK = 8_192

Ranker: TypeAlias = RandomForestClassifier | BoostedTrees | LogisticRanker
"""What ranks: a stock forest, LightGBM as its text, or a line as its arrays."""


def build_forest(*, trees: int, depth: int, leaf: int, seed: int) -> RandomForestClassifier:
    """A stock forest; unfitted."""
    return RandomForestClassifier(
        n_estimators=trees, max_depth=depth, min_samples_leaf=leaf, random_state=seed, n_jobs=2
    )


class CalibratedRanker(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Ranks with what was fitted on sampled rows, corrects the prior exactly, then calibrates; by policy.

    Who is in the app right now and who may come tomorrow are told apart by different things: one ranker
    for both ranks the morning's list worse, after a week of log by a fifth (`docs/benchmarks.md`).

    Args:
        rankers: one per cut-off policy (`fitting.fit_ranker`); their classes are False and True.
        factor: k of the prior correction (`sampling.correct_prior`).
        calibrators: one per cut-off policy; monotone, so the order of users is the ranker's.
        primary: the policy that is meant where none is named.
        threshold: probability from which on `predict` says True.
    """

    def __init__(
        self,
        rankers: dict[str, Ranker] | None = None,
        factor: float = 1.0,
        calibrators: dict[str, Calibrator] | None = None,
        primary: str = "daily",
        threshold: float = 0.5,
    ) -> None:
        self.rankers = rankers
        self.factor = factor
        self.calibrators = calibrators
        self.primary = primary
        self.threshold = threshold

    def fit(self, X: Features, y: npt.ArrayLike) -> Self:  # noqa: N803 - scikit-learn's name
        """Refit the primary policy's ranker in place; calibrators stay as they are."""
        self.ranker().fit(to_matrix(X), np.asarray(y, dtype=bool))
        return self

    @property
    def classes_(self) -> npt.NDArray[np.bool_]:
        """False (does not buy) and True (buys)."""
        return np.array([False, True])

    @property
    def n_features_in_(self) -> int:
        """How many feature columns it expects."""
        return int(self.ranker().n_features_in_)

    def ranker(self, policy: str | None = None) -> Ranker:
        """What ranks rows of that policy (None: of the primary one).

        Raises:
            InputError: the model has none.
        """
        found = (self.rankers or {}).get(policy or self.primary)
        if found is None:
            raise InputError(
                f"The model has no ranker for the cut-off policy {policy or self.primary!r}.",
                remedy=f"use one of {sorted(self.rankers or {})}, or train with --cutoffs.",
            )
        return found

    def raw_score(self, X: Features, policy: str | None = None) -> FloatArray:  # noqa: N803 - scikit-learn's name
        """Prior-corrected score in [0, 1], not calibrated; scores of two policies do not compare.

        Trees and terms are added up in their own order, row by row, so one row gives to the bit what
        it gives among many; scikit-learn's own sum over a forest depends on which thread is first.

        Args:
            X: rows of features.
            policy: whose rows they are; None means the primary one.

        Returns:
            Shape (rows,).

        Raises:
            InputError: the number of columns is not the one it was fitted with, or an unknown policy.
        """
        matrix = to_matrix(X)
        if matrix.ndim != 2 or matrix.shape[1] != self.n_features_in_:
            raise InputError(
                f"The model expects {self.n_features_in_} feature columns and got shape {matrix.shape}.",
                remedy="compute the features with the model's own feature set.",
            )
        return correct_prior(_score(self.ranker(policy), matrix), self.factor)

    def probability(self, X: Features, policy: str) -> FloatArray:  # noqa: N803 - scikit-learn's name
        """Calibrated probability of buying within the horizon, for rows of that cut-off policy."""
        return self.calibrate(self.raw_score(X, policy), policy)

    def calibrate(self, raw: FloatArray, policy: str) -> FloatArray:
        """Probabilities for raw scores.

        Raises:
            InputError: the model has no calibrator for the policy.
        """
        calibrator = (self.calibrators or {}).get(policy)
        if calibrator is None:
            raise InputError(
                f"The model was not calibrated for the cut-off policy {policy!r}.",
                remedy=f"use one of {sorted(self.calibrators or {})}, or train with --cutoffs {policy}.",
            )
        return calibrator(raw)

    def predict_proba(self, X: Features) -> FloatArray:  # noqa: N803 - scikit-learn's name
        """Shape (rows, 2): not buying, buying; of the primary policy."""
        bought = self.probability(X, self.primary)
        return np.column_stack([1 - bought, bought])

    def predict(self, X: Features) -> npt.NDArray[np.bool_]:  # noqa: N803 - scikit-learn's name
        """Whether the probability reaches `threshold`."""
        return np.asarray(self.probability(X, self.primary) >= self.threshold, dtype=np.bool_)

    def importances(self) -> FloatArray:
        """By feature, in the primary ranker's own coin (impurity, gain or coefficient); sums to one."""
        return np.asarray(self.ranker().feature_importances_, dtype=np.float64)


def _score(ranker: Ranker, matrix: Float32Array) -> FloatArray:
    """Bounded in memory; the same bits for a row whatever it is asked with."""
    chunks = [matrix[start : start + _CHUNK] for start in range(0, len(matrix), _CHUNK)] or [matrix]
    if isinstance(ranker, RandomForestClassifier):
        forest = _forest_score(ranker)
        with ThreadPoolExecutor(max_workers=2) as pool:
            return np.concatenate(list(map(forest, chunks) if len(chunks) < 2 else pool.map(forest, chunks)))
    return np.concatenate([ranker.predict_proba(chunk)[:, 1] for chunk in chunks])


def _forest_score(forest: RandomForestClassifier) -> Callable[[Float32Array], FloatArray]:
    trees = [estimator.tree_ for estimator in forest.estimators_]
    column = int(np.flatnonzero(forest.classes_)[0])

    def score(chunk: Float32Array) -> FloatArray:
        total = np.zeros(len(chunk))
        for tree in trees:
            total += tree.predict(chunk)[:, column]
        return total / len(trees)

    return score
