"""Small rankers of every model family, for tests that run over all of them."""

from __future__ import annotations

from retail_core.model.families import MODEL_FAMILIES, RankerConfig
from retail_core.model.families.protocol import grid_cells

MAX_VALUES = {"n_estimators": 30, "max_iter": 30, "max_depth": 5}
"""Largest value of parameters that make a fit slow."""


def small_config(family: str) -> RankerConfig:
    """The last of the least complex cells of the family's grid, made cheaper where that is possible."""
    cells = [RankerConfig(family, params) for params in grid_cells(MODEL_FAMILIES[family].grid)]
    smallest = min(reversed(cells), key=lambda config: config.complexity)
    params = {name: min(value, MAX_VALUES.get(name, value)) for name, value in smallest.params.items()}
    return RankerConfig(family, params)
