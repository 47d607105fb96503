"""Versions of the lake's tables that a training has read, whose files are kept for a training to be repeated.

A pin is a small file below `pins/TABLE`, named after the table's id and version; its age is that of the file.
"""

from __future__ import annotations

import time

from pyarrow import fs

from retail_core.errors import DependencyError
from retail_core.store.lake.delta_table import LakeTable

FOLDER = "pins"
_DAY_NS = 24 * 3600 * 10**9
_CONTENT = b"A training has read this version of the table; see the setting lake_retention_days.\n"


def pin_version(table: LakeTable) -> None:
    """Keep the files of this version; pinning it again renews the pin.

    Raises:
        DependencyError: the lake cannot be written.
    """
    location, folder = table.location, f"{FOLDER}/{table.spec.name}"
    path = location.path_of(f"{folder}/{table.table_id}-{table.version}")
    try:
        if location.is_local:
            location.filesystem.create_dir(location.path_of(folder))
        with location.filesystem.open_output_stream(path) as stream:
            stream.write(_CONTENT)
    except OSError as error:
        raise DependencyError(
            f"The lake at {location.url_of('')} cannot be written: {error}.",
            remedy="free space or correct RETAIL_LAKE, and run the command again.",
        ) from error


def pinned_files(table: LakeTable, retention_days: int) -> set[str]:
    """Paths of the files of all pinned versions of the table; older pins are deleted.

    Args:
        table: any version of the table.
        retention_days: age at which a pin ends.
    """
    paths: set[str] = set()
    for version in _pinned_versions(table, retention_days):
        past = LakeTable.open_version(table.location, table.spec, version)
        if past is not None:
            paths |= {file.path for file in past.files}
    return paths


def _pinned_versions(table: LakeTable, retention_days: int) -> list[int]:
    location, folder = table.location, f"{FOLDER}/{table.spec.name}"
    selector = fs.FileSelector(location.path_of(folder), allow_not_found=True)
    oldest = time.time_ns() - retention_days * _DAY_NS
    versions = []
    for pin in location.filesystem.get_file_info(selector):
        table_id, _, version = pin.base_name.rpartition("-")
        if (pin.mtime_ns or 0) < oldest:
            location.delete(f"{folder}/{pin.base_name}")
        elif table_id == table.table_id and version.isdecimal():
            versions.append(int(version))
    return versions
