"""How a formula over features is evaluated: on arrays, as a compiled Python function, or as text.

A formula (see `formulas`) reads features through a `FormulaAlgebra` and combines them with `+ - *`,
comparisons and the algebra's own functions; null is NaN for floats. NumPy arrays (batch), Python floats
(online) and text (documentation, hash) are three algebras. Each float operation is written once, in one
order, so that the engines agree to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from retail_core.features.time_windows import FeatureWindow

Term = Any
"""The value type of an algebra: an array or a `FormulaText`."""

Formula = Callable[["FormulaAlgebra"], Term]
"""A feature computed from other features."""

CompiledFormula = Callable[[Mapping[str, float]], float]
"""A formula as a function of feature values by name."""


@dataclass(frozen=True)
class FormulaAlgebra:
    """The operations a formula may use.

    Attributes:
        get: another feature by its full name.
        windows: the windows of the prediction task, ascending; the last one is the look-back.
        div: a / b; null where b is 0 or either is null.
        where: a where the condition holds, else (also where it is null) b.
        coalesce: a, or b where a is null.
    """

    get: Callable[[str], Term]
    windows: tuple[FeatureWindow, ...]
    div: Callable[[Term, Term], Term]
    where: Callable[[Term, Term, Term], Term]
    coalesce: Callable[[Term, Term], Term]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of the windows."""
        return tuple(window.label for window in self.windows)

    def over(self, name: str, label: str) -> Term:
        """Another feature over the window of that label."""
        return self.get(f"{name}_{label}")

    def over_lookback(self, name: str) -> Term:
        """Another feature over the look-back."""
        return self.over(name, self.labels[-1])


class FormulaText:
    """A formula written as text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _join(self, sign: str, operand: object, *, swap: bool = False) -> FormulaText:
        left, right = (operand, self) if swap else (self, operand)
        return FormulaText(f"({left} {sign} {right})")

    def __str__(self) -> str:
        return self.text

    def __add__(self, operand: object) -> FormulaText:
        return self._join("+", operand)

    def __radd__(self, operand: object) -> FormulaText:
        return self._join("+", operand, swap=True)

    def __sub__(self, operand: object) -> FormulaText:
        return self._join("-", operand)

    def __mul__(self, operand: object) -> FormulaText:
        return self._join("*", operand)

    def __rmul__(self, operand: object) -> FormulaText:
        return self._join("*", operand, swap=True)

    def __lt__(self, operand: object) -> FormulaText:
        return self._join("<", operand)

    def __gt__(self, operand: object) -> FormulaText:
        return self._join(">", operand)

    def __ge__(self, operand: object) -> FormulaText:
        return self._join(">=", operand)


def text_algebra(used: list[str], windows: tuple[FeatureWindow, ...]) -> FormulaAlgebra:
    """The algebra that writes a formula as text and appends the names of the features it reads to `used`."""

    def get(name: str) -> FormulaText:
        used.append(name)
        return FormulaText(name)

    return FormulaAlgebra(
        get,
        windows,
        div=lambda a, b: FormulaText(f"({a} / {b})"),
        where=lambda condition, a, b: FormulaText(f"where({condition}, {a}, {b})"),
        coalesce=lambda a, b: FormulaText(f"coalesce({a}, {b})"),
    )


def compile_formula(formula: Formula, windows: tuple[FeatureWindow, ...]) -> CompiledFormula:
    """The formula as one Python function of the features before it, by name; null is NaN.

    Calling the formula itself on floats would build and look up every feature name anew for each user.
    """
    expression = formula(
        FormulaAlgebra(
            lambda name: FormulaText(f"of[{name!r}]"),
            windows,
            div=lambda a, b: FormulaText(f"div({a}, {b})"),
            where=lambda condition, a, b: FormulaText(f"({a} if {condition} else {b})"),
            coalesce=lambda a, b: FormulaText(f"coalesce({a}, {b})"),
        )
    )
    functions = {"div": _div, "coalesce": _coalesce, "inf": math.inf, "float": float}
    # The evaluated text was written by a formula of this package, never by a user.
    function: CompiledFormula = eval(f"lambda of: float({expression})", functions)  # nosec B307 # noqa: S307
    return function


def _div(a: float, b: float) -> float:
    return a / b if b else math.nan


def _coalesce(a: float, b: float) -> float:
    return b if math.isnan(a) else a
