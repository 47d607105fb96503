"""`retail ingest undo`, beside `retail ingest FILES`."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from retail_core.cli.output import JsonFlag, emit, print_line
from retail_core.errors import DependencyError, InputError
from retail_core.settings import load_settings

if TYPE_CHECKING:
    from retail_core.ingest import UndoReport
    from retail_core.settings import Settings
    from retail_core.store.mongo.connection import Store

log = logging.getLogger(__name__)

_undo_app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


class IngestCommand(TyperCommand):
    """`retail ingest FILES`, and `retail ingest undo FILE` where the first argument is `undo`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command that `args` name; a file named `undo` is given as `./undo`."""
        if args[:1] == ["undo"]:
            command = typer.main.get_command(_undo_app)
            return command.make_context(f"{info_name} undo", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@_undo_app.command()
def undo(
    file: Annotated[str, typer.Argument(help="Path or name of an ingested file, or its id in the ledger.")],
    json_output: JsonFlag = False,
) -> None:
    """Remove what one file brought: events, user attributes, refused rows, ledger entries and lake rows.

    An event that another file or a request brought too stays. Running it again changes nothing.

    Example: retail ingest undo 2019-Oct.csv.gz
    """
    from retail_core.ingest import undo as run
    from retail_core.scoring.shop_context import store_shop_context
    from retail_core.store.mongo.connection import open_store
    from retail_core.workspace import Workspace

    settings = load_settings()
    with open_store(settings) as store:
        report = run(store, _file_id(store, file), at=datetime.now(UTC))
        store_shop_context(Workspace.synchronized(store))
    versions = _versions_trained_on(settings, report)
    emit(asdict(report) | {"models": versions}, json_output=json_output, title="Undone")
    if versions and not json_output:
        print_line(
            f"Trained with these events: version {', '.join(versions)}. Run `retail train` to replace it."
        )


def _file_id(store: Store, name: str) -> str:
    """`_id` in the ledger of the file that the user means, also of one that was undone.

    Raises:
        InputError: no file matches, or several.
    """
    from retail_core.sources.content_hashes import content_hashes
    from retail_core.store.mongo.ingested_files import find_file, find_undone

    path = Path(name)
    content = content_hashes(path) if path.is_file() and path.stat().st_size else None
    file = find_file(store, name, content)
    if file is not None:
        return str(file["_id"])
    undone = find_undone(store, name, content)
    if undone is None:
        raise InputError(
            f"{name} was not ingested.", remedy="name a file as it was ingested, or its id in the ledger."
        )
    return undone


def _versions_trained_on(settings: Settings, report: UndoReport) -> list[str]:
    """Model versions that saw the removed events; none, with a warning, where MLflow is unreachable."""
    from retail_core.registry.trained_on import versions_trained_on

    if report.first_event is None or not report.events_removed:
        return []
    try:
        return versions_trained_on(settings, ingested_at=report.ingested_at, first_event=report.first_event)
    except DependencyError as error:
        log.warning("The models that were trained with these events are unknown: %s", error)
        return []
