"""Specification of a model version: inputs, thresholds, metrics and provenance, stored as `spec.json`.

Keys of the JSON are persisted with every version: never rename a field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from retail_core import __version__
from retail_core.errors import InputError, IntegrityError
from retail_core.features.feature_set import FeatureSet
from retail_core.times import iso, parse_instant

FORMAT = 1
"""Raised by a release whose specs earlier ones would misread. Specs without one are of release 0.1.0."""


@dataclass(frozen=True)
class ModelSpec:
    """Specification of a model version, stored as JSON in the model's folder.

    Attributes:
        version: registry version; "" until registered.
        run_id: MLflow run with parameters, metrics, plots and the evaluation model.
        trained_at: start of the run, UTC.
        feature_set: input features; the stored hash is compared on reading.
        policies: cut-off policies it is calibrated for, the primary one first.
        thresholds: by policy: `f1` (will_purchase), `recall`, `no-miss` and `contact` (the one in use).
        certificates: by policy: target, confidence, lower_bound, threshold, buyers, missed; or None.
        reasons: by policy: why there is no certificate; or None.
        metrics: by policy: metrics of the evaluation model on the test period, with population and period.
        evaluation: by policy: `intervals` of the metrics, `segments`, `days` and `rules` on the same rows.
        reference: f1 (at `f1`), recall, false_positive_rate, base_rate, n, positives of the primary policy.
        data: as_of (ISO 8601; where the log ended, if it did before), labelled rows, and of the lake
            before the as_of asked for: events, data_hash, last_event. `tables`, if recorded: by name of the
            lake's table the version that was read (`lake.table_version.TableVersion`).
        training: split, best_params, search, sampling and other facts about the fit; if recorded `request`
            and `software`, which repeat the training (`training.training_request`, `training.software`).
        certification: by policy: buyers on the scale of the served model (`threshold_transfer.BuyerScores`),
            from which the threshold of any recall follows.
        self_test: a few rows of features, and the probabilities the model must give for them by policy.
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
    evaluation: dict[str, dict[str, Any]] = field(default_factory=dict)
    certification: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    self_test: dict[str, Any] = field(default_factory=dict)
    leaky: bool = False

    @property
    def primary(self) -> str:
        """The policy whose metrics are reported as the model's."""
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
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "trained_at": iso(self.trained_at),
            "policies": list(self.policies),
            "feature_set": self.feature_set.to_dict(),
            "feature_set_hash": self.feature_set.hash,
            "certificate": self.certificate,
            "base_rate": self.base_rate,
            "format": FORMAT,
            "release": __version__,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ModelSpec:
        """Inverse of `to_dict`.

        Raises:
            InputError: a newer release has written it.
            IntegrityError: the features it was trained on are no longer defined as they were.
        """
        if content.get("format", 1) > FORMAT:
            raise InputError(
                f"Model version {content['version'] or '(unregistered)'} has spec format {content['format']} "
                f"of release {content['release']}; this is release {__version__}, which reads up to format "
                f"{FORMAT}.",
                remedy=f"install release {content['release']} or newer, or promote an older version.",
            )
        feature_set = FeatureSet.from_dict(content["feature_set"])
        if feature_set.hash != content["feature_set_hash"]:
            raise IntegrityError(
                f"Version {content['version'] or '(unregistered)'} was trained on other feature definitions "
                f"({content['feature_set_hash']}, now {feature_set.hash}).",
                remedy="train again with this release, or run the release that trained it.",
            )
        fields = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        return cls(
            **fields
            | {
                "trained_at": parse_instant(content["trained_at"]),
                "policies": tuple(content["policies"]),
                "feature_set": feature_set,
            }
        )

    def tags(self) -> dict[str, str]:
        """Tags of the registered version, for searches in MLflow."""
        recalibrated = self.training.get("recalibration")
        return {
            "data_hash": str(self.data["data_hash"]),
            "feature_set_hash": self.feature_set.hash,
            "policies": ",".join(self.policies),
            "leaky": str(self.leaky).lower(),
            "data_until": str(self.data["as_of"]),
            **({"recalibrated_from": str(recalibrated["from"])} if recalibrated else {}),
            **self._provenance_tags(),
        }

    def _provenance_tags(self) -> dict[str, str]:
        software = self.training.get("software", {})
        versions = {"release": software.get("release"), "git_commit": self.describe_commit()}
        if tables := self.data.get("tables"):
            versions["lake_versions"] = ",".join(f"{name}={tables[name]['version']}" for name in tables)
        return {name: value for name, value in versions.items() if value}

    def describe_commit(self) -> str:
        """Git commit it was trained with, and whether there were changes; empty if it was no checkout."""
        software = self.training.get("software", {})
        suffix = " with changes" if software.get("is_clean") is False else ""
        return f"{software['commit']}{suffix}" if software.get("commit") else ""

    def flat_metrics(self) -> dict[str, float]:
        """All numeric metrics; those of secondary policies have the policy as prefix."""
        flat: dict[str, float] = {}
        for policy in self.policies:
            prefix = "" if policy == self.primary else f"{policy}."
            values: dict[str, Any] = self.metrics[policy] | {
                f"threshold_{name}": value for name, value in self.thresholds[policy].items()
            }
            numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
            flat |= {f"{prefix}{name}": value for name, value in numbers.items()}
        return flat

    def summary(self) -> dict[str, Any]:
        """Plain values for a list of versions."""
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
            "recalibrated_from": self.training.get("recalibration", {}).get("from"),
            "leaky": self.leaky,
        }
