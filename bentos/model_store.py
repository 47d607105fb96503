"""BentoML's model store: the environment BentoML needs before its first import, and look-ups of models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from retail_core.errors import DataError
from retail_core.file_locks import create_private_folder
from retail_core.settings import Settings

if TYPE_CHECKING:
    import bentoml

MODEL_VARIABLE = "RETAIL_BENTO_MODEL"
ROOT = Path(__file__).resolve().parents[1]


def variables(settings: Settings) -> dict[str, str]:
    """Environment variables: BentoML's store below `home` unless BENTOML_HOME is set, no usage reports."""
    return {
        "BENTOML_HOME": os.environ.get("BENTOML_HOME") or str(settings.home_dir / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "RETAIL_HOME": str(settings.home_dir),
    }


def prepare_environment(settings: Settings) -> None:
    """Set `variables` in this process and create BentoML's home."""
    os.environ.update(variables(settings))
    create_private_folder(Path(os.environ["BENTOML_HOME"]))


def default_tag(settings: Settings) -> str:
    """The tag in RETAIL_BENTO_MODEL, else the newest model's."""
    return os.environ.get(MODEL_VARIABLE) or f"{settings.model_name}:latest"


def newest_model(name: str) -> bentoml.Model | None:
    """The newest model of that name in the store, if there is one; call `prepare_environment` first."""
    import bentoml
    from bentoml.exceptions import BentoMLException

    try:
        return bentoml.models.get(f"{name}:latest")
    except BentoMLException:
        return None


def stored_model(tag: str) -> bentoml.Model:
    """The model of that tag.

    Raises:
        DataError: the store has no such model.
    """
    import bentoml
    from bentoml.exceptions import BentoMLException

    try:
        return bentoml.models.get(tag)
    except BentoMLException as error:
        raise DataError(
            f"BentoML's store has no model {tag}.",
            remedy="run `retail train`, then `python -m bentos.import_model`.",
        ) from error


def tag_of_version(settings: Settings, version: str) -> str | None:
    """The tag of that model version, if the store has it."""
    import bentoml
    from bentoml.exceptions import NotFound

    try:
        models = bentoml.models.list(settings.model_name)
    except NotFound:
        return None
    tags = (str(model.tag) for model in models if str(model.info.metadata.get("version")) == version)
    return next(tags, None)
