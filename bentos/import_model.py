"""`python -m bentos.import_model`: import the production model from MLflow into BentoML's store."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bentos.model_store import newest_model, prepare_environment
from retail_core.errors import DataError, RetailError
from retail_core.file_locks import exclusive_lock
from retail_core.settings import Settings, load_settings
from retail_core.times import iso

if TYPE_CHECKING:
    import bentoml

    from retail_core.model.spec import ModelSpec

ALIAS = "production"


@dataclass(frozen=True)
class ImportedModel:
    """A model in BentoML's store; `imported` is false if the store had it already."""

    tag: str
    version: str
    run_id: str
    imported: bool


def import_production(settings: Settings) -> ImportedModel:
    """Import the version in production, unless it is the newest one of the store.

    The promotion record names the version; MLflow's alias does where MongoDB does not answer. If production
    changes during the import, the import is repeated. Of several processes that
    import at the same time the first one imports, the others wait and return the same model.

    Raises:
        DataError: there is no production model.
        IntegrityError: its files are not those that were registered.
        DependencyError: MLflow is unreachable.
    """
    prepare_environment(settings)
    with exclusive_lock(Path(os.environ["BENTOML_HOME"]) / "import.lock"):
        return _import_if_absent(settings)


def _import_if_absent(settings: Settings) -> ImportedModel:
    spec = _production_spec(settings)
    if spec is None:
        raise DataError("No model version is in production.", remedy="run `retail train`.")
    newest = newest_model(settings.model_name)
    if newest is not None and _is_version(newest, spec):
        return _imported_model(newest, imported=False)
    model = _import(settings, spec)
    after = _production_spec(settings)
    if after is not None and not _is_version(model, after):
        return _import_if_absent(settings)
    return _imported_model(model, imported=True)


def _production_spec(settings: Settings) -> ModelSpec | None:
    from retail_core.registry.champion import find_champion
    from retail_core.registry.versions import version_spec

    version = find_champion(settings)
    return None if version is None else version_spec(settings, version)


def _import(settings: Settings, spec: ModelSpec) -> bentoml.Model:
    import bentoml.mlflow

    from retail_core.registry.file_hashes import TAG, hash_files
    from retail_core.registry.mlflow_session import open_session
    from retail_core.registry.versions import download

    hashes = {TAG: hash_files(download(settings, spec.version))}
    identity = {
        "version": str(spec.version),
        "run_id": spec.run_id,
        "feature_set_hash": spec.feature_set.hash,
    }
    with open_session(settings):  # BentoML uses the tracking server that is set in this process
        imported: bentoml.Model = bentoml.mlflow.import_model(
            settings.model_name,
            f"models:/{settings.model_name}/{spec.version}",
            labels={"alias": ALIAS, **identity},
            metadata={
                **identity,
                **hashes,
                "trained_at": iso(spec.trained_at),
                "threshold": _contact_threshold(spec),
            },
        )
    return imported


def _contact_threshold(spec: ModelSpec) -> float:
    return float(spec.thresholds[spec.primary]["contact"])


def _is_version(model: bentoml.Model, spec: ModelSpec) -> bool:
    metadata = model.info.metadata
    return (metadata.get("version"), metadata.get("run_id")) == (str(spec.version), spec.run_id)


def _imported_model(model: bentoml.Model, *, imported: bool) -> ImportedModel:
    metadata = model.info.metadata
    return ImportedModel(str(model.tag), str(metadata["version"]), str(metadata["run_id"]), imported)


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints the result, one JSON line with --json. Exit codes as those of `retail`."""
    parser = argparse.ArgumentParser(
        prog="python -m bentos.import_model",
        description="Import the model under MLflow's alias `production` into BentoML's store.",
        epilog="example: python -m bentos.import_model --json",
    )
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    options = parser.parse_args(arguments)
    try:
        result = import_production(load_settings())
    except RetailError as error:
        print(error, file=sys.stderr)  # noqa: T201
        if options.json:
            print(json.dumps({"error": error.message, "remedy": error.remedy}))  # noqa: T201
        return error.exit_code
    status = "imported" if result.imported else "is already in BentoML's store"
    text = f"{result.tag}: version {result.version} (run {result.run_id}) {status}"
    print(json.dumps(asdict(result)) if options.json else text)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
