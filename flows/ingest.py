"""Raw logs -> MongoDB -> the lake.

Example: python -m flows.ingest 2019-Oct.csv.gz --source rees46 --json
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from prefect import State, flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed

from flows.edge import JsonFlag, finish, run
from flows.running import Report, now, plainly, step
from retail_core import sources
from retail_core.errors import InputError
from retail_core.ingest import ingest
from retail_core.scoring.shop_context import store_known_context
from retail_core.settings import load_settings
from retail_core.store.mongo.connection import open_store
from retail_core.workspace import open_workspace

COUNTS = ("files", "rows_read", "events_inserted", "duplicates", "quarantined", "skipped_files", "seconds")


@step("find the files")
def find_files(files: list[Path], folder: Path | None) -> list[Path]:
    """The named files and every file directly in `folder`, in order of name."""
    found = list(files)
    if folder is not None and folder.is_dir():
        found += sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
    if not found:
        raise InputError("There is no file to ingest.", remedy="name files, or a folder that has some.")
    return found


@step("store the events")
def store_events(
    files: list[Path], source: str, mapping: Path | None, timezone: str | None, at: datetime
) -> Report:
    """Read the files into MongoDB; may be killed and repeated, files already stored are skipped."""
    dialect = sources.from_mapping(mapping) if mapping else sources.get(source)
    with open_store(load_settings()) as store:
        return asdict(ingest(store, files, dialect, timezone=timezone, at=at))


@step("bring the lake up to date")
def update_lake() -> int:
    """Apply what is new to the lake and store what it now tells of the shop by day; returns its rows."""
    with open_workspace(load_settings()) as work:
        store_known_context(work)
        return work.lake.state().rows


@step("show the counts")
def show(report: Report, files: list[Path], lake_rows: int) -> None:
    """What came of every row, as a table in the Prefect UI."""
    rows = [{"what": name, "count": report[name]} for name in COUNTS]
    create_table_artifact(
        [*rows, {"what": "events in the lake", "count": lake_rows}],
        key="ingest-counts",
        description="Ingested " + ", ".join(one.name for one in files) + ". "
        "rows_read = events_inserted + duplicates + quarantined.",
    )


@flow(name="ingest", description="Read raw logs into MongoDB and bring the lake up to date.")
@plainly
def ingest_flow(
    files: list[Path] | None = None,
    source: str = "canonical",
    mapping: Path | None = None,
    timezone: str | None = None,
    folder: Path | None = None,
) -> State[Report]:
    """Ingest `files` and whatever lies in `folder`. Files already ingested are skipped."""
    found = find_files(files or [], folder)
    report = store_events(found, source, mapping, timezone, now())
    show(report, found, update_lake())
    return Completed(message=f"{report['events_inserted']} events inserted", data=report)


def main(
    files: Annotated[list[Path], typer.Argument(help="CSV, .gz, .zst, Parquet or JSON lines.")],
    source: Annotated[str, typer.Option(help="Preset: the dialect of the file.")] = "canonical",
    mapping: Annotated[Path | None, typer.Option(help="YAML that maps any other CSV.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Zone of times without one.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Read raw logs into MongoDB as a Prefect flow.

    Example: python -m flows.ingest log.csv --source canonical --json
    """
    state = ingest_flow(files, source, mapping, timezone, return_state=True)
    finish(state, title="Ingested", json_output=json_output)


if __name__ == "__main__":
    run(main)
