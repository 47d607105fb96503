"""LightGBM's boosted trees, stored as the booster's own text in a plain class instead of a pickle.

The booster becomes text as soon as it is fitted, and every score comes from that text, so that the model
evaluated, stored, loaded and served is the same. Saved models name `retail_core.model.boosting.BoostedTrees`,
its parameters and attributes: keep them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin

from retail_core.arrays import Float32Array
from retail_core.errors import InputError

if TYPE_CHECKING:
    from lightgbm import Booster

LEARNING_RATE = 0.05
COLUMNS_PER_TREE = 90
"""Columns sampled for a tree, or half of all where that is more: many columns are strongly correlated."""

_FIXED: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": LEARNING_RATE,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "max_bin": 127,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
"""Not searched: strong subsampling and shrinkage, which suit many correlated features and few buyers.

One thread per fit: two threads wait for each other at every node, on a busy machine five times as long as
they work. The search and the refit run two fits side by side instead.
"""


class BoostedTrees(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Gradient-boosted trees (LightGBM: Ke et al., NIPS 2017); parameters named as the forest's are.

    Args:
        n_estimators: number of trees.
        max_depth: depth of a tree, which has at most 2 ** max_depth leaves.
        min_samples_leaf: fewest rows in a leaf.
        random_state: seed of the subsampling.

    Attributes:
        text_: the fitted booster as LightGBM writes it; "" before `fit`.
        n_features_in_: number of columns it was fitted on; 0 before.
    """

    text_: str = ""
    n_features_in_: int = 0

    def __init__(
        self,
        n_estimators: int = 100,
        max_depth: int = 6,
        min_samples_leaf: int = 20,
        random_state: int = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.random_state = random_state

    def fit(self, X: Float32Array, y: npt.ArrayLike) -> Self:  # noqa: N803 - scikit-learn's name
        """Fit on rows without nulls (`feature_matrix.to_matrix`)."""
        import lightgbm

        parameters = _FIXED | {
            "max_depth": self.max_depth,
            "num_leaves": 2**self.max_depth,
            "min_data_in_leaf": self.min_samples_leaf,
            "seed": self.random_state,
            "feature_fraction": min(1.0, max(0.5, COLUMNS_PER_TREE / X.shape[1])),
        }
        rows = lightgbm.Dataset(X, np.asarray(y, dtype=np.float32), params=parameters)
        self.text_ = lightgbm.train(parameters, rows, self.n_estimators).model_to_string()
        self.n_features_in_ = X.shape[1]
        return self

    @property
    def classes_(self) -> npt.NDArray[np.bool_]:
        """False (does not buy) and True (buys)."""
        return np.array([False, True])

    @property
    def booster(self) -> Booster:
        """LightGBM's booster, built from the text once per process.

        Raises:
            InputError: it was not fitted.
        """
        if not self.text_:
            raise InputError("The boosted trees were not fitted.", remedy="call fit first.")
        return _load(self.text_)

    def predict_proba(self, X: Float32Array) -> npt.NDArray[np.float64]:  # noqa: N803
        """Probabilities of the classes, shape (rows, 2); trees are added in order, in any batch."""
        bought = np.asarray(self.booster.predict(X, num_threads=1), dtype=np.float64)
        return np.column_stack([1 - bought, bought])


@lru_cache(maxsize=16)
def _load(text: str) -> Booster:
    import lightgbm

    return lightgbm.Booster(model_str=text)
