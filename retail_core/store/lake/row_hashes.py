"""Hashes of the rows of the lake's tables, which no order of rows or files changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.table_specs import EVENTS, IDENTITIES, USERS, TableSpec
from retail_core.store.lake.table_version import TableVersion
from retail_core.times import to_micros


@dataclass(frozen=True)
class LakeHashes:
    """Hashes of one state of the lake.

    Attributes:
        data_hash: of the events and identity links before an instant, and of all user attributes.
        tables: the version of each table with the hash of all its rows, by name.
    """

    data_hash: str
    tables: dict[str, TableVersion]


def hash_tables(tables: Mapping[str, LakeTable], before: datetime | None = None) -> LakeHashes:
    """The hashes of versions of tables; reads every row once.

    Args:
        tables: by name.
        before: end of the rows in `data_hash`, aware; None means all.
    """
    sums = {EVENTS.name: f"{EVENTS.name} 0", USERS.name: f"{USERS.name} 0"}
    versions = {}
    for name, table in tables.items():
        limited, complete = _sums_of_hashes(table, None if name == USERS.name else before)
        versions[name] = TableVersion(
            table.version, table.table_id, table.applied, table.rows, _digest(complete)
        )
        # Without links the hash is that of a lake without a table of links.
        if name != IDENTITIES.name or table.rows:
            sums[name] = limited
    return LakeHashes(_digest("\n".join(sums.values())), versions)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _sums_of_hashes(table: LakeTable, before: datetime | None) -> tuple[str, str]:
    """Number of rows and sums of the halves of their MD5, as text: of rows before an instant, and of all."""
    spec = table.spec
    if not table.files:
        return f"{spec.name} 0", f"{spec.name} 0"
    limit = "true" if before is None else f"epoch_us({spec.time}) < {to_micros(before)}"
    sums = ("count(*)", "sum(md5_number_lower(row))", "sum(md5_number_upper(row))")
    columns = ", ".join([*(f"{total} filter (early)" for total in sums), *sums])
    with duckdb.connect() as connection:
        connection.register("rows", table_rows(table))
        query = f"select {columns} from (select {limit} as early, {row_text(spec)} as row from rows)"  # nosec B608 # noqa: S608 - names of columns
        totals = [total or 0 for total in connection.execute(query).fetchall()[0]]
    limited, complete = (" ".join(map(str, part)) for part in (totals[:3], totals[3:]))
    return f"{spec.name} {limited}", f"{spec.name} {complete}"


def table_rows(table: LakeTable) -> ds.Dataset:
    """The rows of a table, which has files.

    Raises:
        DamagedFileError: a file is not what was committed.
    """
    table.urls_of(table.files)
    location = table.location
    paths = [location.path_of(f"{table.spec.name}/{file.path}") for file in table.files]
    return ds.dataset(paths, schema=table.spec.files, filesystem=location.filesystem)


def row_text(spec: TableSpec) -> str:
    """SQL of a row as text; nulls and separators are characters that no value has."""
    values = (
        f"epoch_us({field.name})" if pa.types.is_timestamp(field.type) else field.name for field in spec.files
    )
    columns = ", ".join(f"coalesce({value}::varchar, chr(1))" for value in values)
    return f"concat_ws(chr(2), {columns})"
