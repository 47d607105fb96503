"""The connection to MongoDB and the names and indexes of every collection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from pymongo import ASCENDING, IndexModel, MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, ConfigurationError, InvalidURI, OperationFailure, PyMongoError

from retail_core.errors import DependencyError, InputError
from retail_core.settings import Settings
from retail_core.store.mongod.embedded import ensure_mongod

Document = dict[str, Any]
SELECT_SECONDS = 10
LOG_SECONDS = 30 * 24 * 3600
"""MongoDB drops entries of the prediction log after 30 days."""

_REFUSED = (13, 18)
_DUPLICATE = 11_000


def _index(*names: str, unique: bool = False, partial: bool = False) -> IndexModel:
    """`partial`: only of documents that have the (first) field."""
    having = {"partialFilterExpression": {names[0]: {"$exists": True}}} if partial else {}
    return IndexModel([(name, ASCENDING) for name in names], unique=unique, **having)


INDEXES: dict[str, list[IndexModel]] = {
    "events": [_index("user_id", "event_time"), _index("window_id")],
    "users": [_index("user_id", "valid_from"), _index("window_id")],
    "predictions": [_index("user_id", "as_of", "model_version", unique=True), _index("as_of")],
    "outcomes": [_index("user_id", "as_of", "model_version", unique=True), _index("as_of")],
    "prediction_log": [_index("user_id"), IndexModel([("at", ASCENDING)], expireAfterSeconds=LOG_SECONDS)],
    "audiences": [_index("user_id"), _index("audience")],
    "quarantine": [_index("state"), _index("file_id"), _index("row", unique=True, partial=True)],
    "ingest_ledger": [_index("window_id")],
}
"""Indexes by collection; `_id` is always there."""


@dataclass(frozen=True)
class Store:
    """An open database. Writes are acknowledged by a majority and retried once; times are aware UTC."""

    settings: Settings
    client: MongoClient[Document]
    database: Database[Document]

    @property
    def events(self) -> Collection[Document]:
        """The record of what users did; `_id` is the event id."""
        return self.database["events"]

    @property
    def users(self) -> Collection[Document]:
        """User attributes, each valid from an instant on."""
        return self.database["users"]

    @property
    def predictions(self) -> Collection[Document]:
        """One document per user, as_of and model version; read them through `store.predictions`."""
        return self.database["predictions"]

    @property
    def outcomes(self) -> Collection[Document]:
        """Matured predictions."""
        return self.database["outcomes"]

    @property
    def prediction_windows(self) -> Collection[Document]:
        """Which (as_of, model version) windows of predictions and outcomes are whole."""
        return self.database["prediction_windows"]

    @property
    def ledger(self) -> Collection[Document]:
        """Files and windows of ingestion."""
        return self.database["ingest_ledger"]

    @property
    def quarantine(self) -> Collection[Document]:
        """What was refused, and why."""
        return self.database["quarantine"]

    @property
    def promotions(self) -> Collection[Document]:
        """Append-only log of promotions and rollbacks."""
        return self.database["promotions"]

    @property
    def trigger_checks(self) -> Collection[Document]:
        """Every check of the retraining triggers."""
        return self.database["trigger_checks"]

    @property
    def audiences(self) -> Collection[Document]:
        """Whom to contact, with the control group."""
        return self.database["audiences"]

    @property
    def prediction_log(self) -> Collection[Document]:
        """What the service answered, for 30 days."""
        return self.database["prediction_log"]

    @property
    def context(self) -> Collection[Document]:
        """Context features per as_of day."""
        return self.database["context"]

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(settings: Settings, *, select_seconds: float = SELECT_SECONDS) -> Store:
    """Connect to `settings.mongodb_uri`, else to the embedded server, and see that the indexes exist.

    `select_seconds` is how long the server may take to say that it is there, now and later.

    Raises:
        DependencyError: the server is unreachable, refuses the credentials or is no replica set.
        InputError: RETAIL_MONGODB_URI is no MongoDB URI.
    """
    given = settings.mongodb_uri
    uri = given.get_secret_value() if given else ensure_mongod(settings)
    client = _connect(uri, select_seconds)
    try:
        _check(client, redact(uri))
        store = Store(settings, client, client[settings.mongodb_database])
        for name, models in INDEXES.items():
            store.database[name].create_indexes(models)
    except PyMongoError as error:
        client.close()
        raise unreachable(uri, error) from None
    except BaseException:
        client.close()
        raise
    return store


def server_time(store: Store) -> datetime:
    """MongoDB's clock, in UTC."""
    now: datetime = store.client.admin.command("hello")["localTime"]
    return now.replace(tzinfo=UTC)


def taken(error: BulkWriteError) -> list[Document]:
    """The documents of an unordered insert whose keys are taken; any other failure is raised."""
    details: Mapping[str, Any] = error.details or {}
    failed = details.get("writeErrors", [])
    if details.get("writeConcernErrors") or any(one["code"] != _DUPLICATE for one in failed):
        raise error
    return [one["op"] for one in failed]


def redact(uri: str) -> str:
    """`uri` without user, password and options: all that may be shown.

    >>> redact("mongodb://app:s3cr@t@db.example:27017/?tlsCertificateKeyFilePassword=x")
    'mongodb://***@db.example:27017/'
    """
    return re.sub(r"//.*@", "//***@", uri).split("?", 1)[0]


def unreachable(uri: str, error: PyMongoError) -> DependencyError:
    """The error for a server that does not do what was asked, without secrets."""
    if isinstance(error, OperationFailure) and error.code in _REFUSED:
        return DependencyError(
            f"MongoDB at {redact(uri)} refused the credentials.",
            remedy="correct user, password and authSource in RETAIL_MONGODB_URI.",
        )
    said = str(error).split(", Timeout:", 1)[0].replace(uri, redact(uri))
    return DependencyError(
        f"MongoDB at {redact(uri)} cannot be used: {said}.",
        remedy="start it, correct RETAIL_MONGODB_URI, or unset it to use the embedded server.",
    )


def _connect(uri: str, select_seconds: float) -> MongoClient[Document]:
    # The driver's own words may quote parts of a malformed URI, password included: they are not passed on.
    try:
        return MongoClient(
            uri,
            tz_aware=True,
            w="majority",
            retryWrites=True,
            serverSelectionTimeoutMS=round(select_seconds * 1000),
            appname="retail",
        )
    except (InvalidURI, ConfigurationError, ValueError):
        raise InputError(
            f"RETAIL_MONGODB_URI ({redact(uri)}) is no usable MongoDB URI.",
            remedy="write it as mongodb://user:password@host:27017/?replicaSet=rs0, "
            "with special characters percent-encoded.",
        ) from None


def _check(client: MongoClient[Document], shown: str) -> None:
    hello = client.admin.command("hello")
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise DependencyError(
            f"MongoDB at {shown} is a standalone server; retryable writes need a replica set.",
            remedy="start it with --replSet and run rs.initiate() once (a set of one is enough).",
        )
