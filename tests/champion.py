"""The model that MLflow's alias names, for tests that have no open store."""

from __future__ import annotations

from retail_core.model.served_model import ServedModel
from retail_core.registry.versions import load_version, production_version
from retail_core.settings import Settings


def champion_of(settings: Settings) -> ServedModel:
    """The model in production, ready to serve."""
    version = production_version(settings)
    assert version is not None, "no model is in production"
    return load_version(settings, version)
