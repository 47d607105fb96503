"""The family `lightgbm`: gradient-boosted trees."""

from __future__ import annotations

from typing import Any

from retail_core.arrays import Float32Array, FloatArray
from retail_core.model.boosting import BoostedTrees
from retail_core.model.families.protocol import ModelFamily, Params
from retail_core.model.forest_formats import tree_shapley_values


class LightGBMFamily(ModelFamily[BoostedTrees]):
    """`boosting.BoostedTrees`; Shapley values in log odds, by LightGBM's exact TreeSHAP."""

    name = "lightgbm"
    title = "LightGBM"
    ranker_type = BoostedTrees
    grid = {"n_estimators": (100, 300), "max_depth": (3, 5), "min_samples_leaf": (80,)}  # noqa: RUF012
    trusted_types = ("retail_core.model.boosting.BoostedTrees",)
    requirements = ("lightgbm",)
    parallel_fits = 2
    """A fit keeps to one thread, see `boosting._FIXED`."""

    def build(self, params: Params, seed: int) -> BoostedTrees:
        """An unfitted ranker."""
        arguments: dict[str, Any] = dict(params)
        return BoostedTrees(**arguments, random_state=seed)

    def complexity(self, params: Params) -> float:
        """The largest number of leaves that the trees can have together."""
        return float(params["n_estimators"] * 2 ** params["max_depth"])

    def search_estimator(self, seed: int) -> tuple[Any, str]:
        """The ranker itself."""
        return self.build({}, seed), "lightgbm"

    def shapley_values(self, ranker: BoostedTrees, matrix: Float32Array) -> FloatArray:
        """TreeSHAP (Lundberg et al., Nature Machine Intelligence 2020)."""
        return tree_shapley_values(ranker.booster, matrix)

    def shapley_steps(self, ranker: BoostedTrees) -> int:
        """Leaves of all trees times the square of their depth."""
        return int(ranker.booster.num_trees() * 2**ranker.max_depth * ranker.max_depth**2)


FAMILY = LightGBMFamily()
