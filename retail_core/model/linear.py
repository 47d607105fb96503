"""Logistic regression on logarithms: the floor every other family has to clear, as plain arrays."""

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
        centre_, scale_: of the columns, logarithms first, then the marks of missing values.
        coef_, intercept_: of the standardised columns.
        n_features_in_: columns it was fitted on; 0 before.
    """

    n_features_in_: int = 0

    def __init__(self, C: float = 0.05) -> None:  # noqa: N803 - scikit-learn's name
        self.C = C

    def fit(self, X: Float32Array, y: npt.ArrayLike) -> Self:  # noqa: N803 - scikit-learn's name
        """Fit on rows without nulls (`estimator.to_matrix`)."""
        from sklearn.linear_model import LogisticRegression

        columns = _columns(X)
        self.centre_ = columns.mean(axis=0)
        spread = columns.std(axis=0)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        vary = np.flatnonzero(spread > 0)
        model = LogisticRegression(C=self.C, max_iter=500, tol=1e-3)
        # Two threads of the matrix library wait for each other longer than either works.
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
        """What each feature adds to the log odds of the average row; shape (rows, features).

        For a linear model these are its exact Shapley values, features taken as independent
        (Lundberg and Lee, NIPS 2017, section 4.1).
        """
        terms = self._terms(X)
        return terms[:, : self.n_features_in_] + terms[:, self.n_features_in_ :]

    def predict_proba(self, X: Float32Array) -> FloatArray:  # noqa: N803 - scikit-learn's name
        """Shape (rows, 2). Each row is added up by itself: the same bits alone or among many."""
        odds = self.intercept_ + self._terms(X).sum(axis=1)
        bought = expit(odds)
        return np.column_stack([1 - bought, bought])

    @property
    def feature_importances_(self) -> FloatArray:
        """Share of the coefficients' sizes by feature, columns standardised; sums to one."""
        size = np.abs(self.coef_).reshape(2, -1).sum(axis=0)
        return np.asarray(size / max(float(size.sum()), 1e-12), dtype=np.float64)

    def _terms(self, matrix: Float32Array) -> FloatArray:
        return np.asarray((_columns(matrix) - self.centre_) / self.scale_ * self.coef_, dtype=np.float64)


def _columns(matrix: Float32Array) -> FloatArray:
    missing = matrix == MISSING
    values = np.where(missing, 0.0, matrix).astype(np.float64)
    return np.hstack([np.sign(values) * np.log1p(np.abs(values)), missing])
