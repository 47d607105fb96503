"""Replica set of one member, which retryable writes need.

`python -m retail_core.store.mongod.replica_set URI MEMBER` initiates it on a server that runs elsewhere, as
in compose.yaml; the embedded server uses the same function.
"""

from __future__ import annotations

import sys
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

REPLICA_SET = "rs0"
SERVER_SECONDS = 60
_ALREADY_INITIALIZED = 23


def replica_set_config(member_address: str) -> dict[str, Any]:
    """Configuration of `rs0` with one member."""
    return {"_id": REPLICA_SET, "members": [{"_id": 0, "host": member_address}]}


def initiate_replica_set(client: MongoClient[dict[str, Any]], member_address: str) -> bool:
    """Initiate `rs0` with one member; False if the server has a replica set already.

    Args:
        client: direct connection to the server.
        member_address: host:port at which clients reach it.

    Raises:
        PyMongoError: the server does not answer.
    """
    try:
        client.admin.command("replSetInitiate", replica_set_config(member_address))
    except OperationFailure as error:
        if error.code == _ALREADY_INITIALIZED:
            return False
        raise
    return True


def main() -> int:
    """Initiate the replica set of the server at `sys.argv[1]` with member `sys.argv[2]`; the exit code."""
    uri, member_address = sys.argv[1:]
    try:
        with MongoClient[dict[str, Any]](
            uri, directConnection=True, serverSelectionTimeoutMS=SERVER_SECONDS * 1000
        ) as client:
            initiated = initiate_replica_set(client, member_address)
    except PyMongoError as error:
        print(f"{member_address}: {error}", file=sys.stderr)  # noqa: T201
        return 3
    print(f"{member_address}: {'is a replica set now' if initiated else 'is a replica set already'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
