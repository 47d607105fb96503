"""Predictions of scoring runs in the lake, one partition of a Delta table per run."""

from __future__ import annotations

import logging
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from retail_core.store.lake import old_format
from retail_core.store.lake.commit_attempts import until_committed
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.parquet_files import Rows, read_rows, write_file
from retail_core.store.lake.table_specs import PREDICTIONS
from retail_core.times import iso

log = logging.getLogger(__name__)


def replace_run(lake_url: str, rows: pa.Table, *, as_of: datetime, version: str) -> None:
    """Store the predictions of one scoring run, replacing those of the same cut-off and version.

    Args:
        lake_url: folder or object-store URL.
        rows: of the columns of `PREDICTIONS.files`.
        as_of: cut-off of the run, UTC.
        version: model version.
    """
    _replace(LakeLocation(lake_url), rows, (run_stamp(as_of), version))


def read_run(lake_url: str, *, as_of: datetime, version: str) -> pa.Table:
    """The predictions of one scoring run, in no particular order.

    Raises:
        FileNotFoundError: the lake has no predictions of that cut-off and version.
        IntegrityError: they are damaged.
    """
    table = LakeTable.open(LakeLocation(lake_url), PREDICTIONS)
    run = (run_stamp(as_of), version)
    files = [file for file in table.files if file.partition == run] if table else []
    if table is None or not files:
        raise FileNotFoundError(f"{lake_url} has no predictions of {iso(as_of)} and version {version}")
    return pa.concat_tables(read_rows(table, file) for file in files)


def take_over_old_predictions(location: LakeLocation) -> None:
    """Commit the prediction files of the old format to the table; runs that it already has stay.

    A file that cannot be read is left out with a warning; MongoDB has its predictions.
    """
    table = LakeTable.open(location, PREDICTIONS)
    stored = {file.partition for file in table.files} if table else set()
    for path, run, version in old_format.old_predictions(location):
        if (run, version) not in stored:
            try:
                rows = pq.read_table(
                    location.path_of(path), filesystem=location.filesystem, partitioning=None
                )
                rows = rows.select(PREDICTIONS.files.names).cast(PREDICTIONS.files)
            except (OSError, KeyError, pa.ArrowException) as error:
                log.warning("%s cannot be read and is left out: %s", location.url_of(path), error)
                continue
            _replace(location, rows, (run, version))


def run_stamp(as_of: datetime) -> str:
    """The cut-off as the partition column has it, such as `20250131T000000Z`."""
    return iso(as_of).replace("-", "").replace(":", "")


def _replace(location: LakeLocation, rows: pa.Table, run: tuple[str, str]) -> None:
    rows = rows.select(PREDICTIONS.files.names).cast(PREDICTIONS.files)

    def attempt() -> None:
        table = LakeTable.open(location, PREDICTIONS) or LakeTable.create(location, PREDICTIONS)
        file = write_file(table, Rows([rows]), run)
        replaced = [old for old in table.files if old.partition == run]
        table.commit([file] if file else [], replaced)

    until_committed(location, attempt)
