"""The connection to MongoDB and the names of every collection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, PyMongoError

from retail_core.errors import InputError
from retail_core.file_locks import create_private_folder
from retail_core.settings import Settings
from retail_core.store.mongo.indexes import INDEXES
from retail_core.store.mongo.schema_versions import COLLECTION as SCHEMA_COLLECTION
from retail_core.store.mongo.schema_versions import check_versions, record_versions
from retail_core.store.mongo.server_errors import check_options, client_error, mongodb_error, standalone_error
from retail_core.store.mongod.embedded import ensure_mongod
from retail_core.temporary_files import claim_temporary_folder, temporary_root

Document = dict[str, Any]
SELECT_SECONDS = 10
_DUPLICATE_KEY = 11_000


@dataclass(frozen=True)
class Store:
    """An open database. Writes are acknowledged by a majority and retried once; times are aware UTC.

    While it is open, temporary files of the process are below its home.
    """

    settings: Settings
    client: MongoClient[Document]
    database: Database[Document]
    end_claim: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

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
    def shadows(self) -> Collection[Document]:
        """Versions that score silently beside a champion; read with `registry.shadow_record`."""
        return self.database["shadows"]

    @property
    def shadow_predictions(self) -> Collection[Document]:
        """Predictions of shadows for the daily lists, as `predictions`; no list reads them."""
        return self.database["shadow_predictions"]

    @property
    def shadow_answers(self) -> Collection[Document]:
        """A sample of online answers with the probability of a shadow, stored for 30 days."""
        return self.database["shadow_answers"]

    @property
    def list_estimates(self) -> Collection[Document]:
        """Expected buyers and quality of each stored list; read with `store.mongo.list_estimates`."""
        return self.database["list_estimates"]

    @property
    def online_quality(self) -> Collection[Document]:
        """Live metrics of online answers by day, policy and version."""
        return self.database["online_quality"]

    @property
    def training_attempts(self) -> Collection[Document]:
        """One document per training or recalibration; read with `training.attempts`."""
        return self.database["training_attempts"]

    @property
    def trigger_checks(self) -> Collection[Document]:
        """Every check of the retraining triggers."""
        return self.database["trigger_checks"]

    @property
    def alerts(self) -> Collection[Document]:
        """Alerts and their delivery; read and written with `retail_core.alerts`."""
        return self.database["alerts"]

    @property
    def audiences(self) -> Collection[Document]:
        """Audiences and their members, control group included."""
        return self.database["audiences"]

    @property
    def prediction_log(self) -> Collection[Document]:
        """Responses of the prediction service, stored for 30 days."""
        return self.database["prediction_log"]

    @property
    def jobs(self) -> Collection[Document]:
        """Uploaded files to score; read and written, like their GridFS, with `retail_core.jobs`."""
        return self.database["jobs"]

    @property
    def campaigns(self) -> Collection[Document]:
        """Plans of campaigns; read and written, like the next three, with `campaigns.records`."""
        return self.database["campaigns"]

    @property
    def campaign_members(self) -> Collection[Document]:
        """Users of each campaign with their group."""
        return self.database["campaign_members"]

    @property
    def campaign_contacts(self) -> Collection[Document]:
        """Who was contacted, when and by which channel."""
        return self.database["campaign_contacts"]

    @property
    def contact_consent(self) -> Collection[Document]:
        """Who agreed to be contacted and who opted out."""
        return self.database["contact_consent"]

    @property
    def context(self) -> Collection[Document]:
        """Context features by as_of day."""
        return self.database["context"]

    @property
    def calendar(self) -> Collection[Document]:
        """The shop's announced days; read with `store.mongo.shop_calendar`."""
        return self.database["calendar"]

    @property
    def data_profiles(self) -> Collection[Document]:
        """Profiles of the data by local day; no user is in them."""
        return self.database["data_profiles"]

    @property
    def erasures(self) -> Collection[Document]:
        """Keyed hashes of erased users; read with `privacy.erasure_log`."""
        return self.database["erasures"]

    @property
    def schema_versions(self) -> Collection[Document]:
        """Schema version of each collection; see `store.mongo.schema_versions`."""
        return self.database[SCHEMA_COLLECTION]

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
        self.end_claim()

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

    A user with the role readWrite on the database suffices for this and for everything that is done later.

    Raises:
        DependencyError: the server is unreachable or no replica set.
        AccessError: the server refuses the credentials, or they lack a right.
        InputError: RETAIL_MONGODB_URI is no MongoDB URI, a newer release has written the database, or its
            restore has not ended.
    """
    client = _connect(settings, select_seconds)
    try:
        _require_replica_set(settings, client)
        store = Store(settings, client, client[settings.mongodb_database])
        stored_versions = list(store.schema_versions.find())
        check_versions(store.database.name, stored_versions)
        if not for_restore:
            _refuse_unfinished_restore(store)
            store.create_indexes()
            record_versions(store.schema_versions, stored_versions)
    except PyMongoError as error:
        client.close()
        raise mongodb_error(settings, error) from None
    except BaseException:
        client.close()
        raise
    return replace(store, end_claim=_claim_temporary_folder(settings))


def _claim_temporary_folder(settings: Settings) -> Callable[[], None]:
    root = temporary_root(settings.home_dir)
    with suppress(OSError):
        # A home that cannot be written is reported by whatever needs it.
        create_private_folder(root)
        return claim_temporary_folder(root)
    return lambda: None


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


def _connect(settings: Settings, select_seconds: float) -> MongoClient[Document]:
    uri = settings.mongodb_uri.get_secret_value() if settings.mongodb_uri else ensure_mongod(settings)
    timeout: dict[str, Any] = {"serverSelectionTimeoutMS": round(select_seconds * 1000)}
    if "serverselectiontimeoutms=" in uri.lower():
        timeout = {}  # the driver prefers arguments to the options of the URI
    try:
        check_options(uri)
        return MongoClient(
            uri,
            tz_aware=True,
            w="majority",
            retryWrites=True,
            appname="retail",
            **timeout,
        )
    except (PyMongoError, ValueError, OSError) as error:
        raise client_error(settings, error) from None


def _require_replica_set(settings: Settings, client: MongoClient[Document]) -> None:
    hello = client.admin.command("hello")
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise standalone_error(settings)
