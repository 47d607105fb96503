"""Erase a user from the lake: files with rows of the user are rewritten without them and then deleted."""

from __future__ import annotations

import logging
from collections.abc import Callable

from retail_core.settings import Settings
from retail_core.store.lake import old_format
from retail_core.store.lake.applied_windows import changed_versions
from retail_core.store.lake.commit_attempts import until_committed
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.lake_file import DamagedFileError
from retail_core.store.lake.links import replace_links
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.parquet_files import Rows, user_rows, write_file
from retail_core.store.lake.prediction_table import take_over_old_predictions
from retail_core.store.lake.table_specs import (
    EVENTS,
    IDENTITIES,
    PREDICTIONS,
    USER_TABLES,
    USERS,
    TableSpec,
)
from retail_core.store.mongo.connection import Store

log = logging.getLogger(__name__)

_COUNTS = {EVENTS.name: "lake_events", USERS.name: "lake_attributes", PREDICTIONS.name: "lake_predictions"}


def count_in_lake(settings: Settings, user_id: str) -> dict[str, int]:
    """Number of the user's rows in the lake: `lake_events`, `lake_attributes`, `lake_predictions`.

    Raises:
        IntegrityError: the log of a table is damaged.
    """
    location = LakeLocation(settings.lake_url)
    is_old = old_format.has_old_format(location)
    old_counts = old_format.count_old_rows(location, user_id) if is_old else {}
    counts = {}
    for spec in USER_TABLES:
        table, rows = LakeTable.open(location, spec), old_counts.get(spec.name, 0)
        if table is not None:
            rows = sum(user_rows(table, file, user_id) for file in table.files)
        counts[_COUNTS[spec.name]] = rows
    return counts


def erase_from_lake(
    settings: Settings, user_id: str, delete_stored: Callable[[str], object] | None = None
) -> None:
    """Remove the user's events, attributes and predictions, also from superseded files.

    Args:
        settings: with the home and the lake.
        user_id: whose rows.
        delete_stored: deletes the user's documents from the collection of MongoDB with a table's name. It is
            called again for each table and attempt, after the version is read whose rows are removed: rows
            that arrived meanwhile would otherwise be removed from the lake only.

    A killed erasure can be repeated. A reader that pinned an earlier version reads the newest one from its
    next call on. A lake of the format before Delta Lake is deleted but for its predictions; the next
    synchronization writes it anew.

    Raises:
        DependencyError: other processes write to the lake all the time.
        IntegrityError: the log of a table is damaged.
    """
    location = LakeLocation(settings.lake_url)
    with location.locked(settings.home_dir):
        if old_format.has_old_format(location):
            take_over_old_predictions(location)
            old_format.delete_old_files(location)
        for spec in USER_TABLES:
            _erase_from_table(location, spec, user_id, delete_stored)


def erase_links_from_lake(store: Store) -> None:
    """Write the identity links without those removed from MongoDB, and delete all earlier files.

    Raises:
        DependencyError: other processes write to the lake all the time.
        IntegrityError: the log of the table is damaged.
    """
    location = LakeLocation(store.settings.lake_url)

    def attempt() -> None:
        table = LakeTable.open(location, IDENTITIES)
        if table is None:
            # A release before this table left a file there, which the next synchronization replaces.
            location.delete_folder(IDENTITIES.name)
        else:
            replace_links(store, table).delete_unreferenced(0)

    with location.locked(store.settings.home_dir):
        until_committed(location, attempt)


def _erase_from_table(
    location: LakeLocation, spec: TableSpec, user_id: str, delete_stored: Callable[[str], object] | None
) -> None:
    def attempt() -> None:
        table = LakeTable.open(location, spec)
        if table is None:
            # What a killed command wrote before the table's first commit.
            if location.is_local:
                location.delete_folder(spec.name)
            return
        if delete_stored is not None:
            delete_stored(spec.name)
        _commit_without(table, user_id).delete_unreferenced(0)

    until_committed(location, attempt)


def _commit_without(table: LakeTable, user_id: str) -> LakeTable:
    """Commit the removal, also of no rows: a sync that has read the user from MongoDB then starts again."""
    try:
        holding = [file for file in table.files if user_rows(table, file, user_id)]
        rewritten = [
            write_file(table, Rows(files=[file], without_user=user_id), file.partition) for file in holding
        ]
    except DamagedFileError as error:
        log.warning("%s The table is emptied; the next synchronization writes it anew.", error.message)
        return table.commit(removed=table.files, transactions=changed_versions(table.applied, ()))
    transactions = changed_versions(table.applied, table.applied)
    return table.commit([file for file in rewritten if file], holding, transactions)
