"""`python -m bentos.import_model`: bring the production model from MLflow into BentoML's store."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bentos.environment import prepare
from retail_core.errors import DataError, RetailError
from retail_core.file_locks import exclusive_lock
from retail_core.settings import Settings, load_settings
from retail_core.times import iso

if TYPE_CHECKING:
    import bentoml

    from retail_core.model.spec import ModelSpec

ALIAS = "production"


@dataclass(frozen=True)
class Imported:
    """A model in BentoML's store; `imported` is false if it was already there."""

    tag: str
    version: str
    run_id: str
    imported: bool


def import_production(settings: Settings) -> Imported:
    """Import the model under the alias `production`, unless the newest one in the store is it.

    An alias that moves meanwhile is noticed: then the import is done again. Of several processes that
    import at once the first does it, and the others find it done.

    Raises:
        DataError: there is no production model.
        DependencyError: MLflow is unreachable.
    """
    prepare(settings)
    with exclusive_lock(Path(os.environ["BENTOML_HOME"]) / "import.lock"):
        return _bring(settings)


def _bring(settings: Settings) -> Imported:
    from retail_core.registry import versions as registry

    spec = registry.champion_spec(settings)
    if spec is None:
        raise DataError("No model version is in production.", remedy="run `retail train`.")
    present = newest(settings.model_name)
    if present is not None and _is(present, spec):
        return _imported(present, imported=False)
    model = _import(settings, spec)
    after = registry.champion_spec(settings)
    if after is not None and not _is(model, after):
        return _bring(settings)
    return _imported(model, imported=True)


def _import(settings: Settings, spec: ModelSpec) -> bentoml.Model:
    import bentoml.mlflow

    from retail_core.registry.mlflow_session import open_session

    identity = {
        "version": str(spec.version),
        "run_id": spec.run_id,
        "feature_set_hash": spec.feature_set.hash,
    }
    with open_session(settings):  # BentoML asks the MLflow of the process
        imported: bentoml.Model = bentoml.mlflow.import_model(
            settings.model_name,
            f"models:/{settings.model_name}@{ALIAS}",
            labels={"alias": ALIAS, **identity},
            metadata={**identity, "trained_at": iso(spec.trained_at), "threshold": _contact(spec)},
        )
    return imported


def _contact(spec: ModelSpec) -> float:
    return float(spec.thresholds[spec.primary]["contact"])


def newest(name: str) -> bentoml.Model | None:
    """The newest imported model of that name, if there is one; call `prepare` first."""
    import bentoml
    from bentoml.exceptions import BentoMLException

    try:
        return bentoml.models.get(f"{name}:latest")
    except BentoMLException:
        return None


def _is(model: bentoml.Model, spec: ModelSpec) -> bool:
    metadata = model.info.metadata
    return (metadata.get("version"), metadata.get("run_id")) == (str(spec.version), spec.run_id)


def _imported(model: bentoml.Model, *, imported: bool) -> Imported:
    metadata = model.info.metadata
    return Imported(str(model.tag), str(metadata["version"]), str(metadata["run_id"]), imported)


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
    said = "imported" if result.imported else "is already in BentoML's store"
    text = f"{result.tag}: version {result.version} (run {result.run_id}) {said}"
    print(json.dumps(asdict(result)) if options.json else text)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
