"""The option `--engine`, which overrides RETAIL_ENGINE for one command."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from retail_core.settings import Settings


class EngineName(StrEnum):
    """Feature engines."""

    DUCKDB = "duckdb"
    SPARK = "spark"


EngineOption = Annotated[
    EngineName | None, typer.Option("--engine", help="Feature engine; default: RETAIL_ENGINE, else duckdb.")
]


def with_engine(settings: Settings, engine: EngineName | None) -> Settings:
    """The settings with the engine of the command line, if given."""
    return settings if engine is None else settings.model_copy(update={"engine": engine.value})
