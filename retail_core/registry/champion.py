"""The version in production, as the promotion record names it; MLflow's alias is made to follow.

Whatever reads the champion reads it here. An alias that was moved in MLflow has no author, reason or check of
the version, so it is set back with a warning; only where nothing is recorded yet, the version that the alias
names is adopted into the record.
"""

from __future__ import annotations

import logging

from retail_core.alerts.raising import deliver_due
from retail_core.errors import DataError, DependencyError, IntegrityError
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.registry import promotion_record as record
from retail_core.registry import versions as registry
from retail_core.registry.promotion_alerts import store_change_alerts
from retail_core.registry.promotion_record import Entry, NewEntry
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store, server_time

log = logging.getLogger(__name__)


def follow_record(store: Store) -> Entry | None:
    """Let MLflow's alias name the version of the newest entry, and return that entry.

    After each change of the alias the record is read again, so that of concurrent commands the last one to
    set the alias sets it to the newest entry. Whatever interrupts this, the next call completes it.

    Raises:
        DataError: MLflow no longer has the recorded version, or has another under its number.
        DependencyError: MLflow is unreachable or does not permit the change.
        IntegrityError: the entry is damaged.
    """
    while True:
        newest = record.newest_entry(store)
        alias = registry.production_version(store.settings)
        if newest is None:
            if alias is None or not _adopt(store, alias):
                return None
            continue
        if record.newest_entry(store) != newest:
            continue
        if alias == newest["version"]:
            if newest.get("state") == record.PENDING:
                # Before the state changes: whoever completes a change that was killed here stores them.
                store_change_alerts(store, newest)
                record.mark_applied(store, newest)
                deliver_due(store, at=server_time(store))
            return newest
        registry.set_production(store.settings, newest["version"], newest.get("run_id"))
        _log_moved_alias(newest, alias)


def champion_version(store: Store) -> str | None:
    """The version in production, or None; completes an interrupted change and corrects the alias.

    Raises:
        DependencyError: MLflow is unreachable.
        IntegrityError: the newest entry of the promotion record is damaged.
    """
    return champion_and_entry(store)[0]


def champion_and_entry(store: Store) -> tuple[str | None, Entry | None]:
    """The version in production, as `champion_version`, and the newest entry.

    If MLflow no longer has the recorded version, or it leaks, MLflow's alias counts, with a warning. If the
    alias cannot be changed, the record counts, with a warning.
    """
    try:
        newest = follow_record(store)
    except (DataError, IntegrityError) as error:
        newest = record.newest_entry(store)
        log.warning("The promotion record and MLflow disagree: %s", error.message)
    except DependencyError as error:
        newest = record.newest_entry(store)
        if newest is None or registry.production_version(store.settings) == newest["version"]:
            raise
        log.warning("MLflow's alias does not follow the promotion record: %s", error.message)
        return str(newest["version"]), newest
    else:
        if newest is not None:
            return str(newest["version"]), newest
    return registry.production_version(store.settings), newest


def champion_spec(store: Store) -> ModelSpec | None:
    """The specification of the version in production, or None.

    Raises:
        DependencyError: MLflow is unreachable.
        IntegrityError: its feature definitions have changed, or it is damaged.
    """
    version = champion_version(store)
    return None if version is None else registry.version_spec(store.settings, version)


def load_champion(store: Store) -> ServedModel:
    """The model in production.

    Raises:
        DataError: there is none.
        DependencyError: MLflow is unreachable.
        IntegrityError: it cannot be served by this release.
    """
    version = champion_version(store)
    if version is None:
        raise DataError("There is no model in production.", remedy="run `retail train` first.")
    return registry.load_version(store.settings, version)


def find_champion(settings: Settings) -> str | None:
    """As `champion_version`, for callers without an open store.

    Where the home has no database yet, or MongoDB does not answer (with a warning), MLflow's alias counts.

    Raises:
        DependencyError: MLflow is unreachable.
    """
    if settings.mongodb_uri is None and not (settings.home_dir / "mongo" / "data").exists():
        return registry.production_version(settings)
    try:
        store = open_store(settings)
    except DependencyError as error:
        log.warning("MLflow's alias is read instead of the promotion record: %s", error.message)
        return registry.production_version(settings)
    with store:
        return champion_version(store)


def _adopt(store: Store, version: str) -> bool:
    """Record the version that the alias names, as the first entry; False where it cannot be read or leaks."""
    try:
        spec = registry.version_spec(store.settings, version)
    except IntegrityError as error:
        log.warning("Version %s, which MLflow's alias names, is not recorded: %s", version, error.message)
        return False
    if spec.leaky:
        log.warning("Version %s, which MLflow's alias names, was trained with a leaking column.", version)
        return False
    reason = "adopted: MLflow's alias named it, and no promotion was recorded"
    entry = record.insert_entry(
        store, NewEntry(record.PROMOTE, spec, reason, record.current_actor()), newest=None
    )
    if entry is not None:
        record.confirm(store, entry)
        log.warning("Version %s was %s.", version, reason)
    return True


def _log_moved_alias(newest: Entry, alias: str | None) -> None:
    version = newest["version"]
    if newest.get("state") == record.PENDING:
        log.info("The %s to version %s is complete: MLflow's alias names it.", newest["kind"], version)
        return
    log.warning(
        "MLflow's alias `%s` named %s, which is no recorded promotion; it names version %s again. To change "
        "production, run `retail models promote VERSION`.",
        registry.ALIAS,
        f"version {alias}" if alias else "no version",
        version,
    )
