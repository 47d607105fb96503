"""The option `--engine`, which takes the place of RETAIL_ENGINE for one command."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from retail_core.settings import Settings


class EngineName(StrEnum):
    """What may compute."""

    DUCKDB = "duckdb"
    SPARK = "spark"


EngineOption = Annotated[
    EngineName | None, typer.Option("--engine", help="What computes; default: RETAIL_ENGINE, else duckdb.")
]


def chosen_engine(settings: Settings, engine: EngineName | None) -> Settings:
    """The settings with the engine of the command line, where one was named."""
    return settings if engine is None else settings.model_copy(update={"engine": engine.value})
