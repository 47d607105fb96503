"""Online answers: sampled by a shadow after they were sent, joined with outcomes, judged by day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from bentos.model_loader import LoadedModel
from bentos.mongo_connection import MongoConnection
from bentos.predictor import PreparedItem, predict
from bentos.shadow_sampler import ShadowSampler
from retail_core import sources
from retail_core.features.event_columns import EventColumns, OnlineEvent
from retail_core.ingest import ingest
from retail_core.monitoring.online_answers import mature_online_answers
from retail_core.monitoring.shadow_verdicts import judge_shadows
from retail_core.privacy.erasure import erase
from retail_core.registry import versions as registry
from retail_core.registry.shadow_record import Verdict, running_shadows, start_challenger
from retail_core.store.mongo.connection import Store, open_store
from retail_core.times import to_micros
from retail_core.workspace import Workspace
from tests.serving import AS_OF, Shop, register_variant

pytestmark = pytest.mark.integration

BUYERS, USERS, DAYS = 40, 400, 5
DAY = timedelta(days=1)
UNTIL = AS_OF + (DAYS + 1) * DAY
SECONDS = 60


@pytest.fixture(scope="module")
def workspace(shop: Shop) -> Iterator[Workspace]:
    """The shop with five days after its training, on each of which the first 40 of 400 users buy."""
    register_variant(shop.settings, factor=0.5)
    log = shop.settings.home_dir / "later.csv"
    rows = ["user_id,event_time,event_type"]
    for number in range(DAYS + 2):
        noon = (AS_OF + number * DAY + timedelta(hours=12)).isoformat()
        rows += [f"o{user:03},{noon},{'purchase' if user < BUYERS else 'view_item'}" for user in range(USERS)]
    log.write_text("\n".join(rows) + "\n")
    with open_store(shop.settings) as store:
        ingest(store, [log], sources.get_preset("canonical"), at=AS_OF)
        yield Workspace.synchronized(store)


@pytest.fixture
def store(workspace: Workspace) -> Store:
    """The open store without answers and shadows."""
    for name in ("prediction_log", "shadow_answers", "shadows", "online_quality"):
        workspace.store.database[name].delete_many({})
    return workspace.store


def logged(user: int, as_of: datetime, probability: float, **fields: Any) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC),
        "user_id": f"o{user:03}",
        "as_of": as_of,
        "model_version": "1",
        "policy": "daily",
        "probability": probability,
        "history": "stored",
        **fields,
    }


def test_the_first_answer_of_a_user_and_day_is_joined_with_its_outcome(
    workspace: Workspace, store: Store
) -> None:
    morning = AS_OF + timedelta(hours=8)
    log = [logged(user, morning, 0.9 if user < BUYERS else 0.01) for user in range(USERS)]
    log += [logged(0, morning + timedelta(hours=1), 0.0), logged(1, morning, 0.0, history="features")]
    log += [logged(2, morning, 0.5) | {"as_of": "2025-01-29T08:00:00Z"}, logged(3, UNTIL, 0.5)]
    store.prediction_log.insert_many(log)
    [day] = mature_online_answers(workspace, as_of=UNTIL)
    assert (day["day"], day["policy"], day["model_version"]) == ("2025-01-29", "daily", "1")
    assert (day["n"], day["buyers"], day["ap"]) == (USERS, BUYERS, 1.0)
    assert not store.online_quality.find_one({})["final"]  # type: ignore[index]
    store.online_quality.update_many({}, {"$set": {"final": True}})
    store.prediction_log.delete_many({})
    assert mature_online_answers(workspace, as_of=UNTIL) == [day]


def test_online_answers_decide_where_there_are_no_lists(workspace: Workspace, store: Store) -> None:
    start_challenger(store, "2", "test")
    rng = np.random.default_rng(3)
    for number in range(DAYS):
        store.shadow_answers.insert_many(
            logged(
                user,
                AS_OF + number * DAY + timedelta(hours=8),
                float(rng.uniform(0.02, 0.4)),
                shadow_version="2",
                probability_shadow=0.8 if user < BUYERS else 0.01,
            )
            for user in range(USERS)
        )
    before = len(list(store.promotions.find()))
    [report] = judge_shadows(workspace, as_of=AS_OF + 2 * DAY)
    assert (report.source, report.days, report.verdict) == ("online answers", 1, None)
    assert [entry["day"] for entry in running_shadows(store)[0].days] == ["2025-01-29"]
    [report] = judge_shadows(workspace, as_of=UNTIL)
    assert (report.days, report.verdict) == (3, Verdict.PROMOTED)
    assert len(list(store.promotions.find())) == before + 1
    store.promotions.delete_many({"_id": {"$gt": before}})
    registry.set_production(store.settings, "1")


def test_a_sampled_answer_is_stored_with_the_probability_of_the_shadow(store: Store) -> None:
    start_challenger(store, "2", "test")
    settings = store.settings.model_copy(update={"shadow_share": 1.0, "poll_seconds": 0.1})
    champion = LoadedModel("tag", registry.load_version(settings, "1"))
    event = OnlineEvent("e1", "u1", to_micros(AS_OF - DAY), "add_to_cart", item_id="i1")
    item = PreparedItem("u1", AS_OF, events=EventColumns.from_events([event]), history="stored")
    [answer] = predict(champion.served, [item])

    async def sample() -> None:
        connection = MongoConnection(settings)
        sampler = ShadowSampler(settings, connection, lambda: "1")
        task = asyncio.create_task(sampler.run())
        deadline = time.monotonic() + SECONDS
        while not sampler.written and time.monotonic() < deadline:
            sampler.offer(champion, [item], [answer])
            await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()
        sampler.close()

    asyncio.run(sample())
    document = store.shadow_answers.find_one({"user_id": "u1"})
    assert document is not None
    [expected] = predict(registry.load_version(settings, "2"), [item])
    assert document["probability_shadow"] == expected.probability  # type: ignore[union-attr]
    assert document["probability"] == answer.probability  # type: ignore[union-attr]
    assert (document["model_version"], document["shadow_version"]) == ("1", "2")
    assert document["as_of"] == AS_OF
    assert erase(store, "u1")["shadow_answers"] >= 1
