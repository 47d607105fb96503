"""Where a restore reads which users have been erased since: a newer backup, or the home itself."""

from __future__ import annotations

from pathlib import Path

import bson
from bson.codec_options import CodecOptions

from retail_core.backup.backup_manifest import COLLECTIONS_FOLDER, MANIFEST_FILE, read_manifest, verify_file
from retail_core.errors import InputError
from retail_core.privacy.erasure_log import ErasureLog
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Document, open_store

_FILE = f"{COLLECTIONS_FOLDER}/erasures.bson"
_AWARE: CodecOptions[Document] = CodecOptions(tz_aware=True)


def read_erasures(place: Path, settings: Settings, database: str) -> ErasureLog:
    """The record of erasures in a backup, or of the embedded database of a home.

    Args:
        place: folder of the backup or home.
        settings: of the restore, for everything but home and database.
        database: name of the home's database.

    Raises:
        InputError: the folder is neither, or the home that is restored into.
        IntegrityError: the backup is damaged.
        DependencyError: the home's database cannot be opened.
    """
    folder = place.expanduser().absolute()
    if (folder / MANIFEST_FILE).is_file():
        return _of_backup(folder)
    if not (folder / "mongo" / "data").is_dir() or folder == settings.home_dir:
        raise InputError(
            f"{folder} is neither a backup nor another home with an embedded database.",
            remedy="write a backup of that home with `retail backup`, and name it.",
        )
    home = {"home": folder, "mongodb_uri": None, "mongodb_database": database}
    with open_store(settings.model_copy(update=home)) as store:
        return ErasureLog.from_documents(store.erasures.find())


def _of_backup(folder: Path) -> ErasureLog:
    manifest = read_manifest(folder)
    if _FILE not in manifest.files:
        return ErasureLog(b"", {})
    verify_file(folder, _FILE, manifest.files[_FILE])
    return ErasureLog.from_documents(bson.decode_all((folder / _FILE).read_bytes(), _AWARE))
