r"""Tree ensembles on one row: the project's forms beside converters and compilers (decision 0010).

    uv pip install --no-deps --target /some/folder \
        skl2onnx onnxmltools onnxconverter-common treelite lleaves llvmlite shap slicer numba cloudpickle
    PYTHONPATH=.:/some/folder python -m tests.benchmarks.decisions.forests

Latency is CPU time over 2,000 calls with one row of 179 features, on one thread. The difference is the
largest one to the estimator's own probability over 400 rows that lie on splits or one float32 beside them.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from retail_core.model.boosting import BoostedTrees
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families.random_forest import build_forest
from retail_core.model.forest_formats import forest_to_booster, rows_at_thresholds
from retail_core.model.onnx_scorers import export_scorers, load_scorer

Rows = npt.NDArray[np.float32]
Score = Callable[[Rows], npt.NDArray[np.float64]]
ROWS, COLUMNS, TREES, DEPTH = 20_000, 179, 200, 12


def sample() -> tuple[Rows, npt.NDArray[np.bool_]]:
    generator = np.random.default_rng(7)
    rows = generator.exponential(10, (ROWS, COLUMNS)).astype(np.float32)
    odds = rows[:, :8].sum(axis=1) / 40 - 4
    return rows, generator.random(ROWS) < 1 / (1 + np.exp(-odds))


def onnx_score(content: bytes, output: int, dtype: type) -> Score:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    outputs = [session.get_outputs()[output].name]

    def score(rows: Rows) -> npt.NDArray[np.float64]:
        (scores,) = session.run(outputs, {name: rows.astype(dtype)})
        return np.asarray(scores, dtype=np.float64).reshape(len(rows), -1)[:, -1]

    return score


def forest_project(forest: RandomForestClassifier) -> Score:
    with tempfile.TemporaryDirectory() as folder:
        (path,) = export_scorers(CalibratedRanker({"daily": forest}), Path(folder))
        return load_scorer(path)


def forest_skl2onnx(forest: RandomForestClassifier, *, double: bool) -> Score:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if double else FloatTensorType
    shape = [("rows", kind([None, COLUMNS]))]
    model = to_onnx(
        forest, initial_types=shape, options={"zipmap": False}, target_opset={"": 18, "ai.onnx.ml": 3}
    )
    return onnx_score(model.SerializeToString(), 1, np.float64 if double else np.float32)


def forest_treelite(forest: RandomForestClassifier) -> Score:
    import treelite

    model = treelite.sklearn.import_model(forest)
    return lambda rows: treelite.gtil.predict(model, rows, nthread=1).reshape(len(rows), -1)[:, -1]


def boosted_onnxmltools(trees: BoostedTrees) -> Score:
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    shape = [("rows", FloatTensorType([None, COLUMNS]))]
    model = convert_lightgbm(trees.booster, initial_types=shape, zipmap=False, target_opset=15)
    return onnx_score(model.SerializeToString(), 1, np.float32)


def boosted_treelite(trees: BoostedTrees) -> Score:
    import treelite

    model = treelite.frontend.from_lightgbm(trees.booster)
    return lambda rows: treelite.gtil.predict(model, rows, nthread=1).reshape(len(rows), -1)[:, -1]


def boosted_lleaves(trees: BoostedTrees) -> Score:
    import lleaves

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.txt"
        path.write_text(trees.text_)
        model = lleaves.Model(model_file=str(path))
        model.compile()
        return lambda rows: np.asarray(model.predict(rows.astype(np.float64), n_jobs=1), dtype=np.float64)


def booster_splits(trees: BoostedTrees, generator: np.random.Generator) -> Rows:
    """Rows whose values are thresholds of the booster, or the float32 just above or below one."""
    frame = trees.booster.trees_to_dataframe().dropna(subset=["threshold"])
    rows = np.zeros((400, COLUMNS), dtype=np.float32)
    for name, group in frame.groupby("split_feature"):
        picked = generator.choice(group["threshold"].to_numpy(np.float64), 400).astype(np.float32)
        side = generator.choice(np.array([-np.inf, 0.0, np.inf], dtype=np.float32), 400)
        rows[:, int(name.removeprefix("Column_"))] = np.where(
            side == 0, picked, np.nextafter(picked, side, dtype=np.float32)
        )
    return rows


def compare(title: str, make: Callable[[], Score], rows: Rows, expected: npt.NDArray[np.float64]) -> None:
    started = time.perf_counter()
    try:
        score = make()
        built = time.perf_counter() - started
        difference = float(np.max(np.abs(score(rows) - expected)))
    except Exception as error:  # noqa: BLE001 - that a converter fails is the finding
        print(f"{title:36} fails: {type(error).__name__}: {str(error).splitlines()[0][:140]}")
        return
    seconds = []
    for call in range(2_000):
        row = rows[call % len(rows) :][:1]
        started = time.thread_time()
        score(row)
        seconds.append(time.thread_time() - started)
    low, high = (np.percentile(seconds, share) * 1e3 for share in (50, 99))
    print(
        f"{title:36} p50 {low:.3f} ms, p99 {high:.3f} ms, difference {difference:.1e}, made in {built:.1f} s"
    )


def main() -> None:
    warnings.simplefilter("ignore")
    os.environ["OMP_NUM_THREADS"] = "1"
    rows, bought = sample()
    forest = build_forest(trees=TREES, depth=DEPTH, leaf=20, seed=7).fit(rows, bought)
    forest.set_params(n_jobs=1)
    probes = rows_at_thresholds(forest, np.random.default_rng(1))
    expected = forest.predict_proba(probes)[:, 1]
    compare("forest: scikit-learn", lambda: lambda x: forest.predict_proba(x)[:, 1], probes, expected)
    compare("forest: TreeEnsemble operator, double", lambda: forest_project(forest), probes, expected)
    compare("forest: skl2onnx, float", lambda: forest_skl2onnx(forest, double=False), probes, expected)
    compare("forest: skl2onnx, double", lambda: forest_skl2onnx(forest, double=True), probes, expected)
    compare("forest: treelite", lambda: forest_treelite(forest), probes, expected)
    trees = BoostedTrees(n_estimators=300, max_depth=5).fit(rows, bought)
    probes = booster_splits(trees, np.random.default_rng(1))
    expected = trees.predict_proba(probes)[:, 1]
    compare(
        "LightGBM: its booster, from text", lambda: lambda x: trees.predict_proba(x)[:, 1], probes, expected
    )
    compare("LightGBM: onnxmltools, float", lambda: boosted_onnxmltools(trees), probes, expected)
    compare("LightGBM: treelite", lambda: boosted_treelite(trees), probes, expected)
    compare("LightGBM: lleaves", lambda: boosted_lleaves(trees), probes, expected)
    boosted = HistGradientBoostingClassifier(max_iter=300, max_depth=5).fit(rows, bought)
    expected = boosted.predict_proba(probes)[:, 1]
    compare(
        "HistGradientBoosting: scikit-learn",
        lambda: lambda x: boosted.predict_proba(x)[:, 1],
        probes,
        expected,
    )
    compare(
        "HistGradientBoosting: skl2onnx", lambda: forest_skl2onnx(boosted, double=False), probes, expected
    )
    compare("HistGradientBoosting: treelite", lambda: forest_treelite(boosted), probes, expected)
    explain(forest, rows[:50])


def explain(forest: RandomForestClassifier, rows: Rows) -> None:
    """TreeSHAP of a forest through LightGBM's text format, and by the shap library."""

    started = time.perf_counter()
    booster = forest_to_booster(forest)
    built = time.perf_counter()
    contributions = np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1))
    print(
        f"TreeSHAP: LightGBM text form, made in {built - started:.1f} s,"
        f" {len(rows)} rows {time.perf_counter() - built:.2f} s"
    )
    started = time.perf_counter()
    import shap

    imported = time.perf_counter()
    explainer = shap.TreeExplainer(forest, feature_perturbation="tree_path_dependent")
    constructed = time.perf_counter()
    values = explainer.shap_values(rows, check_additivity=False)[:, :, 1]
    print(
        f"TreeSHAP: shap, imported in {imported - started:.1f} s, made in {constructed - imported:.1f} s,"
        f" {len(rows)} rows {time.perf_counter() - constructed:.2f} s,"
        f" difference {np.max(np.abs(values - contributions[:, :-1])):.1e}"
    )


if __name__ == "__main__":
    main()
