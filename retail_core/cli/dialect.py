"""The options `--source` and `--mapping`, of which a command takes one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from retail_core.sources import Source

SourceOption = Annotated[
    str | None, typer.Option("--source", help="Preset: the dialect of the file; default: canonical.")
]
MappingOption = Annotated[Path | None, typer.Option("--mapping", help="YAML that maps any other CSV.")]


def dialect_of(source: str | None, mapping: Path | None) -> Source:
    """The preset `source`, or the source that a mapping describes; without both `canonical`.

    Raises:
        BadParameter: both are given.
        InputError: there is no such preset, or the mapping cannot be used.
    """
    from retail_core import sources

    refuse_both(source, mapping)
    return sources.from_mapping(mapping) if mapping else sources.get_preset(source or "canonical")


def refuse_both(source: str | None, mapping: Path | None) -> None:
    """Raise BadParameter, a usage error, if both options are given."""
    if source is not None and mapping is not None:
        raise typer.BadParameter(
            "give --source or --mapping, not both; a mapping names a preset with extends.",
            param_hint="--source",
        )
