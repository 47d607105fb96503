"""Exact translations of a scikit-learn forest: ONNX for fast scores, LightGBM's text for Shapley values.

Both keep double precision, so that every score is the forest's own. The ONNX operator is `TreeEnsemble` of
ai.onnx.ml 5 (https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html), whose thresholds, sums and
output are doubles. LightGBM computes exact TreeSHAP (Lundberg et al., Nature Machine Intelligence 2020,
algorithm 2) in compiled code and reads models from text. All of them compare a float32 value with a double
threshold by `<=`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier

from retail_core.arrays import Float32Array, FloatArray
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


@lru_cache(maxsize=2 * len(POLICIES))
def forest_to_booster(forest: RandomForestClassifier) -> Booster:
    """The fitted forest as a LightGBM booster; its raw score is the probability of class True.

    Thresholds and leaves are written with all their digits, and each leaf holds its tree's probability
    divided by the number of trees, so that the booster's sum is the forest's mean.
    """
    import lightgbm

    return lightgbm.Booster(model_str=_lightgbm_text(forest))


def tree_shapley_values(booster: Booster, matrix: Float32Array) -> FloatArray:
    """Exact Shapley values of a booster's raw score, shape (rows, features)."""
    threads = 2 if len(matrix) >= ROWS_FOR_TWO_THREADS else 1
    values = np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=threads), dtype=np.float64)
    return values[:, :-1]


def rows_at_thresholds(forest: RandomForestClassifier, generator: np.random.Generator) -> Float32Array:
    """Rows whose values are splits of the forest, or the float32 just above or below one."""
    inner = [tree.tree_ for tree in forest.estimators_]
    features = np.concatenate([tree.feature[tree.feature >= 0] for tree in inner])
    splits = np.concatenate([tree.threshold[tree.feature >= 0] for tree in inner]).astype(np.float32)
    rows = np.zeros((PROBED_SPLITS, forest.n_features_in_), dtype=np.float32)
    for feature in np.unique(features):
        known = splits[features == feature]
        chosen = generator.choice(known, PROBED_SPLITS)
        away = generator.choice(np.array([-np.inf, 0.0, np.inf], dtype=np.float32), PROBED_SPLITS)
        rows[:, feature] = np.where(away == 0, chosen, np.nextafter(chosen, away, dtype=np.float32))
    return rows


def _onnx_graph(forest: RandomForestClassifier) -> onnx.ModelProto:
    from onnx import TensorProto, helper

    columns = forest.n_features_in_
    node = helper.make_node(
        "TreeEnsemble", ["rows"], ["scores"], domain="ai.onnx.ml", **_onnx_attributes(forest)
    )
    graph = helper.make_graph(
        [node],
        "ranker",
        [helper.make_tensor_value_info("rows", TensorProto.DOUBLE, [None, columns])],
        [helper.make_tensor_value_info("scores", TensorProto.DOUBLE, [None, 1])],
    )
    versions = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    return helper.make_model(graph, opset_imports=versions, ir_version=_IR)


def _onnx_attributes(forest: RandomForestClassifier) -> dict[str, Any]:
    """The forest's arrays in the operator's layout: inner nodes and leaves are numbered apart."""
    from onnx import numpy_helper

    bought = int(np.flatnonzero(forest.classes_)[0])
    parts, roots, nodes, leaves = [], [], 0, 0
    for estimator in forest.estimators_:
        part = _onnx_tree(estimator.tree_, bought, nodes, leaves)
        parts.append(part)
        roots.append(nodes)
        nodes, leaves = nodes + len(part["nodes_splits"]), leaves + len(part["leaf_weights"])
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
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
    if not inner.any():  # a lone leaf is a node both of whose sides lead to it
        one, same = np.ones(1, np.int64), np.array([first_leaf])
        return _onnx_nodes(np.zeros(1, np.int64), np.zeros(1), (one, same), (one, same), weights)
    number = np.where(inner, np.cumsum(inner) - 1 + first_node, np.cumsum(~inner) - 1 + first_leaf)
    left, right = tree.children_left[inner], tree.children_right[inner]
    sides = [((~inner[child]).astype(np.int64), number[child]) for child in (left, right)]
    return _onnx_nodes(tree.feature[inner], tree.threshold[inner], sides[0], sides[1], weights[~inner])


Side = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _onnx_nodes(
    features: npt.NDArray[np.int64], splits: FloatArray, true: Side, false: Side, weights: FloatArray
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


def _lightgbm_text(forest: RandomForestClassifier) -> str:
    columns = int(forest.n_features_in_)
    bought, trees = int(np.flatnonzero(forest.classes_)[0]), len(forest.estimators_)
    head = [
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={columns - 1}",
        f"feature_names={_join(f'f{column}' for column in range(columns))}",
        f"feature_infos={_join(['[-inf:inf]'] * columns)}",
        "",
    ]
    trees_text = (
        _tree_block(number, estimator.tree_, bought, trees)
        for number, estimator in enumerate(forest.estimators_)
    )
    return "\n".join([*head, *trees_text, "end of trees", ""])


def _tree_block(number: int, tree: Any, bought: int, trees: int) -> str:
    return "\n".join([f"Tree={number}", *_tree_lines(tree, bought, trees), "", ""])


def _tree_lines(tree: Any, bought: int, trees: int) -> Iterator[str]:
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
        yield f"split_feature={_join(tree.feature[inner].tolist())}"
        yield f"threshold={_join(map(repr, tree.threshold[inner].tolist()))}"
        yield f"decision_type={_join([_NUMERICAL] * int(inner.sum()))}"
        yield f"left_child={_join(name[tree.children_left[inner]].tolist())}"
        yield f"right_child={_join(name[tree.children_right[inner]].tolist())}"
        yield f"internal_count={_join(counts[inner].tolist())}"
    yield f"leaf_value={_join(map(repr, (tree.value[leaves, 0, bought] / trees).tolist()))}"
    yield f"leaf_count={_join(counts[leaves].tolist())}"
    yield "shrinkage=1"


def _join(values: Iterable[object]) -> str:
    return " ".join(map(str, values))
