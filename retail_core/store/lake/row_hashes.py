"""Hashes of the rows of the lake's tables, which no order of rows or files changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.table_specs import EVENTS, IDENTITIES, USERS, TableSpec
from retail_core.store.lake.table_version import TableVersion
from retail_core.times import to_micros


def hash_tables(tables: Mapping[str, LakeTable], before: datetime | None = None) -> str:
    """The data hash: of the events and links before an instant (aware; None: all) and of all attributes."""
    sums = [
        _sum_of_hashes(tables.get(EVENTS.name), EVENTS, before),
        _sum_of_hashes(tables.get(USERS.name), USERS),
    ]
    links = tables.get(IDENTITIES.name)
    if links is not None and links.rows:
        sums.append(_sum_of_hashes(links, IDENTITIES, before))
    return _digest("\n".join(sums))


def table_version(table: LakeTable) -> TableVersion:
    """The version of a table, with the hash of its rows."""
    digest = _digest(_sum_of_hashes(table, table.spec))
    return TableVersion(table.version, table.table_id, table.applied, table.rows, digest)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _sum_of_hashes(table: LakeTable | None, spec: TableSpec, before: datetime | None = None) -> str:
    """Number of rows and sums of both halves of their MD5, as text."""
    if table is None or not table.files:
        return f"{spec.name} 0"
    location = table.location
    table.urls_of(table.files)
    paths = [location.path_of(f"{spec.name}/{file.path}") for file in table.files]
    values = (
        f"epoch_us({field.name})" if pa.types.is_timestamp(field.type) else field.name for field in spec.files
    )
    limit = "" if before is None else f"where epoch_us({spec.time}) < {to_micros(before)}"
    # Nulls and separators are characters that no value has.
    row = ", ".join(f"coalesce({value}::varchar, chr(1))" for value in values)
    sums = "count(*), sum(md5_number_lower(row)), sum(md5_number_upper(row))"
    with duckdb.connect() as connection:
        connection.register("rows", ds.dataset(paths, schema=spec.files, filesystem=location.filesystem))
        query = f"select {sums} from (select concat_ws(chr(2), {row}) as row from rows {limit})"  # noqa: S608 - names of columns
        count, lower, upper = connection.execute(query).fetchall()[0]
    return f"{spec.name} {count} {lower or 0} {upper or 0}"
