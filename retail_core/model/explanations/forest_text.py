"""A scikit-learn forest in LightGBM's text format, so that one library explains trees of either make.

LightGBM computes exact TreeSHAP (Lundberg et al., Nature Machine Intelligence 2020, algorithm 2) in
compiled code, and reads models from text. The translation is exact: both compare a value with a double
threshold by `<=`, thresholds and leaves are written with all their digits, and each leaf holds its tree's
probability over the number of trees, so that the booster's raw score is the forest's mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from retail_core.schemas import POLICIES

if TYPE_CHECKING:
    from lightgbm import Booster

_NUMERICAL = 2
"""LightGBM's decision type of a plain number that is never missing; our nulls are numbers (`matrix`)."""


@lru_cache(maxsize=2 * len(POLICIES))
def as_booster(forest: RandomForestClassifier) -> Booster:
    """The fitted forest as a LightGBM booster; its raw score is the probability of class True."""
    import lightgbm

    return lightgbm.Booster(model_str=_text(forest))


def _text(forest: RandomForestClassifier) -> str:
    columns = int(forest.n_features_in_)
    bought, trees = int(np.flatnonzero(forest.classes_)[0]), len(forest.estimators_)
    head = [
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={columns - 1}",
        f"feature_names={_joined(f'f{column}' for column in range(columns))}",
        f"feature_infos={_joined(['[-inf:inf]'] * columns)}",
        "",
    ]
    parts = (
        _joined_lines(number, estimator.tree_, bought, trees)
        for number, estimator in enumerate(forest.estimators_)
    )
    return "\n".join([*head, *parts, "end of trees", ""])


def _joined_lines(number: int, tree: Any, bought: int, trees: int) -> str:
    return "\n".join([f"Tree={number}", *_tree(tree, bought, trees), "", ""])


def _tree(tree: Any, bought: int, trees: int) -> Iterator[str]:
    """One tree: inner nodes are numbered from 0, leaves from -1 down, each in scikit-learn's order.

    Rows of a node are counted as scikit-learn weighted them, a row drawn twice into the tree's sample
    twice; these counts are what TreeSHAP takes expectations with.
    """
    inner = tree.children_left >= 0
    leaves = ~inner
    name = np.where(inner, np.cumsum(inner) - 1, -np.cumsum(leaves))
    counts = np.rint(tree.weighted_n_node_samples).astype(np.int64)
    yield f"num_leaves={int(leaves.sum())}"
    yield "num_cat=0"
    if inner.any():
        yield f"split_feature={_joined(tree.feature[inner].tolist())}"
        yield f"threshold={_joined(map(repr, tree.threshold[inner].tolist()))}"
        yield f"decision_type={_joined([_NUMERICAL] * int(inner.sum()))}"
        yield f"left_child={_joined(name[tree.children_left[inner]].tolist())}"
        yield f"right_child={_joined(name[tree.children_right[inner]].tolist())}"
        yield f"internal_count={_joined(counts[inner].tolist())}"
    yield f"leaf_value={_joined(map(repr, (tree.value[leaves, 0, bought] / trees).tolist()))}"
    yield f"leaf_count={_joined(counts[leaves].tolist())}"
    yield "shrinkage=1"


def _joined(values: Iterable[object]) -> str:
    return " ".join(map(str, values))
