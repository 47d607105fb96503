"""Flow `ingest`: raw logs to MongoDB, then to the lake.

Example: python -m flows.ingest 2019-Oct.csv.gz --source rees46 --json
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from prefect import State, flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed

from flows.command_line import JsonFlag, print_result, run_command
from flows.flow_runtime import SKIPPED, ReportFields, current_time, fail_with_message, retryable_task
from flows.schedules import minute_name
from retail_core import sources
from retail_core.cli.dialect import MappingOption, SourceOption, refuse_both
from retail_core.cli.output import as_text
from retail_core.errors import InputError
from retail_core.ingest import ingest
from retail_core.ingest.inbox import ingest_inbox
from retail_core.scoring.shop_context import store_shop_context
from retail_core.settings import load_settings
from retail_core.store.mongo.connection import open_store
from retail_core.workspace import open_workspace

COUNTS = (
    *("files", "rows_read", "events_inserted", "users_inserted", "duplicates", "quarantined"),
    *("skipped_files", "seconds"),
)


@retryable_task("find the files")
def find_files(files: list[Path], folder: Path | None) -> list[Path]:
    """The named files and every file directly in `folder`, in order of name."""
    paths = list(files)
    if folder is not None and folder.is_dir():
        paths += sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not paths:
        raise InputError("There is no file to ingest.", remedy="name files, or a folder that contains some.")
    return paths


@retryable_task("store the events")
def store_events(
    files: list[Path],
    source: str | None,
    mapping: Path | None,
    timezone: str | None,
    at: datetime,
    replace_earlier: bool = False,
) -> ReportFields:
    """Read the files into MongoDB. Idempotent: files that are already stored are skipped.

    With `replace_earlier`, what a file brought that was ingested with other options is undone first.
    """
    if source is not None and mapping is not None:
        raise InputError("A file has a source or a mapping, not both.", remedy="give one of the parameters.")
    dialect = sources.from_mapping(mapping) if mapping else sources.get_preset(source or "canonical")
    with open_store(load_settings()) as store:
        return asdict(
            ingest(store, files, dialect, timezone=timezone, at=at, replace_earlier=replace_earlier)
        )


@retryable_task("bring the lake up to date")
def update_lake() -> int:
    """Apply new events to the lake and store the context features of its days; returns the lake's rows."""
    with open_workspace(load_settings()) as workspace:
        store_shop_context(workspace)
        return workspace.lake.state().rows


@retryable_task("show the counts")
def show_counts(report: ReportFields, files: list[Path], lake_rows: int) -> None:
    """Publish the number of rows by result as a table in the Prefect UI."""
    rows = [{"what": name, "count": report[name]} for name in COUNTS]
    create_table_artifact(
        [*rows, {"what": "events in the lake", "count": lake_rows}],
        key="ingest-counts",
        description="Ingested " + ", ".join(path.name for path in files) + ". "
        "rows_read = events_inserted + users_inserted + duplicates + quarantined.",
    )


@retryable_task("read the watched folder")
def read_inbox(at: datetime) -> list[ReportFields]:
    """Ingest the new files of the watched folder. Idempotent: stored files are skipped."""
    settings = load_settings()
    with open_store(settings) as store:
        return [asdict(file) for file in ingest_inbox(store, settings.inbox_dir, at=at)]


@retryable_task("show the files")
def show_files(files: list[ReportFields]) -> None:
    """Publish what became of each file in the Prefect UI."""
    table = [{name: as_text(value) for name, value in file.items()} for file in files]
    place = load_settings().inbox_dir
    create_table_artifact(table, key="ingest-files", description=f"Files in {place} at the newest run")


def ingest_watched_folder() -> State[ReportFields]:
    """Ingest what is new in the watched folder; without anything new the run ends as Skipped."""
    files = read_inbox(current_time())
    show_files(files)
    states = Counter(str(file["state"]) for file in files)
    report: ReportFields = {"files": files}
    message = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no new file"
    if not states["ingested"]:
        return Completed(name=SKIPPED, message=message, data=report)
    report["lake_rows"] = update_lake()
    return Completed(message=message, data=report)


@flow(
    name="ingest",
    flow_run_name=minute_name,
    description="Read raw logs into MongoDB and bring the lake up to date.",
)
@fail_with_message
def ingest_flow(
    files: list[Path] | None = None,
    source: str | None = None,
    mapping: Path | None = None,
    timezone: str | None = None,
    folder: Path | None = None,
    replace_earlier: bool = False,
) -> State[ReportFields]:
    """Ingest `files` and every file in `folder`, without both what is new in RETAIL_INBOX.

    Files that are already ingested are skipped.

    They are of the preset `source`, `canonical` by default, or as the `mapping` describes.
    With `replace_earlier`, a file that was ingested with other options is undone first.
    """
    if not files and folder is None:
        return ingest_watched_folder()
    paths = find_files(files or [], folder)
    report = store_events(paths, source, mapping, timezone, current_time(), replace_earlier)
    show_counts(report, paths, update_lake())
    return Completed(message=f"{report['events_inserted']} events inserted", data=report)


def main(
    files: Annotated[list[Path], typer.Argument(help="CSV, .gz, .zst, Parquet or JSON lines.")],
    source: SourceOption = None,
    mapping: MappingOption = None,
    timezone: Annotated[str | None, typer.Option(help="Zone of times without one.")] = None,
    replace_earlier: Annotated[
        bool, typer.Option("--again", help="Undo a file first that was ingested with other options.")
    ] = False,
    json_output: JsonFlag = False,
) -> None:
    """Read raw logs into MongoDB as a Prefect flow.

    Example: python -m flows.ingest log.csv --source canonical --json
    """
    refuse_both(source, mapping)
    state = ingest_flow(files, source, mapping, timezone, replace_earlier=replace_earlier, return_state=True)
    print_result(state, title="Ingested", json_output=json_output)


if __name__ == "__main__":
    run_command(main)
