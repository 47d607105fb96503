"""Commands on a real home, as the edges run them, and what the home then contains."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
from deltalake import DeltaTable

from retail_core import sources
from retail_core.errors import DataError
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import local_day
from retail_core.features.event_columns import event_from_document
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.ingest import ingest, undo
from retail_core.ingest.request_events import store_events
from retail_core.privacy.erasure import count_stored, erase
from retail_core.registry import promotion_record as record
from retail_core.registry import versions as registry
from retail_core.registry.champion import champion_version
from retail_core.registry.promotion import Author, promote, rollback
from retail_core.scoring.prediction_storage import read_lake_predictions
from retail_core.scoring.scores import score
from retail_core.settings import Settings
from retail_core.store.lake.table import sync
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongo.predictions import read_predictions
from retail_core.workspace import Workspace
from tests.feature_logs import pairs_of
from tests.simulation.expected_shop import START, USERS, Delivery, ExpectedShop, Row

CANONICAL = sources.get_preset("canonical")
TASK = PredictionTask(lookback_days=28)
_NOBODY = ("Nobody was active", "There are no events")


@dataclass
class SimulatedHome:
    """A home whose commands may be killed; every command opens the store anew."""

    settings: Settings
    folder: Path
    day: int = 0

    @property
    def now(self) -> datetime:
        """Begin of the simulated day."""
        return START + timedelta(days=self.day)

    def write_file(self, delivery: Delivery, name: str) -> Path:
        """The delivery as a CSV file; the name is no part of its identity, the content is."""
        path = self.folder / f"{name}.csv"
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(delivery.lines[0]))
            writer.writeheader()
            writer.writerows(delivery.lines)
        return path

    def ingest(self, path: Path) -> None:
        """As `retail ingest`."""
        with open_store(self.settings) as store:
            report = ingest(store, [path], CANONICAL, at=self.now)
        found = report.events_inserted + report.duplicates + report.quarantined
        assert report.rows_read == found, f"{report.rows_read} rows read, {found} counted"

    def post(self, delivery: Delivery) -> None:
        """As `POST /events`."""
        with open_store(self.settings) as store:
            counts = store_events(store, delivery.lines, CANONICAL).counts
        found = counts.inserted + counts.duplicates + counts.quarantined
        assert counts.rows_read == found == len(delivery.lines), (
            f"{len(delivery.lines)} rows, {found} counted"
        )

    def synchronize(self) -> None:
        """As the start of any command that reads the lake."""
        with open_store(self.settings) as store:
            sync(store)

    def score(self) -> None:
        """As `retail score`; a shop without eligible users has no list."""
        with open_store(self.settings) as store:
            try:
                score(Workspace.synchronized(store), as_of=self.now, out=None)
            except DataError as error:
                if not error.message.startswith(_NOBODY):
                    raise

    def undo(self, path: Path) -> None:
        """As `retail ingest undo`."""
        with open_store(self.settings) as store:
            document = store.ledger.find_one({"kind": {"$in": ["file", "undo"]}, "file": path.name})
            assert document is not None, f"{path.name} is in no ledger document"
            undo(store, str(document.get("undone") or document["_id"]), at=self.now)

    def erase(self, user: str) -> None:
        """As `retail user delete`."""
        with open_store(self.settings) as store:
            erase(store, user)

    def promote(self, version: str) -> None:
        """As `retail models promote`, of a version that is not in production."""
        with open_store(self.settings) as store:
            if champion_version(store) != version:
                promote(store, version, Author("simulated"))

    def rollback(self, expected: str) -> None:
        """As `retail models rollback --from VERSION`, which may be repeated."""
        with open_store(self.settings) as store:
            rollback(store, Author("simulated"), expected=expected)


def violations(home: SimulatedHome, shop: ExpectedShop) -> list[str]:
    """What the home contains other than it should, after synchronizing the lake; one sentence each."""
    with open_store(home.settings) as store:
        sync(store)
        return [
            *_different_events(store, shop),
            *_uneven_windows(store),
            *_incomplete_predictions(store),
            *_different_champion(store, shop),
            *_present_users(store, shop),
        ]


def unequal_features(home: SimulatedHome, shop: ExpectedShop) -> list[str]:
    """Whether batch features from the lake and online ones from MongoDB differ; the lake is synchronized."""
    with open_store(home.settings) as store:
        return _different_features(Workspace(store), home, shop)


def _different_events(store: Store, shop: ExpectedShop) -> list[str]:
    expected = Counter(_key(row) for row in shop.events())
    stored = Counter(
        (d["user_id"], d["event_time"], d["event_type"], d.get("item_id")) for d in store.events.find()
    )
    table = DeltaTable(f"{store.settings.lake_url}/events") if _has_lake(store) else None
    rows = table.to_pyarrow_table().to_pylist() if table else []
    lake = Counter((r["user_id"], r["event_time"], r["event_type"], r["item_id"]) for r in rows)
    found = {"MongoDB": stored, "the lake": lake}
    return [
        f"{place}: {(expected - present).total()} events lost, {(present - expected).total()} too many"
        for place, present in found.items()
        if present != expected
    ]


def _key(row: Row) -> tuple[object, ...]:
    return row.user, row.time.replace(microsecond=row.time.microsecond // 1000 * 1000), row.kind, row.item


def _has_lake(store: Store) -> bool:
    return (Path(store.settings.lake_url.removeprefix("file://")) / "events" / "_delta_log").is_dir()


def _uneven_windows(store: Store) -> list[str]:
    return [
        f"window {window['window_id']}: {counts} does not add up"
        for window in store.ledger.find({"kind": "window", "state": "committed"})
        if (counts := window["counts"])["rows_read"]
        != counts["inserted"] + counts["duplicates"] + counts["quarantined"]
    ]


def _incomplete_predictions(store: Store) -> list[str]:
    found = []
    for window in store.prediction_windows.find({"collection": "predictions"}):
        as_of, version = window["as_of"], window["model_version"]
        stored = read_predictions(store, as_of=as_of, model_version=version)
        if window["state"] == "whole" and len(stored) != window["rows"]:
            found.append(f"predictions of {as_of}: {len(stored)} of {window['rows']} stored")
        try:
            in_lake = read_lake_predictions(store.settings.lake_url, as_of=as_of, version=version)
        except FileNotFoundError:
            continue
        if window["state"] == "whole" and set(in_lake["user_id"]) != set(stored["user_id"]):
            found.append(f"predictions of {as_of}: the lake has other users than MongoDB")
    return found


def _different_champion(store: Store, shop: ExpectedShop) -> list[str]:
    champion, alias = champion_version(store), registry.production_version(store.settings)
    newest = record.promoted_version(store)
    if champion == alias == newest == shop.champions[-1]:
        return []
    return [f"champion {champion}, alias {alias}, record {newest}, expected {shop.champions[-1]}"]


def _present_users(store: Store, shop: ExpectedShop) -> list[str]:
    found = []
    for user in sorted(shop.erased):
        found += [f"{user}: {n} in {place}" for place, n in count_stored(store, user).items() if n]
        for name in store.database.list_collection_names():
            if any(user in json.dumps(d, default=str) for d in store.database[name].find()):
                found.append(f"{user} is in the collection {name}")
        lake = Path(store.settings.lake_url.removeprefix("file://"))
        for path in lake.rglob("*.parquet") if lake.is_dir() else ():
            if "user_id" in (frame := pd.read_parquet(path)) and user in set(frame["user_id"]):
                found.append(f"{user} is in {path.name}")
    return found


def _different_features(workspace: Workspace, home: SimulatedHome, shop: ExpectedShop) -> list[str]:
    """Of three users at the next midnight."""
    users = sorted({row.user for row in shop.events()})[home.day % len(USERS) :][:3]
    as_of = home.now + timedelta(days=1)
    if not users:
        return []
    feature_set = default_feature_set(TASK)
    pairs = pairs_of((user, int(as_of.timestamp() * 1e6)) for user in users)
    batch = compute_features(workspace.lake, pairs, feature_set)[list(feature_set.columns)]
    context = context_by_day(workspace.lake, TASK, {local_day(as_of, TASK)})[local_day(as_of, TASK)]
    online = pd.DataFrame(
        [
            compute_user_features(
                [event_from_document(d) for d in workspace.store.events.find({"user_id": user})],
                as_of,
                feature_set,
                context=context,
            )
            for user in users
        ],
        dtype="float64",
    )[list(feature_set.columns)]
    unequal = [name for name in batch if not batch[name].astype("float64").equals(online[name])]
    return [f"batch and online features differ: {', '.join(unequal[:5])}"] if unequal else []
