"""Model families: every module of this package but `protocol` defines one as `FAMILY`.

The modules are found by listing the package, so that a new family needs no entry anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from retail_core.errors import InputError
from retail_core.model.families.protocol import (
    AUTO,
    FastForm,
    ModelFamily,
    Params,
    Ranker,
    check_family,
    grid_cells,
)

__all__ = [
    "AUTO",
    "MODEL_FAMILIES",
    "FastForm",
    "ModelFamily",
    "Params",
    "Ranker",
    "RankerConfig",
    "family_of",
    "select_families",
]


def _load_families() -> Mapping[str, ModelFamily[Any]]:
    """Every family by name, the simplest first (by the smallest cell of its grid)."""
    modules = [f"{__name__}.{module.name}" for module in iter_modules(__path__) if module.name != "protocol"]
    families = [check_family(getattr(import_module(name), "FAMILY", None), name) for name in modules]
    families.sort(key=lambda family: (min(map(family.complexity, grid_cells(family.grid))), family.name))
    by_name = {family.name: family for family in families}
    if len(by_name) < len(families) or len({family.ranker_type for family in families}) < len(families):
        raise TypeError("Two model families have the same name or the same ranker_type.")
    return by_name


MODEL_FAMILIES: Mapping[str, ModelFamily[Any]] = _load_families()


@dataclass(frozen=True)
class RankerConfig:
    """A family with its parameters: all it takes to fit a ranker."""

    family: str
    params: Params

    @property
    def complexity(self) -> float:
        """See `ModelFamily.complexity`."""
        return MODEL_FAMILIES[self.family].complexity(self.params)

    @property
    def parallel_fits(self) -> int:
        """See `ModelFamily.parallel_fits`."""
        return MODEL_FAMILIES[self.family].parallel_fits

    def build(self, seed: int) -> Ranker:
        """An unfitted ranker."""
        ranker: Ranker = MODEL_FAMILIES[self.family].build(self.params, seed)
        return ranker

    def for_cross_fit(self) -> RankerConfig:
        """The same family with the parameters used for cross-fitting."""
        return RankerConfig(self.family, MODEL_FAMILIES[self.family].cross_fit_params(self.params))


def family_of(ranker: Ranker) -> ModelFamily[Any]:
    """The family whose `ranker_type` the ranker is an instance of.

    Raises:
        InputError: there is none.
    """
    for family in MODEL_FAMILIES.values():
        if isinstance(ranker, family.ranker_type):
            return family
    raise InputError(
        f"No model family of this release has rankers of type {type(ranker).__name__}.",
        remedy="train again with this release, or run the release that trained it.",
    )


def select_families(model: str) -> tuple[ModelFamily[Any], ...]:
    """The families that `--model` names: one, or all of them for `auto`.

    Raises:
        InputError: there is no such family.
    """
    if model == AUTO:
        return tuple(MODEL_FAMILIES.values())
    if model not in MODEL_FAMILIES:
        raise InputError(
            f"There is no model family {model!r}.",
            remedy=f"use one of {', '.join((AUTO, *MODEL_FAMILIES))}.",
        )
    return (MODEL_FAMILIES[model],)
