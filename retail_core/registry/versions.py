"""Model versions in MLflow: runs, registration, specifications, loading, and the alias `production`.

`mlflow_session` connects; `promotion` decides which version the alias names and records it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from retail_core.errors import DataError, IntegrityError
from retail_core.model.served_model import (
    MODEL_FILE,
    SPEC_FILE,
    ServedModel,
    load_served_model,
    read_spec,
    trusted_types,
)
from retail_core.model.spec import ModelSpec
from retail_core.registry.dataset_inputs import dataset_inputs
from retail_core.registry.file_hashes import TAG, hash_files, verify_files
from retail_core.registry.mlflow_session import ABSENT_OR_DENIED, MlflowSession, open_session
from retail_core.registry.model_card import model_card
from retail_core.settings import Settings
from retail_core.temporary_files import temporary_folder

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from retail_core.model.estimator import CalibratedRanker
    from retail_core.model.search import SearchResult

ALIAS, CARD_FILE = "production", "model_card.md"
BASE_REQUIREMENTS = ("scikit-learn", "skops", "numpy", "pandas", "scipy")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """Everything that is logged and registered for a version.

    Attributes:
        spec: specification of the served model, without version.
        served: the model to register.
        evaluation: the model whose metrics are reported, stored as an artifact; None where it is the served
            one.
        params: parameters of the run.
        search: every cell of the grid; None without a search.
        plots: PNG files.
        verdict: of the promotion gate, in a sentence: the description of the version.
        verdict_tags: its figures, as tags of run and version.
    """

    spec: ModelSpec
    served: CalibratedRanker
    evaluation: CalibratedRanker | None
    params: Mapping[str, object]
    search: SearchResult | None
    plots: list[Path]
    verdict: str = ""
    verdict_tags: Mapping[str, str] = field(default_factory=dict)


def log_and_register(settings: Settings, candidate: Candidate) -> ModelSpec:
    """Log parameters, grid cells, metrics, plots and both models, and register the served one.

    A version has the verdict on it from the moment that it exists. The alias is not changed.

    Returns:
        The specification with its version.

    Raises:
        DependencyError: MLflow is unreachable.
        IntegrityError: MLflow stored no signature.
    """
    spec = candidate.spec
    with open_session(settings) as session:
        _log_run(session, settings, candidate)
        if candidate.search is not None:
            _log_cells(session, spec.run_id, candidate.search)
        with temporary_folder("retail-model-") as folder:
            _log_files(session, candidate, folder)
            uri = _log_model(session, candidate, folder)
        hashes = {TAG: hash_files(session.local(uri))}
        tags = spec.tags() | hashes | dict(candidate.verdict_tags)
        version = session.register(uri, spec.run_id, tags, candidate.verdict)
        registered = replace(spec, version=version)
        _log_card(session, registered, candidate.verdict)
    return registered


def complete_registration(settings: Settings, version: str) -> ModelSpec:
    """Log the model card of a version whose registration may have been killed before; returns its spec.

    Raises:
        DataError: there is no such version.
        IntegrityError: its specification is damaged.
    """
    spec = version_spec(settings, version)
    with open_session(settings) as session:
        verdict = _existing(session, settings, version).description or ""
        _log_card(session, spec, verdict)
    return spec


def correct_verdict(settings: Settings, spec: ModelSpec, verdict: str, tags: Mapping[str, str]) -> None:
    """Replace the verdict on a version that could not be promoted as decided, or was judged later.

    Args:
        settings: name the registry.
        spec: of the version.
        verdict: in a sentence.
        tags: its figures.

    Raises:
        DataError: there is no such version.
    """
    with open_session(settings) as session:
        _existing(session, settings, spec.version)
        session.client.update_model_version(settings.model_name, spec.version, verdict)
        for name, value in tags.items():
            session.client.set_model_version_tag(settings.model_name, spec.version, name, value)
            session.client.set_tag(spec.run_id, name, value)
        _log_card(session, spec, verdict)


def production_version(settings: Settings) -> str | None:
    """The version that the alias `production` names, or None."""
    with open_session(settings) as session:
        champion = session.find(
            lambda client: client.get_model_version_by_alias(settings.model_name, ALIAS),
            absent=ABSENT_OR_DENIED,
        )
    return None if champion is None else str(champion.version)


def version_spec(settings: Settings, version: str) -> ModelSpec:
    """The specification of a version.

    Raises:
        DataError: there is no such version.
        IntegrityError: its feature definitions have changed, or its specification is damaged.
    """
    with open_session(settings) as session:
        tags = _existing(session, settings, version).tags
        folder = session.local(f"models:/{settings.model_name}/{version}/{SPEC_FILE}").parents[1]
    verify_files(folder, tags, version, only=SPEC_FILE)
    return read_spec(folder, version)


def version_numbers(settings: Settings) -> list[str]:
    """Every registered version, newest first, also those that cannot be read."""
    with open_session(settings) as session:
        registered: list[ModelVersion] = list(
            session.client.search_model_versions(f"name = '{settings.model_name}'", max_results=1000)
        )
    return [str(number) for number in sorted((int(model.version) for model in registered), reverse=True)]


def list_versions(settings: Settings) -> list[ModelSpec]:
    """Every version that this release can read, newest first; the others are logged and left out."""
    specs = []
    for version in version_numbers(settings):
        try:
            specs.append(version_spec(settings, version))
        except IntegrityError as error:
            log.warning("Version %s is not listed: %s", version, error)
    return specs


def set_production(settings: Settings, version: str, run_id: str | None = None) -> None:
    """Let the alias `production` name a version; `promotion` records the promotion first.

    Args:
        settings: name the registry.
        version: number of the version.
        run_id: of the version's run, where it is known. A registry that was lost numbers from 1 again.

    Raises:
        DataError: there is no such version, or it is one of another run.
        IntegrityError: the version was trained with a leaking column.
    """
    with open_session(settings) as session:
        existing = _existing(session, settings, version)
        if run_id and existing.run_id and existing.run_id != run_id:
            raise DataError(
                f"Version {version} of {settings.model_name} is not the one that was promoted.",
                remedy="promote a version with `retail models promote`, or train again.",
            )
        if existing.tags.get("leaky") == "true":
            raise IntegrityError(
                f"Version {version} was trained with a column that leaks the label.",
                remedy="train without --allow-leak and promote that version.",
            )
        session.client.set_registered_model_alias(settings.model_name, ALIAS, version)


def download(settings: Settings, version: str) -> Path:
    """The local folder of a version's model.

    Raises:
        DataError: there is no such version.
        IntegrityError: its files are not those that were registered.
    """
    with open_session(settings) as session:
        tags = _existing(session, settings, version).tags
        folder = session.local(f"models:/{settings.model_name}/{version}")
    verify_files(folder, tags, version)
    return folder


def load_version(settings: Settings, version: str) -> ServedModel:
    """A registered version, ready to serve.

    Raises:
        DataError: there is no such version.
        DependencyError: MLflow is unreachable.
        IntegrityError: it cannot be served by this release.
    """
    return load_served_model(download(settings, version), version)


def _existing(session: MlflowSession, settings: Settings, version: str) -> ModelVersion:
    model = session.find(lambda client: client.get_model_version(settings.model_name, version))
    if model is None:
        raise DataError(
            f"There is no version {version} of {settings.model_name}.",
            remedy="`retail models list` shows the versions there are.",
        )
    return model


def _log_run(session: MlflowSession, settings: Settings, candidate: Candidate) -> None:
    spec = candidate.spec
    tags = spec.tags() | dict(candidate.verdict_tags)
    session.log(spec.run_id, params=candidate.params, metrics=spec.flat_metrics(), tags=tags)
    session.log_datasets(spec.run_id, dataset_inputs(spec, settings))


def _log_cells(session: MlflowSession, run_id: str, search: SearchResult) -> None:
    """One nested run per cell, so that MLflow can plot any metric against any parameter."""
    for cell in search.cells:
        name = ", ".join([cell.family, *(f"{key} {value}" for key, value in cell.params.items())])
        scores = {"mean_ap": cell.mean_ap, "std_ap": cell.std_ap, "fit_seconds": cell.fit_seconds}
        folds = {f"fold_{number}_ap": score for number, score in enumerate(cell.fold_ap, 1)}
        tags = {"chosen": str(cell.config == search.config).lower(), "family": cell.family}
        session.log_child(run_id, name, params=cell.params, metrics=scores | folds, tags=tags)


def _log_files(session: MlflowSession, candidate: Candidate, folder: Path) -> None:
    import skops.io

    run_id = candidate.spec.run_id
    for plot in candidate.plots:
        session.client.log_artifact(run_id, str(plot), "plots")
    if candidate.search is not None:
        grid = folder / "grid.json"
        grid.write_text(json.dumps([asdict(cell) for cell in candidate.search.cells], indent=1))
        session.client.log_artifact(run_id, str(grid), "search")
    if candidate.evaluation is not None:
        evaluation = folder / MODEL_FILE
        skops.io.dump(candidate.evaluation, evaluation)
        session.client.log_artifact(run_id, str(evaluation), "evaluation_model")


def _log_card(session: MlflowSession, spec: ModelSpec, verdict: str) -> None:
    session.client.log_text(spec.run_id, model_card(spec, verdict), CARD_FILE)


def _log_model(session: MlflowSession, candidate: Candidate, folder: Path) -> str:
    import pandas as pd

    from retail_core.model.onnx_scorers import export_scorers

    spec = candidate.spec
    spec_file = folder / Path(SPEC_FILE).name
    spec_file.write_text(json.dumps(spec.to_dict(), indent=1), encoding="utf-8")
    example = pd.DataFrame(spec.self_test["rows"], columns=list(spec.feature_set.columns), dtype="float64")
    return session.log_model(
        candidate.served,
        run_id=spec.run_id,
        example=example.head(3),
        extra_files=[spec_file, *export_scorers(candidate.served, folder)],
        trusted_types=trusted_types(),
        requirements=model_requirements(),
    )


def model_requirements() -> list[str]:
    """Distributions that a stored model needs, those of all families."""
    from retail_core.model.families import MODEL_FAMILIES

    families = (name for family in MODEL_FAMILIES.values() for name in family.requirements)
    return list(dict.fromkeys((*BASE_REQUIREMENTS, *families)))
