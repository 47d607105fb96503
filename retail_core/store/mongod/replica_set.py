"""Replica set of one member, which retryable writes need."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

REPLICA_SET = "rs0"
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
