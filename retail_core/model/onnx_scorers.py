"""A forest as one ONNX operator in double precision: what answers when there are only a few rows.

scikit-learn needs milliseconds to walk a forest for one row, whatever the number of rows; ONNX Runtime
a tenth of that. The operator is `TreeEnsemble` of ai.onnx.ml 5 (https://onnx.ai/onnx/operators/
onnx_aionnxml_TreeEnsemble.html), whose thresholds, sums and output can all be doubles: a row goes to
the same leaves as in scikit-learn, which compares float32 values with double thresholds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier

from retail_core.arrays import Float32Array, FloatArray
from retail_core.errors import IntegrityError
from retail_core.model.sampling import correct_prior

if TYPE_CHECKING:
    import onnx

    from retail_core.model.estimator import CalibratedRanker

Scorer = Callable[[Float32Array], FloatArray]
"""Scores of the ranker, before the prior is corrected: (rows, features) float32 to (rows,) float64."""

ENDING = ".onnx"
TOLERANCE = 1e-9
PROBED_SPLITS = 400
_ML_OPSET, _OPSET, _IR = 5, 21, 10
_AVERAGE, _LEQ = 0, 0

log = logging.getLogger(__name__)


def export_scorers(model: CalibratedRanker, folder: Path) -> list[Path]:
    """Write each policy's ranker that has such a form to `folder`, named by the policy, and compare.

    The rows compared lie on splits of the forest and one float32 above and below them, where a rounding
    would show.

    Raises:
        IntegrityError: a score differs by more than 1e-9.
    """
    written = []
    for policy, ranker in (model.rankers or {}).items():
        if isinstance(ranker, RandomForestClassifier):
            path = folder / f"{policy}{ENDING}"
            path.write_bytes(_graph(ranker).SerializeToString())
            rows = rows_at_thresholds(ranker, np.random.default_rng(0))
            answers = correct_prior(load_scorer(path)(rows), model.factor)
            _refuse_distance(float(np.max(np.abs(answers - model.raw_score(rows, policy)))))
            written.append(path)
    return written


def load_scorers(folder: Path) -> dict[str, Scorer]:
    """The scorers in a folder that `export` wrote to, by policy.

    Raises:
        IntegrityError: a file is damaged.
    """
    return {path.stem: load_scorer(path) for path in sorted(folder.glob(f"*{ENDING}"))}


def load_scorer(path: Path) -> Scorer:
    """The scorer of an exported file; it runs in the calling thread alone.

    Raises:
        IntegrityError: the file is damaged.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as refusals

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (refusals.InvalidProtobuf, refusals.InvalidGraph, refusals.Fail) as error:
        raise IntegrityError(
            f"The fast form of the model in {path} cannot be read: {error}",
            remedy="train and register it again.",
        ) from error

    def score(matrix: Float32Array) -> FloatArray:
        (scores,) = session.run(None, {"rows": matrix.astype(np.float64)})
        return np.asarray(scores[:, 0], dtype=np.float64)

    return score


def _refuse_distance(distance: float) -> None:
    if not distance <= TOLERANCE:
        raise IntegrityError(
            f"The forest in ONNX differs from its original by {distance:.2g}.",
            remedy="use the locked versions of onnx, onnxruntime and scikit-learn.",
        )


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


def _graph(forest: RandomForestClassifier) -> onnx.ModelProto:
    from onnx import TensorProto, helper

    columns = forest.n_features_in_
    node = helper.make_node("TreeEnsemble", ["rows"], ["scores"], domain="ai.onnx.ml", **_attributes(forest))
    graph = helper.make_graph(
        [node],
        "ranker",
        [helper.make_tensor_value_info("rows", TensorProto.DOUBLE, [None, columns])],
        [helper.make_tensor_value_info("scores", TensorProto.DOUBLE, [None, 1])],
    )
    versions = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    return helper.make_model(graph, opset_imports=versions, ir_version=_IR)


def _attributes(forest: RandomForestClassifier) -> dict[str, Any]:
    """The forest's arrays in the operator's layout: inner nodes and leaves are numbered apart."""
    from onnx import numpy_helper

    bought = int(np.flatnonzero(forest.classes_)[0])
    parts, roots, nodes, leaves = [], [], 0, 0
    for estimator in forest.estimators_:
        part = _tree(estimator.tree_, bought, nodes, leaves)
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


def _tree(tree: Any, bought: int, first_node: int, first_leaf: int) -> dict[str, npt.NDArray[Any]]:
    weights = tree.value[:, 0, bought]
    inner = tree.children_left >= 0
    if not inner.any():  # a lone leaf is a node both of whose sides lead to it
        one, same = np.ones(1, np.int64), np.array([first_leaf])
        return _nodes(np.zeros(1, np.int64), np.zeros(1), (one, same), (one, same), weights)
    number = np.where(inner, np.cumsum(inner) - 1 + first_node, np.cumsum(~inner) - 1 + first_leaf)
    left, right = tree.children_left[inner], tree.children_right[inner]
    sides = [((~inner[child]).astype(np.int64), number[child]) for child in (left, right)]
    return _nodes(tree.feature[inner], tree.threshold[inner], sides[0], sides[1], weights[~inner])


Side = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _nodes(
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
