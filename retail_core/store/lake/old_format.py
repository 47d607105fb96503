"""The lake of releases before Delta Lake: a manifest with one Parquet file per day. It is replaced, not read.

MongoDB has everything that is in it, so the Delta tables are written from there. Only the files of
predictions are taken over as they are.
"""

from __future__ import annotations

import json
import re

import pyarrow.compute as pc
import pyarrow.parquet as pq

from retail_core.errors import InputError
from retail_core.store.lake.location import LakeLocation

MANIFEST = "manifest.json"
_FORMAT = 1
_FILES = re.compile(
    r"(?P<table>events/day=[0-9-]{10}/|users/)[0-9]{8}\.parquet(\.tmp)?"
    r"|predictions/as_of=(?P<run>[0-9TZ.]+)/version=(?P<version>[^/]+)\.parquet(\.tmp)?"
)


def has_old_format(location: LakeLocation) -> bool:
    """Whether a release before Delta Lake has written here.

    Raises:
        InputError: the manifest is of a format that no release up to this one has.
    """
    if not location.exists(MANIFEST):
        return False
    with location.filesystem.open_input_stream(location.path_of(MANIFEST)) as stream:
        text = stream.read().decode(errors="replace")
    try:
        stored = int(json.loads(text)["format"])
    except (ValueError, KeyError, TypeError):
        return True
    if stored > _FORMAT:
        raise InputError(
            f"The lake at {location.url_of('')} is of a newer release (format {stored}).",
            remedy="use that release, or set RETAIL_LAKE to another folder.",
        )
    return True


def old_files(location: LakeLocation) -> list[str]:
    """Paths of all data files of the old format."""
    folders = ("events", "users", "predictions")
    paths = (f"{folder}/{path}" for folder in folders for path in location.sizes(folder))
    return sorted(path for path in paths if _FILES.fullmatch(path))


def old_predictions(location: LakeLocation) -> list[tuple[str, str, str]]:
    """Path, cut-off of the run and model version of each old file of predictions."""
    matches = ((path, _FILES.fullmatch(path)) for path in old_files(location) if not path.endswith(".tmp"))
    return [(path, match["run"], match["version"]) for path, match in matches if match and match["run"]]


def count_old_rows(location: LakeLocation, user_id: str) -> dict[str, int]:
    """Rows of the user in the old files that the manifest names, and in those of predictions."""
    manifest = _manifest_paths(location)
    counts = {"events": 0, "users": 0, "predictions": 0}
    for path in old_files(location):
        folder = path.partition("/")[0]
        if not path.endswith(".tmp") and (folder == "predictions" or path in manifest):
            counts[folder] += pq.read_table(
                location.path_of(path),
                filesystem=location.filesystem,
                columns=["user_id"],
                filters=pc.field("user_id") == user_id,
                partitioning=None,
            ).num_rows
    return counts


def delete_old_files(location: LakeLocation) -> None:
    """Delete the old files; the manifest goes last, so that a killed deletion is completed by the next."""
    for path in old_files(location):
        location.delete(path)
    location.delete(MANIFEST)


def _manifest_paths(location: LakeLocation) -> set[str]:
    with location.filesystem.open_input_stream(location.path_of(MANIFEST)) as stream:
        text = stream.read().decode(errors="replace")
    return set(re.findall(r'"path": ?"([^"]+)"', text))
