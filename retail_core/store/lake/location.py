"""Where the lake is: a local folder or an object store, as pyarrow, delta-rs and DuckDB each need it."""

from __future__ import annotations

import hashlib
import re
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from pyarrow import fs

from retail_core.errors import InputError
from retail_core.file_locks import exclusive_lock
from retail_core.s3_variables import s3_endpoint, s3_region

_UNUSABLE = re.compile(r"[\[\]|^`\\]|%[0-9A-Fa-f]{2}")
_S3_OPTIONS = {"aws_conditional_put": "etag", "max_retries": "4", "retry_timeout": "30s"}
"""Commits are conditional puts, so that two writers cannot write the same version."""


class LakeLocation:
    """Files below one root; paths are relative to it, with forward slashes."""

    def __init__(self, url: str) -> None:
        """Open the root without reading it.

        Args:
            url: a folder, or a URL that `pyarrow.fs` knows (`file://`, `s3://`, `gs://`).

        Raises:
            InputError: the URL is of an unknown kind, or delta-rs cannot open the folder's path.
        """
        self.filesystem, root = open_url(url)
        if self.is_local:
            _refuse_unusable_folder(root)
        self._root = root.rstrip("/")
        self._prefix = "" if self.is_local else url.partition("://")[0] + "://"

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder of this machine."""
        return bool(self.filesystem.type_name == "local")

    @property
    def storage_options(self) -> dict[str, str]:
        """Options of delta-rs, which reads the credentials and the endpoint from the environment."""
        if self._prefix != "s3://":
            return {}
        endpoint = s3_endpoint()
        if not endpoint:
            return dict(_S3_OPTIONS)
        allow_http = str(endpoint.startswith("http://")).lower()
        return _S3_OPTIONS | {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": allow_http}

    def path_of(self, path: str) -> str:
        """Path in `filesystem`."""
        return f"{self._root}/{path}"

    def url_of(self, path: str) -> str:
        """Absolute path or URL, for DuckDB, Spark and pandas."""
        return self._prefix + self.path_of(path)

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return bool(self.filesystem.get_file_info(self.path_of(path)).type != fs.FileType.NotFound)

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file below `folder`, by path below it."""
        root = self.path_of(folder)
        selector = fs.FileSelector(root, recursive=True, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return {info.path.removeprefix(f"{root}/"): info.size for info in infos if info.is_file}

    def delete(self, path: str) -> None:
        """Delete a file; without it nothing happens."""
        with suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path_of(path))

    def delete_folder(self, path: str) -> None:
        """Delete a folder with all files; without it nothing happens."""
        with suppress(FileNotFoundError):
            self.filesystem.delete_dir(self.path_of(path))

    def locked(self, home: Path) -> AbstractContextManager[None]:
        """Exclusive lock that saves concurrent writers work; conflicting commits are refused without it too.

        The lock file of a local lake is inside it. That of an object store is in `home`, so it only excludes
        processes of the same home.
        """
        if self.is_local:
            return exclusive_lock(Path(self._root) / "sync.lock")
        name = hashlib.blake2b(self.url_of("").encode(), digest_size=6).hexdigest()
        return exclusive_lock(home / f"lake-{name}.lock")


def _refuse_unusable_folder(root: str) -> None:
    """Refuse a path that delta-rs 1.6 would decode a second time, or end the process for."""
    unusable = _UNUSABLE.search(root)
    if unusable:
        raise InputError(
            f"The lake's folder {root} has {unusable.group()} in its path, which delta-rs cannot open.",
            remedy="set RETAIL_LAKE to a folder without [ ] | ^ ` \\, and % before two of 0-9, a-f.",
        )


def has_lake(url: str) -> bool:
    """Whether any release has written a lake there; needs no delta-rs, which the service's image lacks.

    Raises:
        InputError: the URL is of an unknown kind.
    """
    location = LakeLocation(url)
    return any(location.exists(path) for path in ("events/_delta_log", "manifest.json"))


def open_url(url: str) -> tuple[fs.FileSystem, str]:
    """File system and path of a local path or URL.

    Raises:
        InputError: the URL is of an unknown kind.
    """
    if "://" not in url:
        return fs.LocalFileSystem(), str(Path(url).expanduser().absolute())
    try:
        endpoint = s3_endpoint()
        if endpoint and url.startswith("s3://"):
            return _s3_at(endpoint), url.removeprefix("s3://")
        filesystem, root = fs.FileSystem.from_uri(url)
    except (ValueError, OSError) as error:
        shown = url.split("?", 1)[0].rsplit("@", 1)[-1]
        raise InputError(
            f"The lake {shown} is not a usable folder or URL.",
            remedy="set RETAIL_LAKE to a folder or to a URL such as s3://bucket/lake.",
        ) from error
    return filesystem, str(root)


def open_files(urls: list[str]) -> list[tuple[Any, list[str]]]:
    """Each file system that holds some of the files, with their paths in it.

    A lake in an object store is read together with a local file where a part of it was written anew.
    """
    kinds: dict[str, list[str]] = {}
    for url in urls:
        kinds.setdefault(url.partition("://")[0] if "://" in url else "", []).append(url)
    return [
        (open_url(group[0])[0], [url.partition("://")[2] if kind else url for url in group])
        for kind, group in kinds.items()
    ]


def _s3_at(endpoint: str) -> fs.FileSystem:
    """An S3 file system at an endpoint of one's own, without asking Amazon for the bucket's region."""
    scheme, _, host = endpoint.rstrip("/").partition("://")
    return fs.S3FileSystem(endpoint_override=host, scheme=scheme, region=s3_region())
