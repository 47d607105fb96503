"""The lake's copy of the identity links: one small Parquet file, written anew when links have changed.

Links are few beside events and count by their own time, so they need no versions of the event table: the
newest file holds every link, and a cut-off uses those before it. Earlier files are kept for readers that
pinned them, except after an erasure.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.identities import read_links

FOLDER = "identities"
FILES_KEPT = 4
"""Later files for which a superseded one is kept for readers."""

_SUFFIX = ".parquet"

LINKS_ARROW = pa.schema(
    [
        pa.field("from_id", pa.string(), nullable=False),
        pa.field("to_id", pa.string(), nullable=False),
        pa.field("linked_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)


class LinkFolder(Protocol):
    """Where a lake is."""

    @property
    def filesystem(self) -> fs.FileSystem:
        """File system of `path_of`."""
        ...

    def path_of(self, path: str) -> str:
        """Path in `filesystem`."""
        ...

    def url_of(self, path: str) -> str:
        """Absolute path or URL."""
        ...


def newest_link_file(folder: LinkFolder) -> str | None:
    """URL of the file of links; None if there never were any."""
    names = _names(folder)
    return folder.url_of(f"{FOLDER}/{names[-1]}") if names else None


def sync_links(store: Store, folder: LinkFolder, *, erased: bool = False) -> None:
    """Write the file of links if it is not the present one; `erased` deletes all earlier files.

    It may be repeated, and is exclusive to the holder of the lake's lock.
    """
    names = _names(folder)
    if not names and store.identities.find_one({}, {"_id": 1}) is None:
        return
    state = _state(store)
    if erased or not names or not names[-1].endswith(f"-{state}{_SUFFIX}"):
        generation = int(names[-1].partition("-")[0]) + 1 if names else 1
        name = f"{generation:08d}-{state}{_SUFFIX}"
        _write(folder, name, _table(store))
        names.append(name)
    for name in names[: -1 if erased else -FILES_KEPT]:
        folder.filesystem.delete_file(folder.path_of(f"{FOLDER}/{name}"))


def _names(folder: LinkFolder) -> list[str]:
    """File names in the order in which they were written."""
    selector = fs.FileSelector(folder.path_of(FOLDER), allow_not_found=True)
    infos = folder.filesystem.get_file_info(selector)
    return sorted(info.base_name for info in infos if info.is_file and info.base_name.endswith(_SUFFIX))


def _state(store: Store) -> str:
    """Changes whenever links may have changed: with the collection, a window with links, or an undo."""
    collections = list(store.database.list_collections(filter={"name": store.identities.name}))
    identity = collections[0]["info"]["uuid"].hex() if collections else ""
    windows = store.ledger.count_documents({"links": {"$gt": 0}, "state": "committed"})
    undone = store.ledger.count_documents({"undone": {"$exists": True}})
    done = store.ledger.count_documents({"undone": {"$exists": True}, "state": "done"})
    text = f"{identity} {windows} {undone} {done}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _table(store: Store) -> pa.Table:
    links = sorted(read_links(store))
    columns = [list(column) for column in zip(*links, strict=True)] or [[], [], []]
    arrays = [
        pa.array(column, kind)
        for column, kind in zip(columns, (pa.string(), pa.string(), pa.int64()), strict=True)
    ]
    return pa.table([*arrays[:2], arrays[2].cast(LINKS_ARROW.field("linked_at").type)], schema=LINKS_ARROW)


def _write(folder: LinkFolder, name: str, table: pa.Table) -> None:
    filesystem, path = folder.filesystem, folder.path_of(f"{FOLDER}/{name}")
    if filesystem.type_name != "local":
        # An object store creates the object when its stream is closed.
        pq.write_table(table, path, filesystem=filesystem)
        return
    filesystem.create_dir(folder.path_of(FOLDER))
    pq.write_table(table, f"{path}.tmp", filesystem=filesystem)
    filesystem.move(f"{path}.tmp", path)
