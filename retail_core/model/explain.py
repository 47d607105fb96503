"""Why a user got a probability: exact Shapley values of the ranker, and the largest of them in plain words.

Trees are explained by LightGBM's exact TreeSHAP (Lundberg et al., Nature Machine Intelligence 2020), a
forest after its translation (`forest_text`); a line by its terms. Values are in the ranker's own coin (log
odds; for a forest the probability before calibration); calibration keeps their order and signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from retail_core.errors import InputError
from retail_core.features.definitions import FeatureSet, expand
from retail_core.features.kinds import Entry, Feature
from retail_core.model.boosting import BoostedTrees
from retail_core.model.estimator import Features, Ranker, to_matrix
from retail_core.model.forest_text import as_booster
from retail_core.model.linear import LogisticRanker
from retail_core.model.matrix import MISSING, Matrix
from retail_core.model.sampling import Floats

if TYPE_CHECKING:
    from lightgbm import Booster

    from retail_core.model.estimator import CalibratedRanker

MOST_REASONS = 3
ROWS = 2_000
"""Rows that a global picture is made of, where they can be afforded."""

GLOBAL_WORK = 3e9
"""Steps spent on it; a core makes some 200 million a second."""

ROWS_FOR_TWO_THREADS = 32

_CART = {"cart_count", "cart_oldest_hours", "cart_newest_hours"}


def contributions(model: CalibratedRanker, features: Features) -> Floats:
    """Exact Shapley values, shape (rows, features): how each feature moves each row from the average.

    Raises:
        InputError: the model has no ranker.
    """
    return _shapley(_ranker(model), to_matrix(features))


def affordable_rows(model: CalibratedRanker, work: float) -> int:
    """How many rows `contributions` explains within so many steps; at least one.

    A row costs TreeSHAP the leaves of all trees times the square of their depth: 0.2 million steps for
    300 trees of depth 5, 30 million for a forest of 200 deep ones.

    Raises:
        InputError: the model has no ranker.
    """
    ranker = _ranker(model)
    if isinstance(ranker, RandomForestClassifier):
        trees = [one.tree_ for one in ranker.estimators_]
        row = sum(tree.n_leaves * max(tree.max_depth, 1) ** 2 for tree in trees)
    elif isinstance(ranker, BoostedTrees):
        row = ranker.booster.num_trees() * 2**ranker.max_depth * ranker.max_depth**2
    else:
        row = ranker.n_features_in_
    return max(1, int(work / max(row, 1)))


def reasons(
    model: CalibratedRanker, feature_set: FeatureSet, features: Features, most: int = MOST_REASONS
) -> list[list[str]]:
    """For each row what speaks for a purchase, most important first, at most `most` sentences.

    Args:
        model: whose answer is explained.
        feature_set: names the columns of `features`.
        features: shape (rows, features).
        most: sentences a row; fewer where fewer features speak for it.

    Returns:
        Like "3 items in the cart for 5 h" or "Since the last `view_item`: 2 h"; with units, without values
        that are unknown.
    """
    matrix = to_matrix(features)
    return [
        _sentences(feature_set, row, values, most)
        for row, values in zip(matrix, contributions(model, matrix), strict=True)
    ]


def global_importance(model: CalibratedRanker, features: Features) -> Floats:
    """Mean size of the Shapley values by feature over the rows, as a share; sums to one."""
    sizes = np.abs(contributions(model, features)).mean(axis=0)
    return np.asarray(sizes / max(float(sizes.sum()), 1e-12), dtype=np.float64)


def ranked_importance(
    model: CalibratedRanker, columns: Sequence[str], features: Features
) -> list[tuple[str, float]]:
    """Features with their `global_importance` over some of the rows, largest first."""
    matrix = to_matrix(features)
    most = min(ROWS, affordable_rows(model, GLOBAL_WORK), len(matrix))
    chosen = np.unique(np.linspace(0, len(matrix) - 1, most).astype(int))
    shares = global_importance(model, matrix[chosen])
    return sorted(zip(columns, shares.tolist(), strict=True), key=lambda pair: -pair[1])


def _ranker(model: CalibratedRanker) -> Ranker:
    if model.ranker is None:
        raise InputError("The model has no ranker.", remedy="give it one before asking it.")
    return model.ranker


def _shapley(ranker: Ranker, matrix: Matrix) -> Floats:
    if isinstance(ranker, LogisticRanker):
        return ranker.contributions(matrix)
    booster: Booster = ranker.booster if isinstance(ranker, BoostedTrees) else as_booster(ranker)
    threads = 2 if len(matrix) >= ROWS_FOR_TWO_THREADS else 1
    values = np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=threads), dtype=np.float64)
    return values[:, :-1]


def _sentences(feature_set: FeatureSet, row: Matrix, values: Floats, most: int) -> list[str]:
    columns = feature_set.columns
    known = expand(feature_set.question)
    named = dict(zip(columns, row.tolist(), strict=True))
    found: dict[str, None] = {}
    told: set[str] = set()
    for place in np.argsort(-values, kind="stable"):
        name = columns[place]
        if values[place] <= 0 or len(found) == most:
            break
        topic = "cart" if name in _CART else known[name].entry.name if name in known else name
        if named[name] == MISSING or topic in told:
            continue
        told.add(topic)
        found[_cart(named) if topic == "cart" else _words(name, known.get(name), named[name])] = None
    return list(found)


def _cart(named: dict[str, float]) -> str:
    count, age = named.get("cart_count"), named.get("cart_oldest_hours", float(MISSING))
    if not count:
        return "Nothing in the cart" if count == 0 else "Something in the cart"
    items = f"{count:g} {'item' if count == 1 else 'items'} in the cart"
    return items if age == MISSING else f"{items} for {_hours(age)}"


def _words(name: str, feature: Feature | None, value: float) -> str:
    """A feature with its value: its meaning from the list, the window, and the unit."""
    if feature is None:
        return f"{name.removeprefix('attr_').replace('=', ' is ')}: {value:g}".replace(": 1", "")
    entry = feature.entry
    window = f" in the last {feature.window.label}" if feature.window and entry.over else ""
    return f"{entry.meaning.rstrip('.')}{window}: {_with_unit(entry, value)}"


def _with_unit(entry: Entry, value: float) -> str:
    if entry.unit == "hours":
        return _hours(value)
    if entry.unit == "minor units":
        return f"{value / 100:,.2f}"
    if entry.unit == "flag":
        return "yes" if value else "no"
    if entry.unit == "share":
        return f"{value:.0%}"
    if entry.unit in {"ratio", "score"} or entry.unit.startswith("0"):
        return f"{value:.3g}"
    return f"{value:.3g} {entry.unit.removesuffix('s') if value == 1 else entry.unit}"


def _hours(value: float) -> str:
    if value < 1:
        return f"{value * 60:.0f} min"
    return f"{value:.0f} h" if value < 72 else f"{value / 24:.0f} days"
