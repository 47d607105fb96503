"""A model as it is served: specification, estimator and fast forms, loaded from its folder.

Loading needs no MLflow: the folder holds the estimator (`model.skops`, loaded with this release's list of
trusted types, not with the folder's), `extra_files/spec.json` and, where a policy's ranker has one, its fast
form (`onnx_scorers`).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, FloatArray
from retail_core.errors import InputError, IntegrityError
from retail_core.model.spec import ModelSpec
from retail_core.model.usual_context import UsualContext

if TYPE_CHECKING:
    from retail_core.model.estimator import CalibratedRanker
    from retail_core.model.onnx_scorers import Scorer

__all__ = ["ModelSpec", "ServedModel", "load_served_model", "read_spec"]

EXTRA_FILES = "extra_files"
MODEL_FILE, SPEC_FILE, REGISTRY_FILE = "model.skops", f"{EXTRA_FILES}/spec.json", "registered_model_meta"

_ESTIMATOR_TYPES = (
    "retail_core.model.calibration.Calibrator",
    "retail_core.model.estimator.CalibratedRanker",
)

SELF_TEST_TOLERANCE = 1e-9

MAX_ONNX_ROWS = 400
"""Up to this many rows ONNX Runtime on one thread is faster than scikit-learn on two."""

_BLOCK_ROWS = 65_536
"""Rows converted to a matrix together; with 200 features some 150 MB."""


class Predictions(NamedTuple):
    """Predictions for some rows; arrays of equal length."""

    probability: FloatArray
    raw_score: FloatArray
    will_purchase: BoolArray
    contact: BoolArray


@dataclass
class ServedModel:
    """A loaded model. A row gets the same bits alone as among other rows."""

    spec: ModelSpec
    estimator: CalibratedRanker
    scorers: dict[str, Scorer] = field(default_factory=dict)

    @cached_property
    def usual_context(self) -> UsualContext | None:
        """Values for rows without context; None where the model has no context or none are stored."""
        stored = self.spec.training.get("usual_context")
        return UsualContext.from_stored(stored, self.spec.feature_set) if stored else None

    def as_scored(self, rows: FloatArray) -> FloatArray:
        """Rows of features as the ranker gets them: with the usual context where theirs is missing."""
        usual = self.usual_context
        return rows if usual is None or rows.shape[1:] != self._width else usual.fill(rows)

    @property
    def _width(self) -> tuple[int]:
        return (len(self.spec.feature_set.columns),)

    def policy(self, requested: str) -> str:
        """The requested policy where the model is calibrated for it, else its primary policy."""
        return requested if requested in self.spec.policies else self.spec.primary

    def predict(self, frame: pd.DataFrame, policy: str, *, complete: bool = True) -> pd.DataFrame:
        """Predict for rows of features.

        Args:
            frame: the feature set's columns (others are ignored), float64, null = NaN.
            policy: cut-off policy of the rows; the primary policy replaces one the model lacks.
            complete: whether every column must be present; else a missing column is null.

        Returns:
            probability, raw_score (float64), will_purchase, contact (bool); the index of `frame`.

        Raises:
            InputError: a feature column is missing.
        """
        columns = list(self.spec.feature_set.columns)
        missing = [name for name in columns if name not in frame.columns]
        if missing and complete:
            raise InputError(
                f"The features lack the column {missing[0]!r} ({len(missing)} missing in all).",
                remedy="compute them with the model's own feature set.",
            )
        starts = range(0, max(1, len(frame)), _BLOCK_ROWS)
        blocks = (frame.iloc[start : start + _BLOCK_ROWS].reindex(columns=columns) for start in starts)
        predictions = [self.predict_rows(block.to_numpy(np.float64), policy) for block in blocks]
        joined = {
            name: np.concatenate(arrays)
            for name, arrays in zip(Predictions._fields, zip(*predictions, strict=True), strict=True)
        }
        return pd.DataFrame(joined, index=frame.index)

    def predict_rows(self, rows: FloatArray, policy: str) -> Predictions:
        """As `predict`, for an array of shape (rows, features) in the order of the feature set's columns.

        Where the whole shop context of a row is null, its usual values are used (`usual_context`).

        Raises:
            InputError: the number of columns is not the model's.
        """
        used_policy = self.policy(policy)
        raw = self._raw_score(self.as_scored(rows), used_policy)
        probability = self.estimator.calibrate(raw, used_policy)
        thresholds = self.spec.thresholds[used_policy]
        return Predictions(
            probability, raw, probability >= thresholds["f1"], probability >= thresholds["contact"]
        )

    def _raw_score(self, rows: FloatArray, policy: str) -> FloatArray:
        scorer = self.scorers.get(policy)
        if scorer is None or len(rows) > MAX_ONNX_ROWS or rows.shape[1] != self.estimator.n_features_in_:
            return self.estimator.raw_score(rows, policy)
        from retail_core.model.feature_matrix import to_matrix
        from retail_core.model.sampling import correct_prior

        return correct_prior(scorer(to_matrix(rows)), self.estimator.factor)

    def self_test(self) -> None:
        """Predict the rows that were stored with the model, for every policy, with and without fast forms.

        Raises:
            IntegrityError: a probability differs from the stored one by more than 1e-9.
        """
        rows = np.array(
            [[math.nan if value is None else value for value in row] for row in self.spec.self_test["rows"]],
            dtype=np.float64,
        )
        if missing := set(self.spec.policies) - set(self.spec.self_test["probability"]):
            raise IntegrityError(
                f"Version {self.spec.version} has no test rows for {sorted(missing)[0]}.",
                remedy="train and register it again.",
            )
        differences = [
            np.abs(model.predict_rows(rows, policy).probability - np.array(expected))
            for policy, expected in self.spec.self_test["probability"].items()
            for model in (self, replace(self, scorers={}))
        ]
        difference = float(np.max(differences, initial=0.0))
        if not difference <= SELF_TEST_TOLERANCE:
            raise IntegrityError(
                f"Version {self.spec.version} answers its own test rows {difference:.2g} away from what it "
                "did when it was trained.",
                remedy="use the locked versions of scikit-learn and numpy, or train again.",
            )


def trusted_types() -> list[str]:
    """Types that a stored model may contain besides those that skops trusts by itself.

    They are classes that hold arrays, numbers and text, and scikit-learn's tree, rebuilt from arrays.
    """
    from retail_core.model.families import MODEL_FAMILIES

    families = {name for family in MODEL_FAMILIES.values() for name in family.trusted_types}
    return sorted({*_ESTIMATOR_TYPES, *families})


def load_served_model(path: Path, version: str | None = None) -> ServedModel:
    """A self-tested model from its local MLflow folder; `version` where the folder does not state it.

    Raises:
        InputError: the folder holds no model of this project.
        IntegrityError: unknown types, changed feature definitions, or the self-test fails.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    spec = read_spec(path, version)
    try:
        estimator = skops.io.load(path / MODEL_FILE, trusted=trusted_types())
    except UntrustedTypesFoundException as error:
        raise IntegrityError(
            f"The model in {path} cannot be read: {error}", remedy="train and register it again."
        ) from error
    except Exception as error:  # skops raises whatever a damaged part makes its classes raise
        raise _damaged(path / MODEL_FILE, error) from error
    if not getattr(estimator, "rankers", None):
        raise IntegrityError(
            f"The model in {path} was stored by an earlier release.", remedy="train and register it again."
        )
    served = ServedModel(spec, estimator, _scorers(path))
    try:
        served.self_test()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path / SPEC_FILE, error) from error
    return served


def _scorers(path: Path) -> dict[str, Scorer]:
    if not any((path / EXTRA_FILES).glob("*.onnx")):
        return {}
    from retail_core.model.onnx_scorers import load_scorers

    return load_scorers(path / EXTRA_FILES)


def read_spec(path: Path, version: str | None = None) -> ModelSpec:
    """The spec of the model in that MLflow folder.

    Raises:
        InputError: there is no spec.
        IntegrityError: its feature definitions have changed.
    """
    try:
        content = json.loads((path / SPEC_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path} holds no model of this project.", remedy="give the folder of a logged purchase model."
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(path / SPEC_FILE, error) from error
    try:
        version = version or content["version"] or _registered_version(path)
        return ModelSpec.from_dict(content | {"version": version})
    except (LookupError, TypeError, ValueError, AttributeError, InputError) as error:
        raise _damaged(path / SPEC_FILE, error) from error


def _damaged(path: Path, error: Exception) -> IntegrityError:
    reason = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".")
    return IntegrityError(
        f"{path} is damaged ({reason}).", remedy="restore it from a backup, or run `retail train`."
    )


def _registered_version(path: Path) -> str:
    try:
        lines = (path / REGISTRY_FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    pairs = dict(line.split(":", 1) for line in lines if ":" in line)
    return pairs.get("model_version", "").strip().strip("'\"")
