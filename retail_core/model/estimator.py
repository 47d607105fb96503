"""The estimator that is fitted, evaluated, stored and served: a ranker and a calibrator per cut-off policy.

Saved models name `retail_core.model.estimator.CalibratedRanker`, its parameters and attributes: keep them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin

from retail_core.arrays import BoolArray, Float32Array, FloatArray
from retail_core.errors import InputError
from retail_core.model.calibration import Calibrator
from retail_core.model.families import Ranker, family_of
from retail_core.model.feature_matrix import FeatureInput, to_matrix
from retail_core.model.sampling import correct_prior

_CHUNK_ROWS = 8_192


class CalibratedRanker(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Scores with a policy's ranker, corrects the prior for the sampling of the fit, then calibrates.

    Each cut-off policy has its own ranker, because different features separate buyers during a session and
    on the next day: one ranker for all policies ranks the daily list worse (`docs/benchmarks.md`).

    Args:
        rankers: fitted ranker by cut-off policy (`fitting.fit_ranker`).
        factor: k of the prior correction (`sampling.correct_prior`).
        calibrators: calibrator by cut-off policy; monotone, so the ranker's order of users is kept.
        primary: policy used where none is named.
        threshold: probability from which on `predict` returns True.
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

    def fit(self, X: FeatureInput, y: npt.ArrayLike) -> Self:  # noqa: N803 - scikit-learn's name
        """Refit the primary policy's ranker in place; calibrators stay as they are."""
        self.ranker().fit(to_matrix(X), np.asarray(y, dtype=bool))
        return self

    @property
    def classes_(self) -> BoolArray:
        """False (does not buy) and True (buys)."""
        return np.array([False, True])

    @property
    def n_features_in_(self) -> int:
        """Number of feature columns it expects."""
        return int(self.ranker().n_features_in_)

    def ranker(self, policy: str | None = None) -> Ranker:
        """The ranker of a cut-off policy; None means the primary one.

        Raises:
            InputError: the model has none for it.
        """
        ranker = (self.rankers or {}).get(policy or self.primary)
        if ranker is None:
            raise InputError(
                f"The model has no ranker for the cut-off policy {policy or self.primary!r}.",
                remedy=f"use one of {sorted(self.rankers or {})}, or train with --cutoffs.",
            )
        return ranker

    def raw_score(self, X: FeatureInput, policy: str | None = None) -> FloatArray:  # noqa: N803
        """Prior-corrected score in [0, 1], not calibrated; scores of two policies are not comparable.

        A row gets the same bits alone as among other rows (`ModelFamily.score`).

        Args:
            X: rows of features.
            policy: cut-off policy of the rows; None means the primary one.

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
        return correct_prior(_score_in_chunks(self.ranker(policy), matrix), self.factor)

    def probability(self, X: FeatureInput, policy: str) -> FloatArray:  # noqa: N803 - scikit-learn's name
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

    def predict_proba(self, X: FeatureInput) -> FloatArray:  # noqa: N803 - scikit-learn's name
        """Probabilities of not buying and of buying for the primary policy, shape (rows, 2)."""
        bought = self.probability(X, self.primary)
        return np.column_stack([1 - bought, bought])

    def predict(self, X: FeatureInput) -> BoolArray:  # noqa: N803 - scikit-learn's name
        """Whether the probability for the primary policy reaches `threshold`."""
        return np.asarray(self.probability(X, self.primary) >= self.threshold, dtype=np.bool_)


def _score_in_chunks(ranker: Ranker, matrix: Float32Array) -> FloatArray:
    """Scores of all rows, in chunks that bound the memory."""
    family = family_of(ranker)
    score = partial(family.score, ranker)
    chunks = [matrix[start : start + _CHUNK_ROWS] for start in range(0, len(matrix), _CHUNK_ROWS)] or [matrix]
    if family.score_threads == 1 or len(chunks) == 1:
        return np.concatenate([score(chunk) for chunk in chunks])
    with ThreadPoolExecutor(max_workers=family.score_threads) as pool:
        return np.concatenate(list(pool.map(score, chunks)))
