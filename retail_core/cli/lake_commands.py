"""`retail lake`."""

from __future__ import annotations

import time
from dataclasses import asdict

import typer

from retail_core.cli.output import JsonFlag, emit, progress
from retail_core.settings import load_settings

lake_app = typer.Typer(help="The lake: columnar copy of the events.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(lake_app, name="lake")


@lake_app.command()
def rebuild(json_output: JsonFlag = False) -> None:
    """Write the lake anew from MongoDB, in one step for its readers.

    Also replaces a lake that is damaged or of another database.

    Example: retail lake rebuild
    """
    from retail_core.store.lake.table import rebuild as run
    from retail_core.store.mongo.connection import open_store

    started, settings = time.perf_counter(), load_settings()
    with open_store(settings) as store, progress("lake", quiet=json_output) as advance:
        state = run(store, progress=lambda copied, total: advance("events", copied, total))
    fields = {name: value for name, value in asdict(state).items() if name not in {"days", "data_hash"}}
    result = {"lake": settings.lake_url, "days": len(state.days), **fields}
    result["seconds"] = round(time.perf_counter() - started, 3)
    emit(result, json_output=json_output, title="Rebuilt")
