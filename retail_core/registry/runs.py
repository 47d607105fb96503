"""MLflow runs of trainings: begin, end, and those that their process did not end.

Separate from `versions`, since a run may end without a version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from retail_core.registry.mlflow_session import MlflowSession, open_session
from retail_core.settings import Settings

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
DESCRIPTION_TAG, PARENT_TAG = "mlflow.note.content", "mlflow.parentRunId"


@dataclass(frozen=True)
class RunLabel:
    """How a run is shown in MLflow.

    Attributes:
        reason: why it was started.
        name: of the run; one of MLflow's own by default.
        description: Markdown.
        tags: further tags.
    """

    reason: str
    name: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingRun:
    """A run that has started; `started_ms` is the start by MLflow's clock, milliseconds since 1970 UTC."""

    run_id: str
    started_ms: int


@dataclass(frozen=True)
class RunningRun:
    """A run that MLflow has as running, with its tags."""

    run_id: str
    tags: Mapping[str, str]


@contextmanager
def training_run(settings: Settings, label: RunLabel) -> Iterator[TrainingRun]:
    """Start a run; it ends as FINISHED, as FAILED where the block raises, and as KILLED by an interruption.

    Raises:
        DependencyError: MLflow is unreachable.
    """
    tags = {**label.tags, "reason": label.reason}
    if label.description:
        tags[DESCRIPTION_TAG] = label.description
    with open_session(settings) as session:
        run = session.client.create_run(session.experiment_id, tags=tags, run_name=label.name)
    status = KILLED
    try:
        yield TrainingRun(run.info.run_id, run.info.start_time)
        status = FINISHED
    except Exception:
        status = FAILED
        raise
    finally:
        end_run(settings, run.info.run_id, status)


def end_run(settings: Settings, run_id: str, status: str) -> None:
    """End a run and those of its grid cells that are still running.

    Raises:
        DependencyError: MLflow is unreachable.
    """
    with open_session(settings) as session:
        for cell in _running(session, f"tags.`{PARENT_TAG}` = '{run_id}'"):
            session.client.set_terminated(cell.run_id, status)
        session.client.set_terminated(run_id, status)


def running_runs(settings: Settings, tag: str) -> list[RunningRun]:
    """Running runs that have a tag.

    Raises:
        DependencyError: MLflow is unreachable.
    """
    with open_session(settings) as session:
        return [run for run in _running(session) if tag in run.tags]


def version_of_run(settings: Settings, run_id: str) -> str | None:
    """The version that a run registered, or None.

    Raises:
        DependencyError: MLflow is unreachable.
    """
    with open_session(settings) as session:
        versions = list(session.client.search_model_versions(f"run_id = '{run_id}'"))
    return str(versions[0].version) if versions else None


def log_system_metrics(settings: Settings, run: TrainingRun, samples: Sequence[Mapping[str, float]]) -> None:
    """Log measurements of the machine, one step each; `seconds` of a sample are those since the run began.

    Raises:
        DependencyError: MLflow is unreachable.
    """
    from mlflow.entities import Metric

    metrics = [
        Metric(f"system/{name}", value, run.started_ms + int(sample["seconds"] * 1000), step)
        for step, sample in enumerate(samples)
        for name, value in sample.items()
        if name != "seconds"
    ]
    if metrics:
        with open_session(settings) as session:
            session.client.log_batch(run.run_id, metrics=metrics)


def _running(session: MlflowSession, condition: str = "") -> list[RunningRun]:
    conditions = " and ".join(filter(None, ("attributes.status = 'RUNNING'", condition)))
    runs = session.client.search_runs([session.experiment_id], conditions)
    return [RunningRun(run.info.run_id, dict(run.data.tags)) for run in runs]
