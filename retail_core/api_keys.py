"""API keys of the service: names, scopes and the file of their hashes.

A key of the file is 256 random bits, which cannot be guessed from its SHA-256: a slow or salted hash would
add nothing, and would cost each request milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from retail_core.errors import InputError
from retail_core.file_locks import exclusive_lock, write_atomically
from retail_core.settings import Settings
from retail_core.times import iso

FORMAT = 1
PREFIX = "retail_"
"""First characters of a created key, by which secret scanners can recognize one."""

KEY_BYTES = 32
FILE_MODE = 0o600
CONFIGURED_NAME = "settings"
LOCAL_NAME = "local"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Scope(StrEnum):
    """What a key may do; each route of the service needs exactly one scope, or is public."""

    PREDICT = "predict"
    EVENTS = "events"
    BATCH = "batch"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True)
class ApiKey:
    """An accepted key, without the key itself.

    Attributes:
        name: unique name, for logs, rate limits and ownership.
        digest: SHA-256 of the key.
        scopes: what it may do.
        created: when it was created, UTC; None for keys of the settings.
    """

    name: str
    digest: bytes
    scopes: frozenset[Scope] = ALL_SCOPES
    created: datetime | None = None


LOCAL = ApiKey(LOCAL_NAME, b"")
"""Stands for the requests of this machine where no keys are set."""


def key_digest(key: bytes) -> bytes:
    """SHA-256 of a key."""
    return hashlib.sha256(key).digest()


def configured_keys(settings: Settings) -> list[ApiKey]:
    """The keys of the setting `api_keys`, named `settings-1`, `settings-2`, ..., with all scopes."""
    text = settings.api_keys.get_secret_value() if settings.api_keys else ""
    keys = [key.strip() for key in text.split(",") if key.strip()]
    return [
        ApiKey(f"{CONFIGURED_NAME}-{number}", key_digest(key.encode())) for number, key in enumerate(keys, 1)
    ]


def client_key(settings: Settings) -> str:
    """The key that the app and Prefect's automations send; empty where none is set."""
    if settings.client_key is not None:
        return settings.client_key.get_secret_value()
    text = settings.api_keys.get_secret_value() if settings.api_keys else ""
    return text.split(",")[0].strip()


def has_keys(settings: Settings) -> bool:
    """Whether any key is set, in the settings or in the file.

    Raises:
        InputError: as `read_keys`.
    """
    return bool(configured_keys(settings) or read_keys(settings.api_keys_path))


def read_keys(path: Path) -> list[ApiKey]:
    """The keys of the file in the order of their creation; none without a file.

    Raises:
        InputError: it is not a file of keys, or others than its owner may read or write it.
    """
    try:
        with path.open("rb") as stream:
            _check_mode(path, os.fstat(stream.fileno()))
            content = json.loads(stream.read())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    try:
        if content["format"] != FORMAT:
            raise _unreadable(path, f"its format is {content['format']!r}, not {FORMAT}")
        keys = [_key_of(entry) for entry in content["keys"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, f"its content is damaged ({type(error).__name__}: {error})") from error
    if len({key.name for key in keys}) < len(keys):
        raise _unreadable(path, "two keys have the same name")
    return keys


def add_key(path: Path, name: str, scopes: Iterable[Scope], at: datetime) -> str:
    """Create a key, store its hash under the name, and return the key, which is stored nowhere.

    Args:
        path: the file of keys; created if it does not exist.
        name: letters, digits, `.`, `_` and `-`, up to 63.
        scopes: what the key may do.
        at: the wall clock, aware.

    Raises:
        InputError: the name is taken, reserved or has other characters; there are no scopes; as `read_keys`.
    """
    granted = frozenset(scopes)
    _check_name(name)
    if not granted:
        raise InputError(f"The key {name} has no scope.", remedy=f"give some of: {', '.join(Scope)}.")
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    with exclusive_lock(_lock_of(path)):
        keys = read_keys(path)
        if any(present.name == name for present in keys):
            raise InputError(
                f"There is a key named {name} already.",
                remedy=f"choose another name, or remove it first: `retail keys remove {name}`.",
            )
        _write(path, [*keys, ApiKey(name, key_digest(key.encode()), granted, at)])
    return key


def remove_key(path: Path, name: str) -> int:
    """Remove a key and return the number of those that remain. The file stays, also without keys.

    Raises:
        InputError: there is no key of this name; as `read_keys`.
    """
    with exclusive_lock(_lock_of(path)):
        keys = read_keys(path)
        remaining = [key for key in keys if key.name != name]
        if len(remaining) == len(keys):
            names = ", ".join(key.name for key in keys) or "none"
            raise InputError(f"There is no key named {name}.", remedy=f"the names are: {names}.")
        _write(path, remaining)
    return len(remaining)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    entries = [
        {
            "name": key.name,
            "sha256": key.digest.hex(),
            "scopes": sorted(key.scopes),
            "created": iso(key.created) if key.created else None,
        }
        for key in keys
    ]
    write_atomically(path, json.dumps({"format": FORMAT, "keys": entries}, indent=1) + "\n", FILE_MODE)


def _key_of(entry: dict[str, Any]) -> ApiKey:
    name, digest = str(entry["name"]), str(entry["sha256"])
    if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"name {name!r} or its hash")
    created = entry.get("created")
    return ApiKey(
        name,
        bytes.fromhex(digest),
        frozenset(Scope(scope) for scope in entry["scopes"]),
        datetime.fromisoformat(created) if created else None,
    )


def _check_name(name: str) -> None:
    is_reserved = name == LOCAL_NAME or name.startswith(f"{CONFIGURED_NAME}-")
    if is_reserved or not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a key.",
            remedy="use letters, digits, `.`, `_` and `-`, up to 63, such as `crm`; "
            f"`{LOCAL_NAME}` and `{CONFIGURED_NAME}-...` are reserved.",
        )


def _check_mode(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise InputError(
            f"Others than its owner may read or write {path} (mode {mode:04o}).",
            remedy=f"`chmod 600 {path}`, and replace the keys that others may have changed.",
        )
    if status.st_uid not in {0, os.geteuid()}:
        raise InputError(
            f"{path} belongs to another user (uid {status.st_uid}).", remedy="make it this user's own."
        )


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"The file of API keys {path} cannot be read: {reason}.",
        remedy="restore or delete it, and create keys with `retail keys add`.",
    )
