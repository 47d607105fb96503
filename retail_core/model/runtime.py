"""A model as it is served: what it promises (`ModelSpec`) and what it answers (`ServedModel`).

Reading a model needs no MLflow: its folder holds the estimator (`model.skops`, loaded with our own
list of trusted types, not with the list the folder brings) and `extra_files/spec.json`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from retail_core.errors import DataError, InputError, IntegrityError
from retail_core.features.definitions import FeatureSet
from retail_core.times import iso, parse_instant

if TYPE_CHECKING:
    from retail_core.model.estimator import CalibratedRanker
    from retail_core.settings import Settings

MODEL_FILE, SPEC_FILE, REGISTRY_FILE = "model.skops", "extra_files/spec.json", "registered_model_meta"

TRUSTED_TYPES = [
    "retail_core.model.calibration.Calibrator",
    "retail_core.model.estimator.CalibratedRanker",
    "sklearn.tree._tree.Tree",
]
"""Types a stored model may contain beyond those skops trusts by itself: two plain classes of ours that
hold arrays and numbers, and scikit-learn's tree, which is rebuilt from arrays."""

SELF_TEST_TOLERANCE = 1e-9


@dataclass(frozen=True)
class ModelSpec:
    """What is known of a model version; travels as JSON inside the model's folder.

    Attributes:
        version: registry version; "" until registered.
        run_id: MLflow run that holds parameters, metrics, plots and the evaluation model.
        trained_at: when its run began, UTC.
        feature_set: its inputs; the stored hash is compared on reading.
        policies: cut-off policies it is calibrated for, the primary one first.
        thresholds: by policy: `f1` (will_purchase), `recall`, `no-miss` and `contact` (the one in use).
        certificates: by policy: target, confidence, lower_bound, threshold, buyers, missed; or None.
        reasons: by policy: why there is no certificate; or None.
        metrics: by policy: of the procedure on the test period, with population and period.
        reference: f1 (at `f1`), recall, false_positive_rate, base_rate, n, positives of the primary policy.
        data: rows, events (in the lake at training), data_hash, last_event and as_of (ISO 8601).
        training: split, best_params, search, sampling and whatever else explains the fit.
        self_test: a few rows of features with the probabilities they must give.
        leaky: whether a leaking column was allowed; such a version is never promoted.
    """

    version: str
    run_id: str
    trained_at: datetime
    feature_set: FeatureSet
    policies: tuple[str, ...]
    thresholds: dict[str, dict[str, float]]
    certificates: dict[str, dict[str, Any] | None]
    reasons: dict[str, str | None]
    metrics: dict[str, dict[str, Any]]
    reference: dict[str, float]
    data: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    self_test: dict[str, Any] = field(default_factory=dict)
    leaky: bool = False

    @property
    def primary(self) -> str:
        """The policy whose metrics stand for the model."""
        return self.policies[0]

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The primary policy's certificate of recall, or None."""
        return self.certificates[self.primary]

    @property
    def base_rate(self) -> float:
        """Share of buyers among the primary policy's test rows."""
        return float(self.metrics[self.primary]["base_rate"])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = {
            name: asdict(self)[name] for name in self.__dataclass_fields__ if name not in {"feature_set"}
        }
        return values | {
            "trained_at": iso(self.trained_at),
            "policies": list(self.policies),
            "feature_set": self.feature_set.to_dict(),
            "feature_set_hash": self.feature_set.hash,
            "certificate": self.certificate,
            "base_rate": self.base_rate,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ModelSpec:
        """Back from `to_dict`.

        Raises:
            IntegrityError: the features it was trained on are no longer defined as they were.
        """
        feature_set = FeatureSet.from_dict(content["feature_set"])
        if feature_set.hash != content["feature_set_hash"]:
            raise IntegrityError(
                f"Version {content['version'] or '(unregistered)'} was trained on other feature definitions "
                f"({content['feature_set_hash']}, now {feature_set.hash}).",
                remedy="train again with this release, or run the release that trained it.",
            )
        kept = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        return cls(
            **kept
            | {
                "trained_at": parse_instant(content["trained_at"]),
                "policies": tuple(content["policies"]),
                "feature_set": feature_set,
            }
        )

    def summary(self) -> dict[str, Any]:
        """One line of a list of versions; plain values."""
        metrics = self.metrics[self.primary]
        shown = ("ap", "auc", "f1", "base_rate", "n", "positives")
        return {
            "version": self.version,
            "run_id": self.run_id,
            "trained_at": iso(self.trained_at),
            "data_until": self.data["as_of"],
            "policy": self.primary,
            **{name: metrics[name] for name in shown},
            "certified_recall": (self.certificate or {}).get("lower_bound"),
            "leaky": self.leaky,
        }


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
