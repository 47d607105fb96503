"""Whether a data file of the lake is what was committed: its size, and the CRC-32 that its name ends with.

The checksum is in the name because a Delta log has no other place that survives checkpoints. A local file is
read in full once per process and again when its status changes; zlib computes about 4 GB/s. Objects of an
object store are not read for this unless asked for: whoever reads them verifies their page checksums.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from retail_core.store.lake.lake_file import LakeFile
from retail_core.store.lake.location import LakeLocation

_CHUNK_BYTES = 1 << 20
_THREADS = 4
_NAMED = re.compile(r"-([0-9a-f]{8})\.parquet$")

_verified: dict[str, tuple[int, ...]] = {}
"""Status of the local files whose checksum this process has verified, by path."""


def checksum(stream: IO[bytes]) -> str:
    """CRC-32 of the rest of a stream, eight hexadecimal digits."""
    value = 0
    while chunk := stream.read(_CHUNK_BYTES):
        value = zlib.crc32(chunk, value)
    return f"{value:08x}"


def damages(
    location: LakeLocation, folder: str, files: Sequence[LakeFile], *, read_objects: bool = False
) -> dict[LakeFile, str]:
    """Damaged files, with a sentence about each that names it.

    Args:
        location: of the lake.
        folder: of the table.
        files: which to check.
        read_objects: also read the objects of an object store.
    """
    if location.is_local:
        with ThreadPoolExecutor(_THREADS) as pool:
            reasons = list(pool.map(lambda file: _local_damage(location, folder, file), files))
    else:
        sizes = location.sizes(folder) if files else {}
        reasons = [_size_damage(sizes.get(file.path), file) for file in files]
        if read_objects:
            reasons = [
                reason or _object_damage(location, folder, file)
                for reason, file in zip(reasons, files, strict=True)
            ]
    return {
        file: f"{location.url_of(f'{folder}/{file.path}')} {reason}"
        for file, reason in zip(files, reasons, strict=True)
        if reason
    }


def _local_damage(location: LakeLocation, folder: str, file: LakeFile) -> str:
    path = location.path_of(f"{folder}/{file.path}")
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            return "is not a file"
        signature = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        reason = _size_damage(status.st_size, file)
        if reason or _verified.get(path) == signature:
            return reason
        with Path(path).open("rb", buffering=0) as stream:
            reason = _content_damage(checksum(stream), file)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or os.strerror(error.errno or 0)}"
    if not reason:
        _verified[path] = signature
    return reason


def _object_damage(location: LakeLocation, folder: str, file: LakeFile) -> str:
    with location.filesystem.open_input_stream(location.path_of(f"{folder}/{file.path}")) as stream:
        return _content_damage(checksum(stream), file)


def _size_damage(size: int | None, file: LakeFile) -> str:
    if size is None:
        return "is missing"
    return "" if size == file.size else f"has {size:,} bytes instead of {file.size:,}"


def _content_damage(content: str, file: LakeFile) -> str:
    named = _NAMED.search(file.path)
    if named is None:
        return "was not written by this program: its name has no checksum"
    return "" if content == named[1] else f"has other content than was committed (CRC-32 {content})"
