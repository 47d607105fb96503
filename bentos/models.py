"""The model that answers now: taken from BentoML's store, tried before it takes a question."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bentos.environment import MODEL_VARIABLE, variables
from retail_core.errors import DataError, IntegrityError
from retail_core.model.served_model import ServedModel, load_served_model
from retail_core.settings import Settings
from retail_core.subprocesses import call_json

if TYPE_CHECKING:
    import bentoml

MODEL_FOLDER = "mlflow_model"


@dataclass(frozen=True)
class Loaded:
    """A tried model and the tag it has in BentoML's store."""

    tag: str
    served: ServedModel


def load(settings: Settings, tag: str | None = None) -> Loaded:
    """Load and try the model `tag`; without one the tag in RETAIL_BENTO_MODEL, else the newest.

    Raises:
        DataError: BentoML's store has no such model.
        IntegrityError: features, types or the self-test of the model do not hold.
    """
    stored = _find(tag or _default(settings))
    metadata = stored.info.metadata
    served = load_served_model(Path(stored.path_of(MODEL_FOLDER)), str(metadata["version"]))
    trained_on = str(metadata["feature_set_hash"])
    if served.spec.feature_set.hash != trained_on:
        raise IntegrityError(
            f"{stored.tag} was imported with features {trained_on[:12]}, its folder says "
            f"{served.spec.feature_set.hash[:12]}.",
            remedy="run `python -m bentos.import_model` again.",
        )
    return Loaded(str(stored.tag), served)


def newest_tag(settings: Settings) -> str:
    """The tag that `load` takes without one.

    Raises:
        DataError: BentoML's store has no model.
    """
    return str(_find(_default(settings)).tag)


def tag_of(settings: Settings, version: str) -> str | None:
    """The tag under which BentoML's store has that version, if it does."""
    import bentoml

    for model in bentoml.models.list(settings.model_name):
        if str(model.info.metadata.get("version")) == version:
            return str(model.tag)
    return None


async def import_again(settings: Settings) -> str:
    """Import what is under `production` now, in a process of its own; the tag it got.

    In an image, where there is no MLflow to import from, the newest model of the store.

    Raises:
        RetailError: the import failed; says why.
    """
    if find_spec("mlflow") is None:
        return f"{settings.model_name}:latest"
    environment = {**os.environ, **variables(settings)}
    answer = await asyncio.to_thread(call_json, "bentos.import_model", [], environment)
    return str(answer["tag"])


def _default(settings: Settings) -> str:
    return os.environ.get(MODEL_VARIABLE) or f"{settings.model_name}:latest"


def _find(tag: str) -> bentoml.Model:
    import bentoml
    from bentoml.exceptions import BentoMLException

    try:
        return bentoml.models.get(tag)
    except BentoMLException as error:
        raise DataError(
            f"BentoML's store has no model {tag}.",
            remedy="run `retail train`, then `python -m bentos.import_model`.",
        ) from error
