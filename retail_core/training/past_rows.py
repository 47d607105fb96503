"""The rows that a version was trained on: from the lake's past versions, else from MongoDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from retail_core.errors import IntegrityError
from retail_core.model.spec import ModelSpec
from retail_core.store.lake.reader import Lake
from retail_core.store.lake.row_hashes import LakeHashes
from retail_core.store.lake.scratch_lake import lake_of_windows
from retail_core.store.lake.table_version import TableVersion
from retail_core.store.mongo.connection import Store
from retail_core.temporary_files import temporary_folder
from retail_core.times import iso, parse_instant

LAKE, MONGODB = "lake", "mongodb"


@dataclass(frozen=True)
class PastRows:
    """The rows of a training, or why there are none.

    Attributes:
        lake: reader of exactly these rows; None where they cannot be had.
        origin: `lake` or `mongodb`, where they are from.
        reason: why the lake does not have them any more, and MongoDB has others; empty if the lake does.
    """

    lake: Lake | None
    origin: str | None
    reason: str


@contextmanager
def past_rows(store: Store, spec: ModelSpec, at: datetime) -> Iterator[PastRows]:
    """The rows that `spec` was trained on; a temporary copy of them ends with the block.

    Args:
        store: the database; its settings name the lake.
        spec: of a version whose tables are recorded.
        at: current time, aware.
    """
    tables = {name: TableVersion.from_dict(table) for name, table in spec.data["tables"].items()}
    as_of = parse_instant(spec.training["request"]["as_of"])
    past = Lake(store.settings.lake_url).at_versions(tables)
    if past is not None and _is_hash_of(past, as_of, spec.data["data_hash"]):
        yield PastRows(past, LAKE, "")
        return
    reason = _why_not_in_lake(store, spec, at)
    with temporary_folder("retail-reproduce-") as folder:
        restored = lake_of_windows(store, tables, as_of, folder)
        hashes = restored.hashes(as_of)
        if _has_rows(hashes, spec, tables):
            yield PastRows(restored, MONGODB, reason)
        else:
            yield PastRows(None, None, f"{reason}; {_difference(hashes, tables)}")


def _is_hash_of(lake: Lake, as_of: datetime, data_hash: str) -> bool:
    try:
        return lake.hashes(as_of).data_hash == data_hash
    except IntegrityError:
        # A damaged file.
        return False


def _has_rows(hashes: LakeHashes, spec: ModelSpec, tables: dict[str, TableVersion]) -> bool:
    """Whether these are the rows; events after the cut-off count too, since they show where the log ends."""
    events = "events"
    return (
        hashes.data_hash == spec.data["data_hash"] and hashes.tables[events].digest == tables[events].digest
    )


def _why_not_in_lake(store: Store, spec: ModelSpec, at: datetime) -> str:
    """Why the lake does not have the versions any more, in words."""
    erased = store.erasures.count_documents({"at": {"$gte": spec.trained_at}})
    days = store.settings.lake_retention_days
    end = spec.trained_at + timedelta(days=days)
    if erased:
        ids = "id was" if erased == 1 else "ids were"
        return (
            f"{erased} user {ids} erased since {iso(spec.trained_at)}, with all earlier versions of the lake"
        )
    if end <= at:
        return f"the retention of {days} days is over since {iso(end)} (RETAIL_LAKE_RETENTION_DAYS)"
    return "the lake was rebuilt or replaced since, is damaged, or is another one"


def _difference(hashes: LakeHashes, tables: dict[str, TableVersion]) -> str:
    counts = [
        f"{hashes.tables[name].rows if name in hashes.tables else 0:,} of {table.rows:,} rows of {name}"
        for name, table in tables.items()
        if name not in hashes.tables or hashes.tables[name].digest != table.digest
    ]
    return f"MongoDB has other rows of the same ledger windows now: {', '.join(counts)}"
