"""The families a model may be of, and what is searched of each. The simplest first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.ensemble import RandomForestClassifier

from retail_core.errors import InputError
from retail_core.model.boosting import BoostedTrees
from retail_core.model.estimator import Ranker, build_forest
from retail_core.model.linear import LogisticRanker

log = logging.getLogger(__name__)

AUTO, LOGISTIC, BOOSTED, FOREST = "auto", "logistic", "lightgbm", "rf"
CROSS_FIT_TREES = 100
"""The forests that only serve to calibrate are three, and more trees hardly move a calibrator."""

Params = Mapping[str, float]


@dataclass(frozen=True)
class Family:
    """One kind of ranker; `name` as `--model` takes it, `grid` the values tried of each parameter."""

    name: str
    title: str
    grid: Mapping[str, tuple[float, ...]]


FAMILIES: Mapping[str, Family] = {
    LOGISTIC: Family(LOGISTIC, "logistic regression", {"C": (0.001, 0.01, 0.1)}),
    BOOSTED: Family(
        BOOSTED, "LightGBM", {"n_estimators": (100, 300), "max_depth": (3, 5), "min_samples_leaf": (80,)}
    ),
    FOREST: Family(
        FOREST,
        "random forest",
        {"n_estimators": (100, 200), "max_depth": (8, 14), "min_samples_leaf": (5, 20)},
    ),
}


@dataclass(frozen=True)
class RankerConfig:
    """A family with its parameters: all it takes to fit a ranker."""

    family: str
    params: Params

    @property
    def title(self) -> str:
        """The family, for people."""
        return FAMILIES[self.family].title

    @property
    def size(self) -> float:
        """At most so many leaves, or 1 for a line: what "simplest" means among equals."""
        return self.params.get("n_estimators", 1) * 2 ** self.params.get("max_depth", 0)

    def build(self, seed: int) -> Ranker:
        """An unfitted ranker as it is served."""
        params: dict[str, Any] = dict(self.params)
        if self.family == LOGISTIC:
            return LogisticRanker(**params)
        if self.family == BOOSTED:
            return BoostedTrees(**params, random_state=seed)
        names = {"n_estimators": "trees", "max_depth": "depth", "min_samples_leaf": "leaf"}
        return build_forest(**{names[name]: value for name, value in params.items()}, seed=seed)

    @property
    def fits_at_once(self) -> int:
        """How many fits run side by side: boosted trees keep to one thread, the others take what there is."""
        return fits_at_once(self.family)

    def for_cross_fit(self) -> RankerConfig:
        """The same, lighter where lighter serves as well."""
        if self.family != FOREST:
            return self
        trees = min(self.params["n_estimators"], CROSS_FIT_TREES)
        return RankerConfig(FOREST, {**self.params, "n_estimators": trees})


def fits_at_once(family: str) -> int:
    """See `Choice.fits_at_once`."""
    return 2 if family == BOOSTED else 1


def select_families(model: str) -> tuple[Family, ...]:
    """The families that `--model` asks for: one by name, or all of them (`auto`).

    Raises:
        InputError: there is no such family.
    """
    if model == AUTO:
        return tuple(FAMILIES.values())
    if model not in FAMILIES:
        raise InputError(
            f"There is no model family {model!r}.", remedy=f"use one of {', '.join((AUTO, *FAMILIES))}."
        )
    return (FAMILIES[model],)


def for_search(family: Family, seed: int) -> tuple[Any, str]:
    """An estimator that the grid is tried on, and its engine: forests are grown by the fast one."""
    if family.name == LOGISTIC:
        return LogisticRanker(), "scikit-learn"
    if family.name == BOOSTED:
        return BoostedTrees(random_state=seed), "lightgbm"
    forest, engine = _fast_forest()
    return forest(random_state=seed, n_jobs=2), engine


def _fast_forest() -> tuple[Callable[..., RandomForestClassifier], str]:
    """The forest of scikit-learn-intelex, or the stock one where it cannot be imported."""
    try:
        from sklearnex.ensemble import RandomForestClassifier as FastForest
    except ImportError as error:
        log.warning("scikit-learn-intelex does not run here (%s): the search takes ten times longer.", error)
        return RandomForestClassifier, "scikit-learn"
    return FastForest, "scikit-learn-intelex"
