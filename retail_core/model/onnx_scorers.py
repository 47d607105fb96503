"""Fast forms of rankers: ONNX models that score a few rows, stored beside the model.

A family has one if `ModelFamily.fast_form` returns it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retail_core.arrays import Float32Array, FloatArray
from retail_core.errors import IntegrityError
from retail_core.model.families import family_of
from retail_core.model.sampling import correct_prior

if TYPE_CHECKING:
    from retail_core.model.estimator import CalibratedRanker

Scorer = Callable[[Float32Array], FloatArray]
"""Scores of a ranker before the prior correction: shape (rows, features) to (rows,)."""

ENDING = ".onnx"
TOLERANCE = 1e-9


def export_scorers(model: CalibratedRanker, folder: Path) -> list[Path]:
    """Write the fast form of each policy's ranker that has one to `folder`, and compare it with the ranker.

    Returns:
        The files, named by the policy.

    Raises:
        IntegrityError: a score on the form's test rows differs by more than 1e-9.
    """
    scorer_files = []
    for policy, ranker in (model.rankers or {}).items():
        form = family_of(ranker).fast_form(ranker)
        if form is None:
            continue
        path = folder / f"{policy}{ENDING}"
        path.write_bytes(form.onnx)
        scores = correct_prior(load_scorer(path)(form.test_rows), model.factor)
        _refuse_difference(float(np.max(np.abs(scores - model.raw_score(form.test_rows, policy)))))
        scorer_files.append(path)
    return scorer_files


def load_scorers(folder: Path) -> dict[str, Scorer]:
    """The scorers in a folder that `export_scorers` wrote to, by policy.

    Raises:
        IntegrityError: a file is damaged.
    """
    return {path.stem: load_scorer(path) for path in sorted(folder.glob(f"*{ENDING}"))}


def load_scorer(path: Path) -> Scorer:
    """The scorer of an exported file; it uses the calling thread only.

    Raises:
        IntegrityError: the file is damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no other common class
        reason = str(error).partition("\n")[0].rstrip(".")
        raise IntegrityError(
            f"The fast form of the model in {path} cannot be read: {reason}.",
            remedy="train and register it again.",
        ) from error

    def score(matrix: Float32Array) -> FloatArray:
        (scores,) = session.run(None, {"rows": matrix.astype(np.float64)})
        return np.asarray(scores[:, 0], dtype=np.float64)

    return score


def _refuse_difference(difference: float) -> None:
    if not difference <= TOLERANCE:
        raise IntegrityError(
            f"The ONNX form of a ranker differs from the ranker by {difference:.2g}.",
            remedy="use the locked versions of onnx, onnxruntime and scikit-learn.",
        )
