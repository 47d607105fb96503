"""What a model family provides, and the check each family passes when it is loaded.

Separate from the families so that each of them is one module: the rest of the package calls only the methods
of `ModelFamily` and names no family.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Generic, Protocol, TypeVar

import numpy.typing as npt

from retail_core.arrays import BoolArray, Float32Array, FloatArray

AUTO = "auto"
"""Value of `--model` that searches every family."""

Params = Mapping[str, float]


class Ranker(Protocol):
    """A binary classifier with scikit-learn's interface; its classes are False and True."""

    @property
    def n_features_in_(self) -> int:
        """Number of columns it was fitted on."""
        ...

    @property
    def classes_(self) -> BoolArray:
        """False (does not buy) and True (buys)."""
        ...

    def fit(self, X: Float32Array, y: npt.ArrayLike) -> Any:  # noqa: N803 - scikit-learn's name
        """Fit in place on rows of `feature_matrix.to_matrix` and return itself."""
        ...

    def predict_proba(self, X: Float32Array) -> FloatArray:  # noqa: N803 - scikit-learn's name
        """Probabilities of the two classes, shape (rows, 2)."""
        ...


R = TypeVar("R", bound=Ranker)


@dataclass(frozen=True)
class FastForm:
    """A fitted ranker as an ONNX model that scores a few rows faster than the ranker itself.

    Attributes:
        onnx: serialized model; input `rows` (float64, shape (rows, features)), output `scores`
            (float64, shape (rows, 1)): the ranker's score.
        test_rows: rows on which a rounding error would change the score; both forms are compared on them.
    """

    onnx: bytes
    test_rows: Float32Array


class ModelFamily(ABC, Generic[R]):
    """One kind of ranker. Methods that are not abstract have a default that suits most families.

    Attributes:
        name: value of `--model`; stored with every version, so it must never change.
        title: name for people.
        ranker_type: class of the fitted rankers, by which a loaded ranker is assigned to its family.
        grid: values that the search tries, by parameter of the ranker.
        trusted_types: import paths of the classes that a stored ranker contains and that skops does not
            trust by itself.
        requirements: distributions that a stored ranker needs besides those of the product's core.
        parallel_fits: fits that the search and the refit run side by side; 1 where a fit uses all cores.
        score_threads: threads that score blocks of rows side by side.
    """

    name: str
    title: str
    ranker_type: type
    grid: Mapping[str, tuple[float, ...]]
    trusted_types: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    parallel_fits: int = 1
    score_threads: int = 1

    @abstractmethod
    def build(self, params: Params, seed: int) -> R:
        """An unfitted ranker; parameters that are not given have their defaults."""

    @abstractmethod
    def complexity(self, params: Params) -> float:
        """Size of the model, such as its number of leaves; the search prefers the smaller of equals."""

    @abstractmethod
    def shapley_values(self, ranker: R, matrix: Float32Array) -> FloatArray:
        """Exact Shapley values, shape (rows, features), in the unit in which the ranker adds up.

        Their sum over the features differs from the ranker's output by the same constant in every row.
        """

    @abstractmethod
    def shapley_steps(self, ranker: R) -> int:
        """Elementary steps that the Shapley values of one row cost; one second is about 200 million steps."""

    def score(self, ranker: R, matrix: Float32Array) -> FloatArray:
        """Probability of buying on the rows the ranker was fitted on, shape (rows,).

        A row must get the same bits alone as among other rows.
        """
        return ranker.predict_proba(matrix)[:, 1]

    def search_estimator(self, seed: int) -> tuple[Any, str]:
        """The estimator that the grid search fits, and the name of the library that does it."""
        return self.build({}, seed), "scikit-learn"

    def cross_fit_params(self, params: Params) -> Params:
        """Parameters of the rankers that only serve to calibrate; may be cheaper than `params`."""
        return params

    def fast_form(self, ranker: R) -> FastForm | None:
        """ONNX model of the ranker; None where the ranker itself is fast enough for a few rows."""
        del ranker
        return None


def check_family(family: object, module: str) -> ModelFamily[Any]:
    """The `FAMILY` of a module, checked.

    Args:
        family: value of `FAMILY` in the module.
        module: named in the error.

    Raises:
        TypeError: it is no `ModelFamily`, or its declarations contradict each other.
    """
    if not isinstance(family, ModelFamily):
        raise TypeError(f"{module} must define FAMILY, an instance of a ModelFamily subclass.")
    missing = [name for name in ("name", "title", "ranker_type", "grid") if not getattr(family, name, None)]
    if missing:
        raise TypeError(f"{module}: the model family does not declare {', '.join(missing)}.")
    if family.name == AUTO:
        raise TypeError(f"{module}: {AUTO!r} means all families and cannot be the name of one.")
    for params in grid_cells(family.grid):
        ranker = family.build(params, seed=0)
        if type(ranker) is not family.ranker_type:
            raise TypeError(f"{module}: build returns {type(ranker).__name__}, not the declared ranker_type.")
        if family.complexity(params) <= 0:
            raise TypeError(f"{module}: complexity must be positive, but is not for {params}.")
    search_estimator, _ = family.search_estimator(seed=0)
    if unknown := set(family.grid) - set(search_estimator.get_params()):
        raise TypeError(f"{module}: the search estimator has no parameter {sorted(unknown)[0]!r}.")
    return family


def grid_cells(grid: Mapping[str, tuple[float, ...]]) -> list[dict[str, float]]:
    """Every combination of the grid's values."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
