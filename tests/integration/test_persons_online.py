"""Identity links in the service and in batch over one real MongoDB: both see the same history of a person."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from bentos.history_reader import HistoryReader, time_spans
from bentos.mongo_connection import MongoConnection
from bentos.person_reader import PersonReader, attributes_of, events_of, ids_of
from bentos.predictor import latest_attributes
from retail_core import sources
from retail_core.attribution import MAX_LINKED_IDS, IdPeriod
from retail_core.features.batch.attribute_columns import attribute_columns_as_of
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.online_interpreter import compute_user_values
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.user_attributes import AttributeEncoding
from retail_core.ingest import store_events
from retail_core.store.lake.table import Lake, sync
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.identities import StoredLink, add_links
from retail_core.workspace import Workspace

pytestmark = pytest.mark.integration

START = datetime(2025, 1, 1, tzinfo=UTC)
CUTOFFS = [START + timedelta(days=7), START + timedelta(days=9, hours=5), START + timedelta(days=12)]
TASK = PredictionTask(lookback_days=7)
ALL_FEATURES = default_feature_set(TASK)
FEATURES = ALL_FEATURES.select(name for name in ALL_FEATURES.names if "shop" not in name)
AGE = AttributeEncoding("age", "number")
IDS = [f"u{n}" for n in range(40)]
CANONICAL = sources.get_preset("canonical")
KINDS = ("view_item", "add_to_cart", "purchase", "search", "remove_from_cart")


@dataclass(frozen=True)
class UnlinkedLake:
    """A lake without its identity links."""

    lake: Lake

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:
        return self.lake.files(start, end)

    def users_file(self) -> str | None:
        return self.lake.users_file()

    def identities_file(self) -> str | None:
        return None


def _fill(store: Store, seed: int) -> None:
    """Events, attributes and links of 40 ids: pairs, chains, shared ids, cycles, and an id with too many."""
    draw = random.Random(seed)
    events = [
        {
            "event_id": str(n),
            "user_id": draw.choice(IDS),
            "event_time": (START + timedelta(minutes=draw.randrange(12 * 24 * 60))).isoformat(),
            "event_type": draw.choice(KINDS),
            "item_id": draw.choice("abcd"),
            "price": f"{draw.randrange(1000)}.5",
        }
        for n in range(1_500)
    ]
    assert store_events(store, events, CANONICAL).counts.inserted == len(events)
    links = {
        (draw.choice(IDS), draw.choice(IDS)): START + timedelta(hours=draw.randrange(12 * 24))
        for _ in range(25)
    }
    links |= {(f"x{n}", "u0"): START + timedelta(hours=n) for n in range(MAX_LINKED_IDS + 40)}
    add_links(store, [StoredLink(*ids, at) for ids, at in links.items() if ids[0] != ids[1]], ["file:l"], "l")
    attributes = [
        {"user_id": user, "valid_from": START + timedelta(days=n), "attributes": f'{{"age":{n}}}'}
        for n, user in enumerate(IDS[::4])
    ]
    store.users.insert_many([{**row, "window_id": 1} for row in attributes])
    store.ledger.update_many({"kind": "window"}, {"$set": {"links": 1, "users": len(attributes)}})


async def _online_rows(store: Store, cutoffs: list[tuple[str, datetime]]) -> list[list[float]]:
    connection = MongoConnection(store.settings)
    history, persons = HistoryReader(connection), PersonReader(connection)
    try:
        periods = await persons.periods(cutoffs)
        ids = ids_of(cutoffs, periods)
        events = await history.events(time_spans(ids, TASK.lookback))
        attributes = await history.attributes(list({user for user, _ in ids}))
    finally:
        await connection.close()
    rows = []
    for cutoff in cutoffs:
        values = compute_user_values(events_of(cutoff, events, periods), cutoff[1], FEATURES)
        own = latest_attributes(attributes_of(cutoff, attributes, periods), cutoff[1], undated=False)
        rows.append([*values, *AGE.encode(own)])
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_the_service_and_batch_see_the_same_history_of_every_person(store: Store, seed: int) -> None:
    _fill(store, seed)
    sync(store)
    lake = Workspace(store).lake.snapshot()
    cutoffs = [(user, as_of) for as_of in CUTOFFS for user in [*IDS, "x0", f"x{MAX_LINKED_IDS + 20}"]]
    pairs = pd.DataFrame(cutoffs, columns=["user_id", "as_of"])
    pairs = pairs.assign(user_id=pairs["user_id"].astype("str"), as_of=pairs["as_of"].dt.as_unit("ms"))
    batch = compute_features(lake, pairs, FEATURES)[list(FEATURES.columns)]
    batch["attr_age"] = attribute_columns_as_of(lake, pairs, [AGE])["attr_age"]
    online = np.array(asyncio.run(_online_rows(store, cutoffs)), np.float64)
    np.testing.assert_allclose(batch.to_numpy(np.float64), online, rtol=1e-9, atol=1e-9)
    unlinked = compute_features(UnlinkedLake(lake), pairs, FEATURES)
    assert (unlinked["event_count_7d"] != batch["event_count_7d"]).mean() > 0.1


async def _periods(store: Store, links: list[StoredLink]) -> list[object]:
    connection = MongoConnection(store.settings)
    persons = PersonReader(connection)
    try:
        answers: list[object] = [await persons.periods([("k1", CUTOFFS[0])])]
        add_links(store, links, ["api:canonical"], "canonical")
        answers.append(await persons.periods([("k1", CUTOFFS[0])]))
        persons.links_were_stored()
        answers.append(await persons.periods([("k1", CUTOFFS[0]), ("b", CUTOFFS[0]), ("k1", START)]))
    finally:
        await connection.close()
    return answers


def test_a_shop_without_links_is_looked_at_once_in_a_while(store: Store) -> None:
    before, cached, after = asyncio.run(_periods(store, [StoredLink("a1", "k1", START)]))
    assert (before, cached) == ({}, {})
    assert after == {("k1", CUTOFFS[0]): [IdPeriod("k1"), IdPeriod("a1")]}
