"""Authentication of the embedded server: one key, known to its home's owner only.

The key is the server's key file, which switches authentication on, and the password of its one user. Until
that user exists, MongoDB's localhost exception lets the first command create it.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from retail_core.errors import DependencyError
from retail_core.file_locks import write_atomically

USER = "retail"
_KEY_BYTES = 48
_UNAUTHORIZED = 13
_AUTHENTICATION_FAILED = 18

Client = MongoClient[dict[str, Any]]


def ensure_key(path: Path) -> str:
    """The key in the file `path`, which is created with mode 0600 if it is absent.

    Raises:
        OSError: the file cannot be read or written.
    """
    if not path.exists():
        write_atomically(path, secrets.token_hex(_KEY_BYTES), mode=0o600)
    return path.read_text().strip()


def connect(port: int, key: str, appname: str) -> Client:
    """Client of the server at `port` of this machine, as its user."""
    return Client(
        "127.0.0.1",
        port,
        directConnection=True,
        serverSelectionTimeoutMS=5_000,
        appname=appname,
        username=USER,
        password=key,
    )


def connect_before_first_user(port: int, appname: str) -> Client:
    """Client of the server at `port` without a user, which may configure it and create the first user."""
    return Client("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=5_000, appname=appname)


def is_key_accepted(client: Client) -> bool:
    """Whether the server accepts the client's key; False also if the user does not exist yet.

    Raises:
        PyMongoError: the server does not answer.
    """
    try:
        client.admin.command("ping")
    except OperationFailure as error:
        if error.code == _AUTHENTICATION_FAILED:
            return False
        raise
    return True


def create_user(client: Client, key: str) -> None:
    """Create the server's user with password `key`; `client` is one before the first user.

    Raises:
        PyMongoError: the server does not answer, or has a user.
    """
    client.admin.command("createUser", USER, pwd=key, roles=["root"])


def change_key(client: Client, key: str) -> None:
    """Make `key` the password of the server's user; repeating it changes nothing.

    Raises:
        PyMongoError: the server does not answer.
    """
    client.admin.command("updateUser", USER, pwd=key)


def wrong_key(error: PyMongoError, key_file: Path) -> DependencyError | None:
    """The error to raise if the server has a user whose password is not the key in `key_file`, else None.

    Args:
        error: raised for a command of a client before the first user.
        key_file: the home's key.
    """
    if not isinstance(error, OperationFailure) or error.code != _UNAUTHORIZED:
        return None
    return DependencyError(
        f"The embedded MongoDB server does not accept the key in {key_file}.",
        remedy="restore this file from a backup of the home.",
    )
