"""Erasing a user from the lake: files that hold the user are written anew without, the old ones removed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from retail_core.settings import Settings
from retail_core.store.lake.folder import LakeFolder
from retail_core.store.lake.manifest import LakeFile, Manifest
from retail_core.store.lake.merge import merge
from retail_core.store.lake.table import EVENT_KEYS, USER_KEYS

PREDICTIONS = "predictions"


def count_in_lake(settings: Settings, user_id: str) -> dict[str, int]:
    """How many rows of the user the lake holds: `lake_events`, `lake_attributes`, `lake_predictions`."""
    folder = LakeFolder(settings.lake_url)
    manifest = folder.read_manifest() or Manifest()
    days = [_rows(folder, one.path, user_id) for one in manifest.days.values()]
    return {
        "lake_events": sum(days),
        "lake_attributes": _rows(folder, manifest.users.path, user_id) if manifest.users else 0,
        "lake_predictions": sum(_rows(folder, path, user_id) for path in _mirrored(folder)),
    }


def erase_from_lake(settings: Settings, user_id: str) -> None:
    """Remove the user's events, attributes and predictions, from superseded files as well.

    May be killed at any instant: each file appears whole, and the next run removes what was left. A reader
    that pinned an earlier state may find its files gone.

    Raises:
        IntegrityError: the manifest is damaged.
    """
    folder = LakeFolder(settings.lake_url)
    with folder.locked(settings.home_dir):
        present = folder.read_manifest()
        if present is not None:
            after = _without(folder, present, user_id)
            folder.write_manifest(after)
            folder.sweep(after.kept)
        for path in _mirrored(folder):
            if _rows(folder, path, user_id):
                rest = _read(folder, path, pc.field("user_id") != user_id)
                folder.write(path, partial(pq.write_table, rest))


def _without(folder: LakeFolder, present: Manifest, user_id: str) -> Manifest:
    generation = present.generation + 1
    days = {
        day: _rewritten(folder, one, f"events/day={day}/{generation:08d}.parquet", user_id, EVENT_KEYS)
        for day, one in present.days.items()
    }
    users = present.users and _rewritten(
        folder, present.users, f"users/{generation:08d}.parquet", user_id, USER_KEYS
    )
    left = {day: one for day, one in days.items() if one is not None}
    return replace(present, generation=generation, days=left, users=users, retired=())


def _rewritten(
    folder: LakeFolder, file: LakeFile, path: str, user_id: str, keys: tuple[str, ...]
) -> LakeFile | None:
    if not _rows(folder, file.path, user_id):
        return file
    rest = _read(folder, file.path, pc.field("user_id") != user_id)
    return merge(folder, path, [rest], None, keys) if len(rest) else None


def _rows(folder: LakeFolder, path: str, user_id: str) -> int:
    return len(_read(folder, path, pc.field("user_id") == user_id, ["user_id"]))


def _read(folder: LakeFolder, path: str, wanted: pc.Expression, columns: list[str] | None = None) -> pa.Table:
    return pq.read_table(
        folder.path_of(path),
        filesystem=folder.filesystem,
        columns=columns,
        filters=wanted,
        partitioning=None,
    )


def _mirrored(folder: LakeFolder) -> list[str]:
    selector = fs.FileSelector(folder.path_of(PREDICTIONS), recursive=True, allow_not_found=True)
    root = folder.path_of("")
    found = [one.path.removeprefix(root) for one in folder.filesystem.get_file_info(selector) if one.is_file]
    return sorted(path for path in found if path.endswith(".parquet"))
