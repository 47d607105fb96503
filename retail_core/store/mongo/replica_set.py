"""`python -m retail_core.store.mongo.replica_set URI MEMBER`: make a fresh mongod a replica set of one."""

from __future__ import annotations

import sys

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from retail_core.store.mongo.connection import Document

ALREADY = 23
SELECT_SECONDS = 60


def initiate(uri: str, member: str) -> bool:
    """Initiate `rs0` with the one member (host:port as its clients reach it); False where it was before.

    Raises:
        PyMongoError: the server does not answer.
    """
    client: MongoClient[Document] = MongoClient(
        uri, directConnection=True, serverSelectionTimeoutMS=SELECT_SECONDS * 1000
    )
    with client:
        config = {"_id": "rs0", "members": [{"_id": 0, "host": member}]}
        try:
            client.admin.command("replSetInitiate", config)
        except OperationFailure as error:
            if error.code == ALREADY:
                return False
            raise
    return True


def main() -> int:
    """Command line."""
    uri, member = sys.argv[1:]
    try:
        made = initiate(uri, member)
    except PyMongoError as error:
        print(f"{member}: {error}", file=sys.stderr)  # noqa: T201
        return 3
    print(f"{member}: {'is a replica set now' if made else 'is a replica set already'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
