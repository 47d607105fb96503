"""Connections to MLflow: silent, with MLflow's errors translated, and one process at a time for SQLite.

Separate from `versions`, so that the registry's operations do not repeat how MLflow has to be called.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import os
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from retail_core.errors import DependencyError, IntegrityError
from retail_core.file_locks import exclusive_lock
from retail_core.registry.artifact_locations import relocate_artifacts
from retail_core.registry.dataset_inputs import DatasetInput
from retail_core.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from retail_core.model.estimator import CalibratedRanker

T = TypeVar("T")

PROBE_SECONDS = 5.0
_SCHEMA_REMEDY = (
    "if a newer release has written it, install that release; if an older MLflow has, back it up and run "
    "`mlflow db upgrade`."
)
_FILE_REMEDY = "end what else uses it, or restore it from a backup; `retail doctor --deep` checks it."
_REMEDY = "start it with `retail up`, or correct or unset MLFLOW_TRACKING_URI."
_REFUSALS = {
    "UNAUTHENTICATED": (
        "refused the credentials",
        "correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
    ),
    "PERMISSION_DENIED": (
        "does not permit this user what the command needs",
        "give the user of MLFLOW_TRACKING_USERNAME the permission EDIT on the experiment and on the "
        "registered model of this name, or the right to create them.",
    ),
}
"""What is wrong and what to do, by MLflow's error code."""

_ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
ABSENT_OR_DENIED = _ABSENT | {"PERMISSION_DENIED"}
"""An MLflow with users denies looking up an alias of a model that does not exist yet."""


@dataclass(frozen=True)
class MlflowSession:
    """An open connection to MLflow with the experiment in use."""

    client: MlflowClient
    experiment_id: str
    model_name: str

    def find(self, query: Callable[[MlflowClient], T], *, absent: frozenset[str] = _ABSENT) -> T | None:
        """Result of a query, or None where MLflow reports that the object does not exist.

        Args:
            query: what to ask.
            absent: MLflow's error codes that mean so.
        """
        from mlflow.exceptions import MlflowException

        try:
            return query(self.client)
        except MlflowException as error:
            if error.error_code in absent:
                return None
            raise

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> None:
        """Write one batch to a run."""
        from mlflow.entities import Metric, Param, RunTag

        at = self.client.get_run(run_id).info.start_time
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, value, at, 0) for name, value in metrics.items()],
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )

    def log_datasets(self, run_id: str, inputs: Sequence[DatasetInput]) -> None:
        """Record the Delta tables that a run has read."""
        from mlflow.data.delta_dataset_source import DeltaDatasetSource
        from mlflow.entities import Dataset, InputTag
        from mlflow.entities import DatasetInput as LoggedInput

        logged = []
        for table in inputs:
            source = DeltaDatasetSource(path=table.path, delta_table_version=table.version)
            dataset = Dataset(
                table.name,
                table.digest,
                "delta_table",
                source.to_json(),
                profile=json.dumps(table.profile),
            )
            logged.append(LoggedInput(dataset, [InputTag("mlflow.data.context", "training")]))
        if logged:
            self.client.log_inputs(run_id, logged)

    def log_child(
        self,
        parent: str,
        name: str,
        *,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> None:
        """Write a finished run below another."""
        marks = {"mlflow.parentRunId": parent, "mlflow.runName": name}
        run = self.client.create_run(self.experiment_id, tags={**tags, **marks})
        self.log(run.info.run_id, params=params, metrics=metrics, tags={})
        self.client.set_terminated(run.info.run_id)

    def log_model(
        self,
        model: CalibratedRanker,
        *,
        run_id: str,
        example: pd.DataFrame,
        extra_files: Sequence[Path],
        trusted_types: list[str],
        requirements: Sequence[str],
    ) -> str:
        """Log a scikit-learn model with a float64 signature; returns its URI.

        Raises:
            IntegrityError: MLflow stored no signature.
        """
        import mlflow.sklearn
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        columns = Schema([ColSpec("double", name) for name in example.columns])
        with self._active_run(run_id):
            info = mlflow.sklearn.log_model(
                model,
                name="model",
                signature=ModelSignature(inputs=columns, outputs=Schema([ColSpec("double")])),
                input_example=example,
                pyfunc_predict_fn="predict_proba",
                pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in requirements],
                skops_trusted_types=trusted_types,
                extra_files=[str(path) for path in extra_files],
            )
        if info.signature is None:
            raise IntegrityError(
                "MLflow stored the model without a signature.", remedy="report this as a bug."
            )
        return str(info.model_uri)

    @contextmanager
    def _active_run(self, run_id: str) -> Iterator[None]:
        """Make a run MLflow's active one for the block; it runs on, which MLflow's own block would end."""
        import mlflow

        with mlflow.start_run(run_id=run_id):
            yield
        self.client.update_run(run_id, status="RUNNING")

    def register(self, uri: str, run_id: str, tags: Mapping[str, str], description: str = "") -> str:
        """Make the logged model a version; returns its number."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = self.client.create_model_version(
            self.model_name,
            uri,
            run_id=run_id,
            tags=dict(tags),
            description=description or None,
            # A server refuses a logged model as the source without its id.
            model_id=uri.removeprefix("models:/"),
        )
        return str(version.version)

    def local(self, uri: str) -> Path:
        """The local path of an artifact; downloaded where it is not local."""
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        try:
            return Path(download_artifacts(artifact_uri=uri))
        except (OSError, MlflowException) as error:
            if isinstance(error, MlflowException) and "No such artifact" not in str(error):
                raise
            raise IntegrityError(
                f"The files of {uri} cannot be read: {str(error).rstrip('.')}.",
                remedy="restore them from a backup, or run `retail train`.",
            ) from error


@contextmanager
def open_session(settings: Settings) -> Iterator[MlflowSession]:
    """Connect to MLflow, and create the experiment where there is none.

    MLflow's output on stdout is redirected, and the tracking URI, which MLflow keeps per process, is reset at
    the end. With the embedded SQLite file one process at a time has a session, because MLflow neither creates
    its tables nor numbers versions safely from two processes. The artifact locations of a home that was
    copied or moved are made those of this home first.

    Raises:
        DependencyError: MLflow is unreachable or failed.
    """
    uri = settings.tracking_uri
    _probe(uri)
    with _exclusive_access(settings), _quiet(), _translate_errors(uri):
        import mlflow

        mlflow.set_tracking_uri(uri)
        try:
            client = mlflow.MlflowClient(uri, uri)
            yield MlflowSession(client, _experiment(client, settings), settings.model_name)
        finally:
            _remove_misnamed_folder(uri)
            # MLflow exports the URI as MLFLOW_TRACKING_URI, which settings read later would obey.
            if settings.mlflow_tracking_uri is None:
                mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


def _remove_misnamed_folder(uri: str) -> None:
    """Remove the folder that MLflow creates for a quoted SQLite URL without decoding it."""
    folder = Path(uri.removeprefix("sqlite:///")).parent
    if uri.startswith("sqlite:///") and "%" in uri:
        with contextlib.suppress(OSError):
            os.removedirs(folder)


def _experiment(client: MlflowClient, settings: Settings) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(settings.model_name)
    if experiment is not None:
        return str(experiment.experiment_id)
    try:
        return str(client.create_experiment(settings.model_name, settings.artifact_root))
    except MlflowException:
        experiment = client.get_experiment_by_name(settings.model_name)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


@contextmanager
def _quiet() -> Iterator[None]:
    """Redirect MLflow's output from stdout, which carries the command's JSON, and hide its own warnings."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(mlflow|sqlalchemy|alembic)(\.|$)")
        import mlflow  # noqa: F401 - its import sets its log level

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        yield


@contextmanager
def _exclusive_access(settings: Settings) -> Iterator[None]:
    if settings.mlflow_tracking_uri is not None:
        yield
        return
    with exclusive_lock(settings.home_dir / "mlflow" / "registry.lock"):
        relocate_artifacts(settings)
        yield


def _probe(uri: str) -> None:
    """Check that a server answers, because MLflow itself would retry for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PROBE_SECONDS):  # nosec B310 # noqa: S310
            return
    except (urllib.error.URLError, OSError) as error:
        raise DependencyError(f"MLflow at {uri} does not answer: {error}.", remedy=_REMEDY) from error


@contextmanager
def _translate_errors(uri: str) -> Iterator[None]:
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, CommandError) as error:
        line = str(error).splitlines()[0]
        raise DependencyError(f"MLflow's database {uri} failed: {line}", remedy=_FILE_REMEDY) from error
    except MlflowException as error:
        if "sqlite3." in str(error):
            line = str(error).splitlines()[0]
            raise DependencyError(f"MLflow's database {uri} failed: {line}", remedy=_FILE_REMEDY) from error
        if error.error_code in _REFUSALS:
            cause, remedy = _REFUSALS[error.error_code]
            raise DependencyError(f"MLflow at {uri} {cause}.", remedy=remedy) from error
        line = str(error).splitlines()[0]
        remedy = _SCHEMA_REMEDY if "out-of-date database schema" in line else _REMEDY
        raise DependencyError(f"MLflow at {uri} failed: {line}", remedy=remedy) from error
