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
"""Entries of the prediction log expire after 30 days."""

_AUTHENTICATION_ERRORS = (13, 18)
_DUPLICATE_KEY = 11_000


def _index(*names: str, unique: bool = False, partial: bool = False) -> IndexModel:
    """Ascending index on `names`; `partial` limits it to documents that have the first field."""
    options = {"partialFilterExpression": {names[0]: {"$exists": True}}} if partial else {}
    return IndexModel([(name, ASCENDING) for name in names], unique=unique, **options)


INDEXES: dict[str, list[IndexModel]] = {
    "events": [_index("user_id", "event_time"), _index("window_id")],
    "users": [_index("user_id", "valid_from"), _index("window_id")],
    "identities": [_index("from_id"), _index("to_id"), _index("brought.file_id")],
    "predictions": [_index("user_id", "as_of", "model_version", unique=True), _index("as_of")],
    "outcomes": [_index("user_id", "as_of", "model_version", unique=True), _index("as_of")],
    "prediction_log": [_index("user_id"), IndexModel([("at", ASCENDING)], expireAfterSeconds=LOG_SECONDS)],
    "audiences": [_index("user_id"), _index("audience")],
    "quarantine": [
        _index("state"),
        _index("file_id"),
        _index("also.file_id", partial=True),
        _index("replay_window", partial=True),
        _index("row", unique=True, partial=True),
    ],
    "ingest_ledger": [
        _index("window_id"),
        _index("file_id", partial=True),
        _index("sha256", partial=True),
        _index("text_sha256", partial=True),
        _index("undone", partial=True),
        _index("links", partial=True),
    ],
}
"""Indexes by collection, in addition to the one on `_id`."""


@dataclass(frozen=True)
class Store:
    """An open database. Writes are acknowledged by a majority and retried once; times are aware UTC."""

    settings: Settings
    client: MongoClient[Document]
    database: Database[Document]

    @property
    def events(self) -> Collection[Document]:
        """Events of users, the system of record; `_id` is the event id."""
        return self.database["events"]

    @property
    def users(self) -> Collection[Document]:
        """User attributes, valid from `valid_from`."""
        return self.database["users"]

    @property
    def identities(self) -> Collection[Document]:
        """Identity links; read and written with `store.mongo.identities`."""
        return self.database["identities"]

    @property
    def predictions(self) -> Collection[Document]:
        """One document per user, as_of and model version; read with `store.mongo.predictions`."""
        return self.database["predictions"]

    @property
    def outcomes(self) -> Collection[Document]:
        """Matured predictions."""
        return self.database["outcomes"]

    @property
    def prediction_windows(self) -> Collection[Document]:
        """State of each (as_of, model version) window of predictions and outcomes."""
        return self.database["prediction_windows"]

    @property
    def ledger(self) -> Collection[Document]:
        """Ingestion ledger: files and windows."""
        return self.database["ingest_ledger"]

    @property
    def event_duplicates(self) -> Collection[Document]:
        """Ids that a window brought again; read with `store.mongo.event_duplicates`."""
        return self.database["event_duplicates"]

    @property
    def quarantine(self) -> Collection[Document]:
        """Refused rows with the reason."""
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
        """Audiences and their members, control group included."""
        return self.database["audiences"]

    @property
    def prediction_log(self) -> Collection[Document]:
        """Responses of the prediction service, stored for 30 days."""
        return self.database["prediction_log"]

    @property
    def context(self) -> Collection[Document]:
        """Context features by as_of day."""
        return self.database["context"]

    @property
    def erasures(self) -> Collection[Document]:
        """Keyed hashes of erased users; read with `privacy.erasure_log`."""
        return self.database["erasures"]

    @property
    def restores(self) -> Collection[Document]:
        """Backups that this database was restored from; not part of backups."""
        return self.database["restores"]

    def create_indexes(self) -> None:
        """Create the indexes that are missing."""
        for name, models in INDEXES.items():
            self.database[name].create_indexes(models)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(
    settings: Settings, *, select_seconds: float = SELECT_SECONDS, for_restore: bool = False
) -> Store:
    """Connect to `settings.mongodb_uri`, else to the embedded server, and create missing indexes.

    Args:
        settings: URI, database name and home.
        select_seconds: server selection timeout of this and all later operations, unless the URI has one.
        for_restore: open the database as it is, without indexes, also while it is being restored.

    Raises:
        DependencyError: the server is unreachable, refuses the credentials or is no replica set.
        InputError: RETAIL_MONGODB_URI is no MongoDB URI, or a restore of the database has not ended.
    """
    secret_uri = settings.mongodb_uri
    uri = secret_uri.get_secret_value() if secret_uri else ensure_mongod(settings)
    client = _connect(uri, select_seconds)
    try:
        _require_replica_set(client, redact(uri))
        store = Store(settings, client, client[settings.mongodb_database])
        if not for_restore:
            _refuse_unfinished_restore(store)
            store.create_indexes()
    except PyMongoError as error:
        client.close()
        raise mongodb_error(uri, error) from None
    except BaseException:
        client.close()
        raise
    return store


def _refuse_unfinished_restore(store: Store) -> None:
    restore = store.restores.find_one({"state": "running"})
    if restore is not None:
        raise InputError(
            f"The restore of the database {store.database.name} has not ended.",
            remedy=f"wait for it, or run `retail restore {restore['folder']}` again.",
        )


def server_time(store: Store) -> datetime:
    """Present time of the MongoDB server, UTC."""
    local_time: datetime = store.client.admin.command("hello")["localTime"]
    return local_time.replace(tzinfo=UTC)


def duplicate_key_documents(error: BulkWriteError) -> list[Document]:
    """Documents of an unordered insert that failed because their key exists.

    Raises:
        BulkWriteError: `error`, if it has any other cause.
    """
    details: Mapping[str, Any] = error.details or {}
    write_errors = details.get("writeErrors", [])
    if details.get("writeConcernErrors") or any(entry["code"] != _DUPLICATE_KEY for entry in write_errors):
        raise error
    return [entry["op"] for entry in write_errors]


def redact(uri: str) -> str:
    """`uri` without user, password and options, for messages.

    >>> redact("mongodb://app:s3cr@t@db.example:27017/?tlsCertificateKeyFilePassword=x")
    'mongodb://***@db.example:27017/'
    """
    return re.sub(r"//.*@", "//***@", uri).split("?", 1)[0]


def mongodb_error(uri: str, error: PyMongoError) -> DependencyError:
    """The error to raise for a failure of the server at `uri`; its text has no secrets."""
    if isinstance(error, OperationFailure) and error.code in _AUTHENTICATION_ERRORS:
        return DependencyError(
            f"MongoDB at {redact(uri)} refused the credentials.",
            remedy="correct user, password and authSource in RETAIL_MONGODB_URI.",
        )
    detail = str(error).split(", Timeout:", 1)[0].replace(uri, redact(uri))
    return DependencyError(
        f"MongoDB at {redact(uri)} cannot be used: {detail}.",
        remedy="start it, correct RETAIL_MONGODB_URI, or unset it to use the embedded server.",
    )


def _connect(uri: str, select_seconds: float) -> MongoClient[Document]:
    timeout: dict[str, Any] = {"serverSelectionTimeoutMS": round(select_seconds * 1000)}
    if "serverselectiontimeoutms=" in uri.lower():
        timeout = {}  # the driver prefers arguments to the options of the URI
    # The driver's message may quote a malformed URI with its password, so it is not shown.
    try:
        return MongoClient(
            uri,
            tz_aware=True,
            w="majority",
            retryWrites=True,
            appname="retail",
            **timeout,
        )
    except (InvalidURI, ConfigurationError, ValueError):
        raise InputError(
            f"RETAIL_MONGODB_URI ({redact(uri)}) is not a usable MongoDB URI.",
            remedy="write it as mongodb://user:password@host:27017/?replicaSet=rs0, "
            "with special characters percent-encoded.",
        ) from None


def _require_replica_set(client: MongoClient[Document], shown: str) -> None:
    hello = client.admin.command("hello")
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise DependencyError(
            f"MongoDB at {shown} is a standalone server; retryable writes need a replica set.",
            remedy="start it with --replSet and run rs.initiate() once (a set of one is enough).",
        )
