"""Load registered versions as served models."""

from __future__ import annotations

from retail_core.errors import DataError
from retail_core.model.served_model import ServedModel, load_path
from retail_core.registry.versions import download, production_version
from retail_core.settings import Settings


def load_champion(settings: Settings) -> ServedModel:
    """The model in production.

    Raises:
        DataError: there is none.
        DependencyError: MLflow is unreachable.
        IntegrityError: it cannot be served by this release.
    """
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
    return load_path(download(settings, version), version)
