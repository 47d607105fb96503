"""Repeat the training of a version on exactly its rows, and compare; nothing is registered or promoted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from retail_core.errors import DataError, IntegrityError
from retail_core.model import procedure
from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families import RankerConfig
from retail_core.model.search import SearchResult
from retail_core.model.spec import ModelSpec
from retail_core.registry import versions as registry
from retail_core.store.lake.reader import Lake
from retail_core.store.mongo.connection import Store
from retail_core.training.past_rows import PastRows, past_rows
from retail_core.training.results import TrainingResult
from retail_core.training.software import Software
from retail_core.training.stages import Progress, evaluate_and_refit, read_training_data
from retail_core.training.training_request import TrainingRequest
from retail_core.training.version_spec import build_self_test

TOLERANCE = 1e-9
"""Largest difference of probabilities, thresholds and certified bounds that counts as equal; the self-test
of a loaded model has the same. On one machine with the same packages the difference is 0."""

FILES_DELETED = "files of the lake were deleted meanwhile, by an erasure or at the end of the retention"


@dataclass(frozen=True)
class Reproduction:
    """Result of a repeated training.

    Attributes:
        version: the version that was repeated.
        equal: whether the repeated training gives the same model.
        reason: how equal it is, or why it is not, in one line.
        origin: where the rows are from: `lake`, `mongodb`, or None.
        rows: rows of the test period whose probabilities were compared.
        max_difference: largest absolute difference of these probabilities; None where none were compared.
        tolerance: `TOLERANCE`.
        software: what is another than in the first training.
    """

    version: str
    equal: bool
    reason: str
    origin: str | None = None
    rows: int = 0
    max_difference: float | None = None
    tolerance: float = TOLERANCE
    software: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"software": list(self.software)}


def reproduce(store: Store, version: str, *, at: datetime, progress: Progress | None = None) -> Reproduction:
    """Train again on the rows of a version, with its settings, seed and parameters, and compare.

    The search is not repeated: the parameters are those that it selected.

    Args:
        store: the database; its settings name registry and lake.
        version: registry version.
        at: current time, aware.
        progress: called at the begin and end of each stage.

    Raises:
        DataError: there is no such version.
        DependencyError: MLflow or MongoDB is unreachable.
    """
    try:
        served = registry.load_version(store.settings, version)
    except IntegrityError as error:
        return Reproduction(version, False, error.message.rstrip("."))
    spec = served.spec
    if reason := _not_recorded(spec):
        return Reproduction(version, False, reason)
    software = Software.of_this_process().differences(Software.from_dict(spec.training["software"]))
    with past_rows(store, spec, at) as past:
        if past.lake is None:
            return Reproduction(version, False, past.reason, software=tuple(software))
        advance = progress or (lambda _stage, _done, _total: None)
        try:
            data, result = _train_again(store, spec, past.lake, advance)
        except Exception as error:
            is_intact = past.lake.is_intact()
            if is_intact and not isinstance(error, DataError):
                raise
            reason = f"the training fails: {error}" if is_intact else FILES_DELETED
        else:
            if past.lake.is_intact():
                return _compare(spec, served.estimator, data, result, past, software)
            reason = FILES_DELETED
    return Reproduction(version, False, reason, past.origin, software=tuple(software))


def _not_recorded(spec: ModelSpec) -> str:
    """Why a version cannot be repeated at all; empty where it can."""
    if recalibration := spec.training.get("recalibration"):
        return (
            f"version {spec.version} is version {recalibration['from']} recalibrated; only trainings are "
            f"repeated, so reproduce version {recalibration['from']}"
        )
    if not spec.data.get("tables") or not spec.training.get("request"):
        return f"version {spec.version} was trained by a release that did not record which rows it read"
    return ""


def _train_again(
    store: Store, spec: ModelSpec, lake: Lake, advance: Progress
) -> tuple[TrainingData, TrainingResult]:
    request = TrainingRequest.from_dict(spec.training["request"])
    settings = request.apply_to(store.settings)
    data = read_training_data(lake, request, spec.feature_set.task, settings, advance)
    search = _stored_search(spec)
    return data, evaluate_and_refit(data, settings.seed, search, request.goal, advance)


def _stored_search(spec: ModelSpec) -> SearchResult:
    """The result of the search, without its cells, as it is stored."""
    stored = {name: value for name, value in spec.training["search"].items() if name != "family"}
    config = RankerConfig(spec.training["family"], spec.training["best_params"])
    return SearchResult(config=config, cells=(), **stored)


def _compare(
    spec: ModelSpec,
    stored: CalibratedRanker,
    data: TrainingData,
    result: TrainingResult,
    past: PastRows,
    software: list[str],
) -> Reproduction:
    rows, difference = 0, 0.0
    differing = _differing_inputs(spec, data)
    if not differing:
        rows, difference = _largest_difference(stored, data, result)
        differing = _differing_results(spec, data, result)
        if difference > TOLERANCE:
            differing.insert(0, f"probabilities of {rows:,} test rows differ by up to {difference:.3g}")
    if differing:
        cause = "; ".join(software) or "release, packages and settings are the same: report this as a bug"
        reason = f"{'; '.join(differing)} ({cause})"
    else:
        exactly = "bit for bit" if difference == 0 else f"within {TOLERANCE:g}"
        reason = f"probabilities of {rows:,} test rows, thresholds and certificates are equal {exactly}"
    if past.reason:
        reason += f"; rows from MongoDB, because {past.reason}"
    return Reproduction(
        version=spec.version,
        equal=not differing,
        reason=reason,
        origin=past.origin,
        rows=rows,
        max_difference=difference if rows else None,
        software=tuple(software),
    )


def _differing_inputs(spec: ModelSpec, data: TrainingData) -> list[str]:
    """What is another before anything is fitted."""
    now, then = data.feature_set, spec.feature_set
    if now.hash != then.hash:
        names = sorted(set(now.columns) ^ set(then.columns))
        shown = f", such as {names[0]}" if names else ""
        return [f"another feature set: {len(now.columns)} instead of {len(then.columns)} features{shown}"]
    if not _is_close(data.split.summarize(data.labelled.rows), spec.training["periods"]):
        return ["other rows in the periods"]
    return []


def _largest_difference(
    stored: CalibratedRanker, data: TrainingData, result: TrainingResult
) -> tuple[int, float]:
    """Number of test rows, and the largest difference of their probabilities, stored and trained again."""
    rows, matrix = procedure.period_rows(data, "test")
    largest = 0.0
    for policy in data.policies:
        of_policy = matrix[rows["policy"].eq(policy).to_numpy(bool)]
        difference = result.served.model.probability(of_policy, policy) - stored.probability(
            of_policy, policy
        )
        largest = max(largest, float(np.abs(difference).max(initial=0.0)))
    return len(rows), largest


def _differing_results(spec: ModelSpec, data: TrainingData, result: TrainingResult) -> list[str]:
    in_use = {policy: points.in_use.certificate for policy, points in result.points.items()}
    pairs = {
        "features of the stored test rows": (
            build_self_test(data, result.served.model)["rows"],
            spec.self_test["rows"],
        ),
        "thresholds": (result.served.thresholds, spec.thresholds),
        "certificates": (
            {policy: certificate and certificate.to_dict() for policy, certificate in in_use.items()},
            spec.certificates,
        ),
        "metrics of the test period": (result.metrics, spec.metrics),
    }
    return [f"other {name}" for name, (now, then) in pairs.items() if not _is_close(now, then)]


def _is_close(now: Any, then: Any) -> bool:
    """Whether nested JSON values are equal, numbers within `TOLERANCE`."""
    if isinstance(now, Mapping) and isinstance(then, Mapping):
        return now.keys() == then.keys() and all(_is_close(now[name], then[name]) for name in now)
    if isinstance(now, list | tuple) and isinstance(then, list | tuple):
        return len(now) == len(then) and all(map(_is_close, now, then))
    if isinstance(now, float | int) and isinstance(then, float | int):
        return bool(np.isclose(now, then, rtol=0, atol=TOLERANCE, equal_nan=True))
    return bool(now == then)
