"""`python -m retail_core.stack.provision_mongod MEMBER`: prepare a new `mongod` with a key file.

compose.yaml runs it on the server's own host: until the first user exists, MongoDB's localhost exception
lets whoever connects from there configure the server. It initiates the replica set, then creates an
administrator and the user of this project, who may read and write one database. It can be run again, and then
sets a new password of that user.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from retail_core.store.mongod.replica_set import initiate_replica_set

ADMINISTRATOR = "admin"
USER = "retail"
PORT = 27_017
PRIMARY_SECONDS = 60.0
POLL_SECONDS = 0.2
_UNAUTHORIZED = 13
_AUTHENTICATION_FAILED = 18
_USER_EXISTS = 51_003

Client = MongoClient[dict[str, Any]]


@dataclass(frozen=True)
class Accounts:
    """Passwords of the two users, and the database of the project's user."""

    administrator_password: str
    password: str
    database: str


def provision(port: int, member_address: str, accounts: Accounts) -> bool:
    """Prepare the server of this host at `port`; whether it was new.

    Args:
        port: of a `mongod` with `--replSet rs0` and `--keyFile`.
        member_address: host:port at which clients reach it.
        accounts: the users that it has afterwards.

    Raises:
        PyMongoError: the server does not answer or refuses the administrator's password.
        TimeoutError: it does not become primary.
    """
    with _connect(port, accounts.administrator_password) as administrator:
        is_new = not _is_accepted(administrator)
    if is_new:
        with _connect(port, None) as client:
            initiate_replica_set(client, member_address)
            _wait_for_primary(client)
            client.admin.command(
                "createUser", ADMINISTRATOR, pwd=accounts.administrator_password, roles=["root"]
            )
    with _connect(port, accounts.administrator_password) as administrator:
        _wait_for_primary(administrator)
        _set_user(administrator, accounts)
    return is_new


def _set_user(administrator: Client, accounts: Accounts) -> None:
    database = administrator[accounts.database]
    roles = [{"role": "readWrite", "db": accounts.database}]
    try:
        database.command("createUser", USER, pwd=accounts.password, roles=roles)
    except OperationFailure as error:
        if error.code != _USER_EXISTS:
            raise
        database.command("updateUser", USER, pwd=accounts.password, roles=roles)


def _connect(port: int, password: str | None) -> Client:
    credentials: dict[str, Any] = {}
    if password is not None:
        credentials = {"username": ADMINISTRATOR, "password": password}
    return Client("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=30_000, **credentials)


def _is_accepted(administrator: Client) -> bool:
    try:
        administrator.admin.command("ping")
    except OperationFailure as error:
        if error.code != _AUTHENTICATION_FAILED:
            raise
        return False
    return True


def _wait_for_primary(client: Client) -> None:
    end = time.monotonic() + PRIMARY_SECONDS
    while not client.admin.command("hello")["isWritablePrimary"]:
        if time.monotonic() > end:
            raise TimeoutError("the server does not become primary")
        time.sleep(POLL_SECONDS)


def accounts_from(variables: Mapping[str, str]) -> Accounts:
    """The accounts that MONGO_ADMIN_PASSWORD, MONGO_PASSWORD and RETAIL_MONGODB_DATABASE name.

    Raises:
        KeyError: a password is not set.
    """
    database = variables.get("RETAIL_MONGODB_DATABASE") or "retail"
    return Accounts(variables["MONGO_ADMIN_PASSWORD"], variables["MONGO_PASSWORD"], database)


def main(port: int = PORT) -> int:
    """Prepare the server of this host, whose clients reach it at `sys.argv[1]`; the exit code."""
    member_address = sys.argv[1]
    try:
        is_new = provision(port, member_address, accounts_from(os.environ))
    except KeyError as error:
        print(f"{error.args[0]} is not set.", file=sys.stderr)  # noqa: T201
        return 1
    except (PyMongoError, TimeoutError) as error:
        is_refused = isinstance(error, OperationFailure) and error.code == _UNAUTHORIZED
        reason = "it has another MONGO_ADMIN_PASSWORD than this one" if is_refused else error
        print(f"{member_address} cannot be prepared: {reason}.", file=sys.stderr)  # noqa: T201
        return 3
    print(f"{member_address}: {'prepared' if is_new else 'was prepared already'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
