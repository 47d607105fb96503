"""Exact translations of a scikit-learn forest: ONNX for fast scores, LightGBM's text for Shapley values.

Both keep double precision, so that every score is the forest's own. The ONNX operator is `TreeEnsemble` of
ai.onnx.ml 5 (https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html), whose thresholds, sums and
output are doubles. LightGBM computes exact TreeSHAP (Lundberg et al., Nature Machine Intelligence 2020,
algorithm 2) in compiled code and reads models from text. All of them compare a float32 value with a double
threshold by `<=`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier

from retail_core.arrays import BoolArray, Float32Array, FloatArray, IntArray
from retail_core.schemas import POLICIES

if TYPE_CHECKING:
    import onnx
    from lightgbm import Booster

PROBED_SPLITS = 400
"""Rows of `rows_at_thresholds`."""

ROWS_FOR_TWO_THREADS = 32

_ML_OPSET, _OPSET, _IR = 5, 21, 10
_AVERAGE, _LEQ = 0, 0
_NUMERICAL = 2
"""LightGBM's decision type of a number that is never missing; nulls are numbers here (`feature_matrix`)."""


def forest_to_onnx(forest: RandomForestClassifier) -> bytes:
    """The fitted forest as a serialized ONNX model: `rows` to `scores`, the probability of class True."""
    content: bytes = _onnx_graph(forest).SerializeToString()
    return content


@dataclass(frozen=True)
class TreeArrays:
    """One binary tree; arrays over its nodes, the root first.

    Attributes:
        left, right: child nodes; -1 for leaves.
        feature: column that an inner node compares.
        threshold: rows with a value up to it go left.
        value: output of leaves.
        rows: training rows of the node, weighted as in the fit; Shapley values take expectations over them.
    """

    left: npt.NDArray[np.integer]
    right: npt.NDArray[np.integer]
    feature: npt.NDArray[np.integer]
    threshold: FloatArray
    value: FloatArray
    rows: FloatArray


@lru_cache(maxsize=2 * len(POLICIES))
def forest_to_booster(forest: RandomForestClassifier) -> Booster:
    """The fitted forest as a LightGBM booster; its raw score is the probability of class True.

    Each leaf holds its tree's probability divided by the number of trees, so that the booster's sum is the
    forest's mean.
    """
    column, count = int(np.flatnonzero(forest.classes_)[0]), len(forest.estimators_)
    trees = [
        TreeArrays(
            tree.children_left,
            tree.children_right,
            tree.feature,
            tree.threshold,
            tree.value[:, 0, column] / count,
            tree.weighted_n_node_samples,
        )
        for tree in (estimator.tree_ for estimator in forest.estimators_)
    ]
    return trees_to_booster(trees, int(forest.n_features_in_))


def trees_to_booster(trees: Sequence[TreeArrays], column_count: int) -> Booster:
    """Trees as a LightGBM booster whose raw score is the sum of their outputs.

    Thresholds and leaf values are written with all their digits.

    Args:
        trees: at least one.
        column_count: number of feature columns.
    """
    import lightgbm

    return lightgbm.Booster(model_str=_lightgbm_text(trees, column_count))


def tree_shapley_values(booster: Booster, matrix: Float32Array) -> FloatArray:
    """Exact Shapley values of a booster's raw score, shape (rows, features)."""
    threads = 2 if len(matrix) >= ROWS_FOR_TWO_THREADS else 1
    values = np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=threads), dtype=np.float64)
    return values[:, :-1]


def rows_at_thresholds(forest: RandomForestClassifier, generator: np.random.Generator) -> Float32Array:
    """Rows whose values are thresholds of the forest, or the float32 just above or below one."""
    inner = [tree.tree_ for tree in forest.estimators_]
    features = np.concatenate([tree.feature[tree.feature >= 0] for tree in inner])
    splits = np.concatenate([tree.threshold[tree.feature >= 0] for tree in inner]).astype(np.float32)
    rows = np.zeros((PROBED_SPLITS, forest.n_features_in_), dtype=np.float32)
    for feature in np.unique(features):
        thresholds = splits[features == feature]
        sampled = generator.choice(thresholds, PROBED_SPLITS)
        direction = generator.choice(np.array([-np.inf, 0.0, np.inf], dtype=np.float32), PROBED_SPLITS)
        rows[:, feature] = np.where(
            direction == 0, sampled, np.nextafter(sampled, direction, dtype=np.float32)
        )
    return rows


def _onnx_graph(forest: RandomForestClassifier) -> onnx.ModelProto:
    from onnx import TensorProto, helper

    column_count = forest.n_features_in_
    node = helper.make_node(
        "TreeEnsemble", ["rows"], ["scores"], domain="ai.onnx.ml", **_onnx_attributes(forest)
    )
    graph = helper.make_graph(
        [node],
        "ranker",
        [helper.make_tensor_value_info("rows", TensorProto.DOUBLE, [None, column_count])],
        [helper.make_tensor_value_info("scores", TensorProto.DOUBLE, [None, 1])],
    )
    versions = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    return helper.make_model(graph, opset_imports=versions, ir_version=_IR)


def _onnx_attributes(forest: RandomForestClassifier) -> dict[str, Any]:
    """The forest's arrays in the operator's layout, with separate numbers for inner nodes and leaves."""
    from onnx import numpy_helper

    bought = int(np.flatnonzero(forest.classes_)[0])
    trees, roots, nodes, leaves = [], [], 0, 0
    for estimator in forest.estimators_:
        tree = _onnx_tree(estimator.tree_, bought, nodes, leaves)
        trees.append(tree)
        roots.append(nodes)
        nodes, leaves = nodes + len(tree["nodes_splits"]), leaves + len(tree["leaf_weights"])
    joined = {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0]}
    tensors = {
        "nodes_splits": joined.pop("nodes_splits"),
        "leaf_weights": joined.pop("leaf_weights"),
        "nodes_modes": np.full(nodes, _LEQ, dtype=np.uint8),
    }
    return {
        **{name: numpy_helper.from_array(values, name) for name, values in tensors.items()},
        **{name: values.tolist() for name, values in joined.items()},
        "leaf_targetids": [0] * leaves,
        "tree_roots": roots,
        "n_targets": 1,
        "aggregate_function": _AVERAGE,
        "post_transform": 0,
    }


def _onnx_tree(tree: Any, bought: int, first_node: int, first_leaf: int) -> dict[str, npt.NDArray[Any]]:
    weights = tree.value[:, 0, bought]
    inner = tree.children_left >= 0
    if not inner.any():  # a tree of one leaf becomes a node with that leaf on both sides
        side = np.ones(1, np.int64), np.array([first_leaf])
        return _onnx_nodes(np.zeros(1, np.int64), np.zeros(1), side, side, weights)
    number = np.where(inner, np.cumsum(inner) - 1 + first_node, np.cumsum(~inner) - 1 + first_leaf)
    left, right = tree.children_left[inner], tree.children_right[inner]
    sides = [((~inner[child]).astype(np.int64), number[child]) for child in (left, right)]
    return _onnx_nodes(tree.feature[inner], tree.threshold[inner], sides[0], sides[1], weights[~inner])


Side = tuple[IntArray, IntArray]


def _onnx_nodes(
    features: IntArray, splits: FloatArray, true: Side, false: Side, weights: FloatArray
) -> dict[str, npt.NDArray[Any]]:
    return {
        "nodes_featureids": features,
        "nodes_splits": splits,
        "nodes_trueleafs": true[0],
        "nodes_truenodeids": true[1],
        "nodes_falseleafs": false[0],
        "nodes_falsenodeids": false[1],
        "leaf_weights": weights,
    }


def _lightgbm_text(trees: Sequence[TreeArrays], column_count: int) -> str:
    head = [
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={column_count - 1}",
        f"feature_names={_join(f'f{column}' for column in range(column_count))}",
        f"feature_infos={_join(['[-inf:inf]'] * column_count)}",
        "",
    ]
    blocks = ("\n".join([f"Tree={number}", *_tree_lines(tree), "", ""]) for number, tree in enumerate(trees))
    return "\n".join([*head, *blocks, "end of trees", ""])


def _tree_lines(tree: TreeArrays) -> Iterator[str]:
    """Lines of one tree: inner nodes are numbered from 0 up and leaves from -1 down, in array order."""
    inner: BoolArray = tree.left >= 0
    leaves: BoolArray = ~inner
    number = np.where(inner, np.cumsum(inner) - 1, np.negative(np.cumsum(leaves)))
    rows = np.rint(tree.rows).astype(np.int64)
    yield f"num_leaves={int(leaves.sum())}"
    yield "num_cat=0"
    if inner.any():
        yield f"split_feature={_join(tree.feature[inner].tolist())}"
        yield f"threshold={_join(map(repr, tree.threshold[inner].tolist()))}"
        yield f"decision_type={_join([_NUMERICAL] * int(inner.sum()))}"
        yield f"left_child={_join(number[tree.left[inner]].tolist())}"
        yield f"right_child={_join(number[tree.right[inner]].tolist())}"
        yield f"internal_count={_join(rows[inner].tolist())}"
    yield f"leaf_value={_join(map(repr, tree.value[leaves].tolist()))}"
    yield f"leaf_count={_join(rows[leaves].tolist())}"
    yield "shrinkage=1"


def _join(values: Iterable[object]) -> str:
    return " ".join(map(str, values))
