"""The family `logistic`: logistic regression, the simplest model and the floor for the others."""

from __future__ import annotations

from typing import Any

from retail_core.arrays import Float32Array, FloatArray
from retail_core.model.families.protocol import ModelFamily, Params
from retail_core.model.linear import LogisticRanker


class LogisticFamily(ModelFamily[LogisticRanker]):
    """`linear.LogisticRanker`; Shapley values in log odds."""

    name = "logistic"
    title = "logistic regression"
    ranker_type = LogisticRanker
    grid = {"C": (0.001, 0.01, 0.1)}  # noqa: RUF012 - never changed
    trusted_types = ("retail_core.model.linear.LogisticRanker",)

    def build(self, params: Params, seed: int) -> LogisticRanker:
        """An unfitted ranker; the fit is deterministic, so `seed` is not used."""
        del seed
        arguments: dict[str, Any] = dict(params)
        return LogisticRanker(**arguments)

    def complexity(self, params: Params) -> float:
        """Always 1, below any number of leaves."""
        del params
        return 1

    def shapley_values(self, ranker: LogisticRanker, matrix: Float32Array) -> FloatArray:
        """Terms of the linear model as differences from the average row."""
        return ranker.contributions(matrix)

    def shapley_steps(self, ranker: LogisticRanker) -> int:
        """One step per column."""
        return int(ranker.n_features_in_)


FAMILY = LogisticFamily()
