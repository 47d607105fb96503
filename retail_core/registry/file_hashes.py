"""SHA-256 of the files of a registered model, stored as a tag of its version and compared when they are read.

The self-test of a loaded model covers its probabilities only: a threshold that has another digit passes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from retail_core.errors import IntegrityError

TAG = "file_hashes"

_ADDED_BY_MLFLOW = {"registered_model_meta"}
"""Files that a download adds."""


def hash_files(folder: Path) -> str:
    """The tag's value for the files below a folder: a JSON object of relative paths and hashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _ADDED_BY_MLFLOW)
    return json.dumps({path.relative_to(folder).as_posix(): _hash(path) for path in files})


def verify_files(folder: Path, tags: Mapping[str, str], version: str, *, only: str | None = None) -> None:
    """Compare the files below a folder with the tag; versions of releases before the tag have none.

    Args:
        folder: of the model, with the files to compare.
        tags: of the version.
        version: for messages.
        only: a single file to compare.

    Raises:
        IntegrityError: a file is missing or is not the one that was registered.
    """
    registered: dict[str, str] = json.loads(tags.get(TAG, "{}"))
    for name in [only] if only else registered:
        path = folder / name
        if name not in registered:
            continue
        if not path.is_file():
            raise _damaged(version, f"{path} is missing")
        if _hash(path) != registered[name]:
            raise _damaged(version, f"{path} is not the file that was registered")


def _damaged(version: str, what: str) -> IntegrityError:
    return IntegrityError(
        f"Version {version} is damaged: {what}.",
        remedy="restore the file from a backup, or run `retail train`.",
    )


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
