"""Logistic regression on logarithms of the features, stored as plain arrays.

Saved models name `retail_core.model.linear.LogisticRanker`, its parameter and attributes: keep them.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from threadpoolctl import threadpool_limits

from retail_core.arrays import Float32Array, FloatArray
from retail_core.model.feature_matrix import MISSING


class LogisticRanker(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge-penalised logistic regression on signed logarithms, with a column for each missing value.

    Args:
        C: inverse of the penalty, as scikit-learn names it.

    Attributes:
        centre_, scale_: mean and spread of the columns: logarithms first, then missing indicators.
        coef_, intercept_: coefficients of the standardised columns.
        n_features_in_: number of columns it was fitted on; 0 before.
    """

    n_features_in_: int = 0

    def __init__(self, C: float = 0.05) -> None:  # noqa: N803 - scikit-learn's name
        self.C = C

    def fit(self, X: Float32Array, y: npt.ArrayLike) -> Self:  # noqa: N803 - scikit-learn's name
        """Fit on rows without nulls (`feature_matrix.to_matrix`)."""
        from sklearn.linear_model import LogisticRegression

        columns = _columns(X)
        self.centre_ = columns.mean(axis=0)
        spread = columns.std(axis=0)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        vary = np.flatnonzero(spread > 0)
        model = LogisticRegression(C=self.C, max_iter=500, tol=1e-3)
        # With two BLAS threads more time is spent waiting than computing.
        with threadpool_limits(limits=1, user_api="blas"):
            model.fit(((columns - self.centre_) / self.scale_)[:, vary], np.asarray(y, dtype=bool))
        self.coef_ = np.zeros(columns.shape[1])
        self.coef_[vary] = model.coef_[0]
        self.intercept_ = float(model.intercept_[0])
        self.n_features_in_ = X.shape[1]
        return self

    @property
    def classes_(self) -> npt.NDArray[np.bool_]:
        """False (does not buy) and True (buys)."""
        return np.array([False, True])

    def contributions(self, X: Float32Array) -> FloatArray:  # noqa: N803 - scikit-learn's name
        """What each feature adds to the log odds of the average row, shape (rows, features).

        For a linear model these are the exact Shapley values under independent features
        (Lundberg and Lee, NIPS 2017, section 4.1).
        """
        terms = self._terms(X)
        return terms[:, : self.n_features_in_] + terms[:, self.n_features_in_ :]

    def predict_proba(self, X: Float32Array) -> FloatArray:  # noqa: N803 - scikit-learn's name
        """Probabilities of the classes, shape (rows, 2); each row is summed separately."""
        odds = self.intercept_ + self._terms(X).sum(axis=1)
        bought = expit(odds)
        return np.column_stack([1 - bought, bought])

    def _terms(self, matrix: Float32Array) -> FloatArray:
        return np.asarray((_columns(matrix) - self.centre_) / self.scale_ * self.coef_, dtype=np.float64)


def _columns(matrix: Float32Array) -> FloatArray:
    missing = matrix == MISSING
    values = np.where(missing, 0.0, matrix).astype(np.float64)
    return np.hstack([np.sign(values) * np.log1p(np.abs(values)), missing])
