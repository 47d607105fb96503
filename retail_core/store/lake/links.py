"""The lake's table of identity links: one file, written anew in one commit when links have changed.

Links are few beside events, and a later file or an undo changes stored ones, so the table is replaced instead
of appended to. A cut-off uses the links before it.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

import pyarrow as pa

from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.parquet_files import Rows, write_file
from retail_core.store.lake.table_specs import IDENTITIES
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.identities import read_links
from retail_core.times import to_micros

STATE = "links"
"""Application transaction with the `links_state` that the table has."""


def links_state(store: Store) -> int:
    """Changes whenever links may have changed: with the collection, a window with links, or an undo."""
    collections = list(store.database.list_collections(filter={"name": store.identities.name}))
    identity = collections[0]["info"]["uuid"].hex() if collections else ""
    windows = store.ledger.count_documents({"links": {"$gt": 0}, "state": "committed"})
    undone = store.ledger.count_documents({"undone": {"$exists": True}})
    done = store.ledger.count_documents({"undone": {"$exists": True}, "state": "done"}) if undone else 0
    text = f"{identity} {windows} {undone} {done}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())


def replace_links(store: Store, table: LakeTable, source: dict[str, int] | None = None) -> LakeTable:
    """Commit MongoDB's links in place of those of `table`; the next version.

    Args:
        store: the database.
        table: newest version of the table of links.
        source: further application transactions of the commit.

    Raises:
        CommitConflict: another process has committed since this version.
    """
    # Before the links are read: those that are added meanwhile change it again.
    state = links_state(store)
    file = write_file(table, Rows([stored_links_table(store)]))
    return table.commit([file] if file else [], table.files, {STATE: state} | (source or {}))


def stored_links_table(store: Store, before: datetime | None = None) -> pa.Table:
    """MongoDB's links, those before an instant (aware; None: all), with the columns of `IDENTITIES`."""
    limit = None if before is None else to_micros(before)
    links = [link for link in read_links(store) if limit is None or link.linked_at < limit]
    columns = list(zip(*links, strict=True)) or [(), (), ()]
    instants = pa.array(columns[2], pa.int64()).cast(IDENTITIES.files.field("linked_at").type)
    return pa.table([columns[0], columns[1], instants], schema=IDENTITIES.files)
