"""`retail backup` and `retail restore`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from retail_core.cli.output import JsonFlag, emit, print_line, progress
from retail_core.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder of the backup.")],
    json_output: JsonFlag = False,
) -> None:
    """Write a backup of the database, the registry and the settings while everything runs.

    DIR appears when the backup is complete. The lake is not in it: it is rebuilt from the database.

    Example: retail backup /backups/2025-02-20
    """
    from retail_core.backup.create import create_backup
    from retail_core.store.mongo.connection import open_store

    with open_store(load_settings()) as store, progress("backup", quiet=json_output) as advance:
        report = create_backup(store, folder, advance)
    emit(asdict(report), json_output=json_output, title="Backup")


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `retail backup` has written.")],
    home: Annotated[
        Path | None, typer.Option(help="New home, absent or empty. By default RETAIL_HOME.")
    ] = None,
    erasures_from: Annotated[
        Path | None,
        typer.Option(help="Newer backup, or the original home: remove users who were erased there since."),
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Restore a backup into an empty home and an empty database.

    The checksums are verified first, the counts at the end. If killed, run it again.

    Example: retail restore /backups/2025-02-20 --home /var/lib/retail-restored --erasures-from .retail
    """
    from retail_core.backup.backup_manifest import read_manifest
    from retail_core.backup.erasure_sources import read_erasures
    from retail_core.backup.restore import restore_backup

    if home is not None:
        # The settings file of the present home must not name the places of the new one.
        os.environ["RETAIL_HOME"] = str(home)
    settings = load_settings()
    erasures = None
    if erasures_from is not None:
        erasures = read_erasures(erasures_from, settings, read_manifest(folder).database)
    with progress("restore", quiet=json_output) as advance:
        report = restore_backup(settings, folder, erasures=erasures, advance=advance)
    emit(asdict(report), json_output=json_output, title="Restored")
    if not json_output:
        print_line(f"Use it with RETAIL_HOME={report.home}.")
