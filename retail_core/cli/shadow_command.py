"""`retail models shadow`: versions that score silently beside the champion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from retail_core.cli.output import JsonFlag, emit, print_rows
from retail_core.settings import load_settings


def register(models_app: typer.Typer) -> None:
    """Add the command to `retail models`."""
    models_app.command("shadow")(shadow)


def shadow(
    version: Annotated[
        str | None, typer.Argument(help="Start to shadow with it; without one, the shadows are shown.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the shadow of the version instead.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; stored with user and time.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Score silently with a version beside the champion, until matured days decide; or show all shadows.

    A version that shadows already goes on as it is.

    Example: retail models shadow 4 --reason "the gate could not decide"
    """
    from retail_core.registry import shadow_record
    from retail_core.store.mongo.connection import open_store

    with open_store(load_settings()) as store:
        if version is not None and stop:
            shadow_record.stop_shadow(store, version, reason or "by hand")
        elif version is not None:
            shadow_record.start_challenger(store, version, reason or "by hand")
        else:
            shadow_record.follow_promotions(store)
        shadows = [public_shadow(document) for document in reversed(shadow_record.history(store))]
    if version is not None:
        of_version = next(entry for entry in shadows if entry["version"] == version)
        emit(of_version, json_output=json_output, title="Stopped" if stop else "Shadow")
    elif json_output:
        emit({"shadows": shadows}, json_output=True, title="")
    else:
        columns = ("version", "champion", "role", "state", "verdict", "started", "decision")
        print_rows([{name: entry[name] for name in columns} for entry in shadows], title="Shadows")


def public_shadow(document: Mapping[str, Any]) -> dict[str, Any]:
    """A shadow for people and programs."""
    return {"number": document["_id"]} | {name: value for name, value in document.items() if name != "_id"}
