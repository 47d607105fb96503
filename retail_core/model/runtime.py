"""A model as it is served: what it promises (`ModelSpec`) and what it answers (`ServedModel`).

Reading a model needs no MLflow: its folder holds the estimator (`model.skops`, loaded with our own
list of trusted types, not with the list the folder brings) and `extra_files/spec.json`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from retail_core.errors import DataError, InputError, IntegrityError
from retail_core.model.spec import ModelSpec

if TYPE_CHECKING:
    from retail_core.model.estimator import CalibratedRanker
    from retail_core.settings import Settings

__all__ = ["ModelSpec", "ServedModel", "load_champion", "load_path", "load_version", "read_spec"]

MODEL_FILE, SPEC_FILE, REGISTRY_FILE = "model.skops", "extra_files/spec.json", "registered_model_meta"

TRUSTED_TYPES = [
    "retail_core.model.boosting.BoostedTrees",
    "retail_core.model.calibration.Calibrator",
    "retail_core.model.estimator.CalibratedRanker",
    "retail_core.model.linear.LogisticRanker",
    "sklearn.tree._tree.Tree",
]
"""Types a stored model may contain beyond those skops trusts by itself: plain classes of ours that
hold arrays, numbers and (LightGBM) text, and scikit-learn's tree, which is rebuilt from arrays."""

SELF_TEST_TOLERANCE = 1e-9


@dataclass
class ServedModel:
    """A model that answers. The same row gives the same bits, alone or among a million."""

    spec: ModelSpec
    estimator: CalibratedRanker

    def policy(self, wanted: str) -> str:
        """`wanted` where the model is calibrated for it, else its primary policy."""
        return wanted if wanted in self.spec.policies else self.spec.primary

    def predict(self, frame: pd.DataFrame, policy: str) -> pd.DataFrame:
        """Predict for rows of features.

        Args:
            frame: the feature set's columns (others are ignored), float64, null = NaN.
            policy: cut-off policy of the rows; see `policy` for one the model does not know.

        Returns:
            probability, raw_score (float64), will_purchase, contact (bool); the index of `frame`.

        Raises:
            InputError: a feature column is missing.
        """
        columns = list(self.spec.feature_set.columns)
        if missing := [name for name in columns if name not in frame.columns]:
            raise InputError(
                f"The features lack the column {missing[0]!r} ({len(missing)} missing in all).",
                remedy="compute them with the model's own feature set.",
            )
        known = self.policy(policy)
        raw = self.estimator.raw_score(frame[columns].to_numpy(np.float64))
        probability = self.estimator.calibrate(raw, known)
        thresholds = self.spec.thresholds[known]
        return pd.DataFrame(
            {
                "probability": probability,
                "raw_score": raw,
                "will_purchase": probability >= thresholds["f1"],
                "contact": probability >= thresholds["contact"],
            },
            index=frame.index,
        )

    def self_test(self) -> None:
        """Answer the rows that were stored with the model.

        Raises:
            IntegrityError: an answer differs from the stored one by more than 1e-9.
        """
        rows = [
            [math.nan if value is None else value for value in row] for row in self.spec.self_test["rows"]
        ]
        frame = pd.DataFrame(rows, columns=list(self.spec.feature_set.columns), dtype=np.float64)
        answers = self.predict(frame, self.spec.primary)["probability"].to_numpy()
        distance = float(np.max(np.abs(answers - np.array(self.spec.self_test["probability"])), initial=0.0))
        if not distance <= SELF_TEST_TOLERANCE:
            raise IntegrityError(
                f"Version {self.spec.version} answers its own test rows {distance:.2g} away from what it did "
                "when it was trained.",
                remedy="use the locked versions of scikit-learn and numpy, or train again.",
            )


def load_champion(settings: Settings) -> ServedModel:
    """The model in production.

    Raises:
        DataError: there is none.
        DependencyError: MLflow is unreachable.
        IntegrityError: it cannot be served by this release.
    """
    from retail_core.model.registry import production_version

    version = production_version(settings)
    if version is None:
        raise DataError("There is no model in production.", remedy="run `retail train` first.")
    return load_version(settings, version)


def load_version(settings: Settings, version: str) -> ServedModel:
    """A registered version.

    Raises:
        DataError: there is no such version.
        DependencyError: MLflow is unreachable.
        IntegrityError: it cannot be served by this release.
    """
    from retail_core.model.registry import download

    return load_path(download(settings, version), version)


def load_path(path: Path, version: str | None = None) -> ServedModel:
    """A model from its local MLflow folder, self-tested; `version` where the folder does not say it.

    Raises:
        InputError: the folder holds no model of ours.
        IntegrityError: feature definitions, types or the self-test do not hold.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    spec = read_spec(path, version)
    try:
        estimator = skops.io.load(path / MODEL_FILE, trusted=TRUSTED_TYPES)
    except (OSError, UntrustedTypesFoundException) as error:
        raise IntegrityError(
            f"The model in {path} cannot be read: {error}", remedy="train and register it again."
        ) from error
    served = ServedModel(spec, estimator)
    served.self_test()
    return served


def read_spec(path: Path, version: str | None = None) -> ModelSpec:
    """The spec of the model in that MLflow folder.

    Raises:
        InputError: there is no spec.
        IntegrityError: its features are no longer defined as they were.
    """
    try:
        content = json.loads((path / SPEC_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} holds no model of this project.", remedy="give the folder of a logged purchase model."
        ) from error
    known = version or content["version"] or _registered_version(path)
    return replace(ModelSpec.from_dict(content | {"version": known}), version=known)


def _registered_version(path: Path) -> str:
    try:
        lines = (path / REGISTRY_FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    pairs = dict(line.split(":", 1) for line in lines if ":" in line)
    return pairs.get("model_version", "").strip().strip("'\"")
