"""Erase a user from the lake: files with rows of the user are rewritten without them and then deleted."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from retail_core.settings import Settings
from retail_core.store.lake.folder import LakeFolder
from retail_core.store.lake.link_file import sync_links
from retail_core.store.lake.manifest import LakeFile, Manifest
from retail_core.store.lake.merge import merge
from retail_core.store.lake.table import EVENT_KEYS, USER_KEYS
from retail_core.store.mongo.connection import Store

PREDICTIONS = "predictions"


def count_in_lake(settings: Settings, user_id: str) -> dict[str, int]:
    """Number of the user's rows in the lake: `lake_events`, `lake_attributes`, `lake_predictions`.

    Raises:
        IntegrityError: the manifest is damaged.
    """
    folder = LakeFolder(settings.lake_url)
    manifest = folder.read_manifest() or Manifest()
    days = [_row_count(folder, file.path, user_id) for file in manifest.days.values()]
    return {
        "lake_events": sum(days),
        "lake_attributes": _row_count(folder, manifest.users.path, user_id) if manifest.users else 0,
        "lake_predictions": sum(_row_count(folder, path, user_id) for path in _prediction_files(folder)),
    }


def erase_from_lake(settings: Settings, user_id: str) -> None:
    """Remove the user's events, attributes and predictions, also from superseded files.

    A killed erasure can be repeated: each file is replaced in one step. The files of a reader that pinned an
    earlier state are deleted.

    Raises:
        IntegrityError: the manifest is damaged.
    """
    folder = LakeFolder(settings.lake_url)
    with folder.locked(settings.home_dir):
        present = folder.read_manifest()
        if present is not None:
            after = _without_user(folder, present, user_id)
            folder.write_manifest(after)
            folder.delete_except(after.protected_paths)
        for path in _prediction_files(folder):
            if _row_count(folder, path, user_id):
                remaining = _read(folder, path, pc.field("user_id") != user_id)
                folder.write(path, partial(pq.write_table, remaining))


def erase_links_from_lake(store: Store) -> None:
    """Write the file of identity links without those removed from MongoDB, and delete all earlier files."""
    folder = LakeFolder(store.settings.lake_url)
    with folder.locked(store.settings.home_dir):
        sync_links(store, folder, erased=True)


def _without_user(folder: LakeFolder, present: Manifest, user_id: str) -> Manifest:
    generation = present.generation + 1
    days = {
        day: _rewritten(folder, file, f"events/day={day}/{generation:08d}.parquet", user_id, EVENT_KEYS)
        for day, file in present.days.items()
    }
    users = present.users and _rewritten(
        folder, present.users, f"users/{generation:08d}.parquet", user_id, USER_KEYS
    )
    remaining = {day: file for day, file in days.items() if file is not None}
    return replace(present, generation=generation, days=remaining, users=users, retired=())


def _rewritten(
    folder: LakeFolder, file: LakeFile, path: str, user_id: str, keys: tuple[str, ...]
) -> LakeFile | None:
    if not _row_count(folder, file.path, user_id):
        return file
    remaining = _read(folder, file.path, pc.field("user_id") != user_id)
    return merge(folder, path, [remaining], None, keys) if len(remaining) else None


def _row_count(folder: LakeFolder, path: str, user_id: str) -> int:
    return len(_read(folder, path, pc.field("user_id") == user_id, ["user_id"]))


def _read(
    folder: LakeFolder, path: str, condition: pc.Expression, columns: list[str] | None = None
) -> pa.Table:
    return pq.read_table(
        folder.path_of(path),
        filesystem=folder.filesystem,
        columns=columns,
        filters=condition,
        partitioning=None,
    )


def _prediction_files(folder: LakeFolder) -> list[str]:
    selector = fs.FileSelector(folder.path_of(PREDICTIONS), recursive=True, allow_not_found=True)
    root = folder.path_of("")
    infos = folder.filesystem.get_file_info(selector)
    paths = [info.path.removeprefix(root) for info in infos if info.is_file]
    return sorted(path for path in paths if path.endswith(".parquet"))
