"""Files of the lake in a local folder or an object store; a file appears when it is complete."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pyarrow import fs

from retail_core.errors import InputError
from retail_core.file_locks import exclusive_lock
from retail_core.store.lake.manifest import Manifest

MANIFEST = "manifest.json"
DATA = ("events", "users")
_TEMPORARY = ".tmp"


class LakeFolder:
    """Files below one root; paths are relative to it, with forward slashes."""

    def __init__(self, url: str, filesystem: fs.FileSystem | None = None) -> None:
        """Open the root without reading it.

        Args:
            url: a folder, or a URL that `pyarrow.fs` knows (`file://`, `s3://`, `gs://`, `hdfs://`).
            filesystem: if given, `url` is a path in it.

        Raises:
            InputError: the URL is of an unknown kind.
        """
        self._prefix = ""
        if filesystem is not None:
            self._fs, self._root = filesystem, url
        elif "://" in url:
            self._fs, self._root = _from_url(url)
            self._prefix = "" if self.is_local else url.partition("://")[0] + "://"
        else:
            self._fs, self._root = fs.LocalFileSystem(), str(Path(url).expanduser().absolute())
        self._root = self._root.rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder of this machine."""
        return bool(self._fs.type_name == "local")

    @property
    def filesystem(self) -> fs.FileSystem:
        """File system of `path_of`."""
        return self._fs

    def path_of(self, path: str) -> str:
        """Path in `filesystem`."""
        return f"{self._root}/{path}"

    def url_of(self, path: str) -> str:
        """Absolute path or URL, for DuckDB, Spark and pandas."""
        return self._prefix + self.path_of(path)

    def read_manifest(self) -> Manifest | None:
        """The committed manifest; None if nothing was committed.

        Raises:
            IntegrityError: the manifest is damaged.
        """
        try:
            with self._fs.open_input_stream(self.path_of(MANIFEST)) as stream:
                text = stream.read().decode(errors="replace")
        except FileNotFoundError:
            return None
        return Manifest.from_json(text, self.url_of(MANIFEST))

    def write_manifest(self, manifest: Manifest) -> None:
        """Commit `manifest`."""
        self.write(MANIFEST, lambda stream: stream.write(manifest.to_json().encode()))

    def write(self, path: str, fill: Callable[[Any], object]) -> int:
        """Replace `path` by what `fill` writes to a stream, in one step, and return its size in bytes."""
        final = self.path_of(path)
        if not self.is_local:
            # An object store creates the object when its stream is closed; there is no rename.
            with self._fs.open_output_stream(final) as stream:
                fill(stream)
        else:
            Path(final).parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(final + _TEMPORARY)
            with temporary.open("wb") as stream:
                fill(stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(final)
        return int(self._fs.get_file_info(final).size)

    def sizes(self) -> dict[str, int]:
        """Bytes by path of every data file, also of those that the manifest does not name."""
        sizes: dict[str, int] = {}
        for name in DATA:
            selector = fs.FileSelector(self.path_of(name), recursive=True, allow_not_found=True)
            for info in self._fs.get_file_info(selector):
                if info.type == fs.FileType.File:
                    sizes[info.path.removeprefix(f"{self._root}/")] = info.size
        return sizes

    def delete_except(self, keep: set[str]) -> None:
        """Delete data files that are not in `keep`: superseded ones and those of killed runs."""
        for path in set(self.sizes()) - keep:
            self._fs.delete_file(self.path_of(path))

    def locked(self, home: Path) -> AbstractContextManager[None]:
        """Exclusive lock on writing to this lake.

        The lock file of a local lake is inside it. That of an object store is in `home`, so it only excludes
        processes of the same home; only one home may write to such a lake.
        """
        if self.is_local:
            return exclusive_lock(Path(self._root) / "sync.lock")
        name = hashlib.blake2b(self.url_of("").encode(), digest_size=6).hexdigest()
        return exclusive_lock(home / f"lake-{name}.lock")


def _from_url(url: str) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, root = fs.FileSystem.from_uri(url)
    except (ValueError, OSError) as error:
        shown = url.split("?", 1)[0].rsplit("@", 1)[-1]
        raise InputError(
            f"The lake {shown} is not a usable folder or URL.",
            remedy="set RETAIL_LAKE to a folder or to a URL such as s3://bucket/lake.",
        ) from error
    return filesystem, str(root)
