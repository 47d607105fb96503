"""Lists of users: the same answers as for each user alone, whatever changes the stored events meanwhile."""

from __future__ import annotations

import asyncio
import random
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr

from bentos.event_changes import MAX_CHANGES, EventChanges
from bentos.history_cache import HistoryCache, Reading
from bentos.messages import Answer
from bentos.model_loader import LoadedModel
from bentos.mongo_connection import MongoConnection
from bentos.prediction_service import SLICE_ITEMS, PredictionService
from bentos.predictor import PreparedItem, feature_row
from bentos.problems import Problem
from bentos.request_items import DecodedItem
from bentos.service_metrics import ServiceMetrics
from bentos.task_cancellation import cancel_tasks
from retail_core import sources
from retail_core.arrays import FloatArray
from retail_core.features.batch.encoded_histories import (
    HistoryAtCutoff,
    compute_encoded,
    encode_history,
    history_layout,
)
from retail_core.features.event_columns import EventColumns, OnlineEvent
from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.user_attributes import AttributeEncoding
from retail_core.ingest import ingest, store_events, undo
from retail_core.model.served_model import ServedModel
from retail_core.privacy.erasure import erase
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.identities import StoredLink, add_links
from retail_core.store.mongo.predictions import replace_predictions
from retail_core.times import to_micros
from tests.champion import champion_of

pytestmark = pytest.mark.integration

START = datetime(2025, 1, 1, tzinfo=UTC)
END = START + timedelta(days=40)
USERS = [f"u{n}" for n in range(30)]
STRANGERS = ["nobody", "x0"]
CANONICAL = sources.get_preset("canonical")
KINDS = ("view_item", "add_to_cart", "purchase", "search", "remove_from_cart", "odd")
Cutoffs = Sequence[tuple[str, datetime]]


@pytest.fixture(scope="module")
def served(registered_template: Settings) -> ServedModel:
    return champion_of(registered_template)


class RowRecorder(ServiceMetrics):
    """Metrics that keep the rows of features that were scored."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[FloatArray] = []

    def record_scored(
        self,
        version: str,
        policy: str,
        columns: Sequence[str],
        features: FloatArray,
        probabilities: FloatArray,
    ) -> None:
        super().record_scored(version, policy, columns, features, probabilities)
        self.rows.append(features)


class Lists:
    """A service in this process that answers lists and single users."""

    def __init__(self, settings: Settings, served: ServedModel) -> None:
        self.metrics = RowRecorder()
        self.service = PredictionService(settings, LoadedModel("tag", served), self.metrics)

    async def answer(self, cutoffs: Cutoffs) -> tuple[list[Answer | Problem], FloatArray]:
        """Outcomes, and the rows of features of those that have a prediction."""
        self.metrics.rows.clear()
        items = [DecodedItem(user, as_of, None, None) for user, as_of in cutoffs]
        outcomes = await self.service.predict_items(items)
        return outcomes, np.concatenate([*self.metrics.rows, np.empty((0, self.columns))])

    @property
    def columns(self) -> int:
        return len(self.service.reloader.loaded.served.spec.feature_set.columns)

    @property
    def cache(self) -> HistoryCache:
        return self.service.inputs.cache

    async def assert_same_as_alone(self, cutoffs: Cutoffs) -> None:
        """The list is answered as each user alone; MongoDB is read anew for a single user."""
        assert len(cutoffs) > SLICE_ITEMS
        together, rows = await self.answer(cutoffs)
        alone = [await self.answer([cutoff]) for cutoff in cutoffs]
        for (outcome,), (user, _), in_list in zip(
            (outcomes for outcomes, _ in alone), cutoffs, together, strict=True
        ):
            if isinstance(outcome, Problem):
                assert isinstance(in_list, Problem), user
                assert in_list.body() == outcome.body()
            else:
                assert in_list == outcome
        np.testing.assert_array_equal(rows, np.concatenate([row for _, row in alone]))


@asynccontextmanager
async def running_lists(
    settings: Settings, served: ServedModel, cache_mb: float = 10
) -> AsyncIterator[Lists]:
    lists = Lists(settings.model_copy(update={"history_cache_mb": cache_mb}), served)
    try:
        yield lists
    finally:
        await lists.service.close()


def event(
    number: object, user: str, time: datetime, kind: str = "view_item", **more: object
) -> dict[str, object]:
    return {
        "event_id": f"e{number}",
        "user_id": user,
        "event_time": time.isoformat(),
        "event_type": kind,
        **more,
    }


def fill(store: Store, seed: int) -> list[datetime]:
    """Events of the users at few distinct times, and links between some; returns the times."""
    draw = random.Random(seed)
    times = [START + timedelta(minutes=draw.randrange(40 * 24 * 60)) for _ in range(200)]
    events = [
        event(
            number,
            draw.choice(USERS[:-2]),
            draw.choice(times),
            draw.choice(KINDS),
            item_id=draw.choice(["a", "b", "c", None]),
            category=draw.choice(["k", "l", None]),
            price=draw.choice([None, "1.5", "20"]),
            quantity=draw.choice([None, 1, 3]),
            order_id=draw.choice([None, "o1", "o2"]),
        )
        for number in range(2_000)
    ]
    rows = [{name: value for name, value in row.items() if value is not None} for row in events]
    store_events(store, rows, CANONICAL)
    links = [(draw.choice(USERS), draw.choice(USERS), draw.choice(times)) for _ in range(12)]
    unique = {(a, b): at for a, b, at in links if a != b}
    add_links(store, [StoredLink(*ids, at) for ids, at in unique.items()], ["file:l"], "l")
    return times


def cutoffs_of(draw: random.Random, times: Sequence[datetime]) -> Cutoffs:
    """Every user, some several times; cut-offs at events, a moment after one, and on many days."""
    as_of = [
        *draw.sample(list(times), 12),
        *(time + timedelta(minutes=3) for time in draw.sample(list(times), 6)),
        *(START + timedelta(days=days) for days in (-1, 7, 8, 20, 39, 75)),
    ]
    cutoffs = [(user, draw.choice(as_of)) for user in [*USERS, *STRANGERS, *USERS[:8], *USERS[:8]]]
    draw.shuffle(cutoffs)
    return [*cutoffs, cutoffs[0], cutoffs[0]]


@pytest.mark.parametrize("seed", range(3))
def test_a_list_is_answered_as_each_user_alone(
    settings: Settings, store: Store, served: ServedModel, seed: int
) -> None:
    """Linked users, users without events, repeated users, events at the cut-off; cached or not."""
    times = fill(store, seed)

    async def compare() -> None:
        draw = random.Random(seed)
        async with running_lists(settings, served) as lists:
            for _ in range(3):
                await lists.assert_same_as_alone(cutoffs_of(draw, times))
            cutoffs = cutoffs_of(draw, times)
            await lists.answer(cutoffs)
            misses = lists.cache.misses
            await lists.assert_same_as_alone(cutoffs)
            assert lists.cache.misses == misses
            assert lists.cache.hits

    asyncio.run(compare())


Change = Callable[[Store, Path], object]


def _post(store: Store, _: Path) -> None:
    store_events(store, [event("new", "u1", END - timedelta(minutes=5), "purchase", price="9")], CANONICAL)


def _post_of_a_new_user(store: Store, _: Path) -> None:
    store_events(store, [event("new", "nobody", END - timedelta(minutes=5))], CANONICAL)


def _write_directly(store: Store, _: Path) -> None:
    viewed = {"user_id": "u1", "event_type": "view_item", "event_time": {"$gt": END - timedelta(days=20)}}
    change = {"$set": {"event_type": "purchase", "window_id": 3}}
    assert store.events.update_one(viewed, change).modified_count


def _move_window(store: Store, _: Path) -> None:
    store.events.update_many({}, {"$set": {"window_id": 77}})


def _erase(store: Store, _: Path) -> None:
    erase(store, "u2")


def _undo(store: Store, _: Path) -> None:
    (file,) = store.ledger.find({"kind": "file"})
    undo(store, file["_id"], at=END)


def _link(store: Store, _: Path) -> None:
    add_links(store, [StoredLink("u3", "u4", END - timedelta(days=3))], ["file:m"], "m")


def _restore(store: Store, _: Path) -> None:
    documents = list(store.events.find({"user_id": {"$ne": "u5"}}))
    store.events.drop()
    store.create_indexes()
    store.events.insert_many(documents)


def _ingest_much(store: Store, _: Path) -> None:
    rows = [event(f"m{n}", USERS[n % 9], END - timedelta(seconds=n + 1)) for n in range(MAX_CHANGES + 500)]
    store_events(store, rows, CANONICAL)


CHANGES: dict[str, Change] = {
    change.__name__.strip("_"): change
    for change in (
        *(_post, _post_of_a_new_user, _write_directly, _move_window, _erase, _undo),
        *(_link, _restore, _ingest_much),
    )
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_list_sees_what_was_stored_before_it(
    settings: Settings, store: Store, served: ServedModel, tmp_path: Path, name: str
) -> None:
    """Also where another process stored it, since the change is made without the service."""
    fill(store, 1)
    file = tmp_path / "more.csv"
    file.write_text(
        "event_id,user_id,event_time,event_type,item_id,price\n"
        + "".join(
            f"f{n},{user},2025-02-09T0{n % 10}:00:00Z,view_item,i{n},2\n" for n, user in enumerate(USERS)
        )
    )
    ingest(store, [file], CANONICAL, at=END)
    cutoffs = [(user, END) for user in [*USERS, *STRANGERS]]

    async def compare() -> None:
        async with running_lists(settings, served) as lists:
            await lists.answer(cutoffs)
            misses = lists.cache.misses
            before, rows = await lists.answer(cutoffs)
            assert lists.cache.misses == misses
            await asyncio.to_thread(CHANGES[name], store, tmp_path)
            lists.service.inputs.persons.links_were_stored()
            await lists.assert_same_as_alone(cutoffs)
            after, changed_rows = await lists.answer(cutoffs)
            same = len(after) == len(before) and np.array_equal(rows, changed_rows, equal_nan=True)
            assert same == (name == "move_window")
            if name == "erase":
                assert isinstance(after[USERS.index("u2")], Problem)

    asyncio.run(compare())


def test_each_posted_event_counts_in_the_next_list(
    settings: Settings, store: Store, served: ServedModel
) -> None:
    """Lists run all the time while events are posted; the list after a post has its event."""
    fill(store, 2)
    cutoffs = [(user, END) for user in USERS]

    async def post_and_ask(lists: Lists) -> None:
        for number in range(20):
            user, time = USERS[number], END - timedelta(minutes=20 - number)
            posted = event(f"p{number}", user, time, "add_to_cart", item_id=f"i{number}")
            await asyncio.to_thread(store_events, store, [posted], CANONICAL)
            outcomes = await lists.service.inputs.read_list(
                [DecodedItem(user, END, None, None) for user in USERS],
                served.spec.feature_set,
                use_cache=await lists.service.inputs.changes.catch_up(),
            )
            assert outcomes.computed[user, END].silent_hours == (END - time) / timedelta(hours=1)

    async def ask_until(posted_all: asyncio.Event, lists: Lists) -> None:
        while not posted_all.is_set():
            await lists.answer(cutoffs)

    async def run() -> None:
        async with running_lists(settings, served) as lists:
            posted_all = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    group.create_task(ask_until(posted_all, lists))
                try:
                    await post_and_ask(lists)
                finally:
                    posted_all.set()
            assert lists.cache.hits > lists.cache.misses
            await lists.assert_same_as_alone(cutoffs)

    asyncio.run(run())


def store_newest_list(store: Store, users: Sequence[str], as_of: datetime) -> None:
    """Predictions of these users, ranked in this order."""
    ranks = np.arange(1, len(users) + 1)
    frame = pd.DataFrame(
        {
            "user_id": users,
            "as_of": pd.Series([as_of] * len(users)).astype("datetime64[ms, UTC]"),
            "model_version": "1",
            "policy": "daily",
            "probability": 1 / ranks,
            "raw_score": 1 / ranks,
            "rank": ranks,
            "will_purchase": False,
            "contact": False,
        }
    )
    replace_predictions(store, frame, as_of=as_of, model_version="1")


def test_users_of_the_newest_list_are_in_memory_before_a_list_asks_for_them(
    settings: Settings, store: Store, served: ServedModel
) -> None:
    """After a list of other users, and again after a deletion removed all histories."""
    fill(store, 1)
    store.identities.delete_many({})
    asked, others = USERS[:18], USERS[18:]
    store_newest_list(store, [*others, "nobody"], END)

    async def run() -> None:
        async with running_lists(settings, served) as lists:
            preloading = asyncio.create_task(lists.service.preload.run())
            for _ in range(2):
                await lists.answer([(user, END) for user in asked])
                await until(lambda: not lists.service.preload.is_active)
                misses = lists.cache.misses
                await lists.assert_same_as_alone([(user, END) for user in others] * 2)
                assert lists.cache.misses == misses
                store.events.delete_one({"user_id": asked[0]})
            await cancel_tasks([preloading])

    asyncio.run(run())


@pytest.mark.parametrize(("cache_mb", "at_most"), [(0.02, 20), (0, 0)])
def test_preloading_ends_when_the_memory_of_histories_is_full(
    settings: Settings, store: Store, served: ServedModel, cache_mb: float, at_most: int
) -> None:
    fill(store, 1)
    store_newest_list(store, USERS[:-2], END)

    async def run() -> None:
        async with running_lists(settings, served, cache_mb) as lists:
            preloading = asyncio.create_task(lists.service.preload.run())
            await lists.answer([(user, END) for user in USERS[:17]])
            await until(lambda: not lists.service.preload.is_active)
            assert lists.service.preload.preloaded <= at_most
            assert lists.cache.size_bytes <= cache_mb * 1_000_000
            await cancel_tasks([preloading])

    asyncio.run(run())


def test_the_memory_of_histories_is_limited(settings: Settings, store: Store, served: ServedModel) -> None:
    fill(store, 3)

    async def compare(cache_mb: float) -> None:
        async with running_lists(settings, served, cache_mb) as lists:
            for days in (0, 9, 0):
                await lists.assert_same_as_alone([(user, END - timedelta(days=days)) for user in USERS])
                assert lists.cache.size_bytes <= cache_mb * 1_000_000
                assert bool(len(lists.cache)) == bool(cache_mb)

    asyncio.run(compare(0.02))
    asyncio.run(compare(0))


@contextmanager
def limited_user(store: Store) -> Iterator[Settings]:
    """Settings of a user who may read, but not follow changes."""
    name, database = f"reader{uuid.uuid4().hex}", store.database
    privileges = [{"resource": {"db": database.name, "collection": ""}, "actions": ["find"]}]
    database.command("createRole", name, privileges=privileges, roles=[])
    database.command("createUser", name, pwd="pwd", roles=[name])
    assert store.settings.mongodb_uri is not None
    server = re.sub(r"//.*@", f"//{name}:pwd@", store.settings.mongodb_uri.get_secret_value())
    uri = server.replace("authSource=admin", f"authSource={database.name}")
    yield store.settings.model_copy(update={"mongodb_uri": SecretStr(uri)})
    database.command("dropUser", name)
    database.command("dropRole", name)


def test_a_list_reads_the_events_where_changes_cannot_be_followed(store: Store, served: ServedModel) -> None:
    fill(store, 1)

    async def compare(settings: Settings) -> None:
        async with running_lists(settings, served) as lists:
            for _ in range(2):
                await lists.assert_same_as_alone([(user, END) for user in USERS])
            assert not await lists.service.inputs.changes.catch_up()
            assert len(lists.cache) == lists.cache.hits == 0

    with limited_user(store) as settings:
        asyncio.run(compare(settings))


def test_a_list_without_mongodb_has_a_problem_for_each_user(settings: Settings, served: ServedModel) -> None:
    unreachable = settings.model_copy(
        update={"mongodb_uri": SecretStr("mongodb://127.0.0.1:1/?replicaSet=r")}
    )

    async def ask() -> None:
        async with running_lists(unreachable, served) as lists:
            outcomes, _ = await lists.answer([(user, END) for user in USERS])
            assert {outcome.status for outcome in outcomes if isinstance(outcome, Problem)} == {503}
            assert not any(isinstance(outcome, Answer) for outcome in outcomes)

    asyncio.run(ask())


def test_attributes_follow_the_features_of_a_list(served: ServedModel) -> None:
    """The row of an item with computed features equals that of one with events, also in session."""
    age = AttributeEncoding("age", "number")
    feature_set = replace(default_feature_set(PredictionTask()), attributes=(age,))
    spec = replace(served.spec, feature_set=feature_set, policies=("daily", "in-session"))
    since = {31: START, 32: END, 33: END + timedelta(days=1)}
    rows = [{"valid_from": at, "attributes": f'{{"age": {years}}}'} for years, at in since.items()]
    for minutes in (5, 31, 60 * 24 * 7, 60 * 24 * 7 + 1):
        time = END - timedelta(minutes=minutes)
        events = EventColumns.from_events([OnlineEvent("e", "u", to_micros(time), "view_item")])
        history = encode_history(events, history_layout(feature_set))
        (computed,) = compute_encoded([HistoryAtCutoff(history, END, {})], feature_set)
        in_list = feature_row(spec, PreparedItem("u", END, computed=computed, attribute_rows=rows))
        alone = feature_row(spec, PreparedItem("u", END, events=events, attribute_rows=rows))
        np.testing.assert_array_equal(np.array(in_list.values), np.array(alone.values))
        assert in_list.values[-1] == 32
        assert (in_list.policy, in_list.eligible) == (alone.policy, alone.eligible)
        assert (alone.policy == "in-session", alone.eligible) == (minutes < 30, minutes <= 60 * 24 * 7)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_changes_are_read_between_lists_until_none_is_asked(settings: Settings, store: Store) -> None:
    store_events(store, [event(1, "a", START), event(2, "b", START)], CANONICAL)

    async def follow(idle_seconds: float) -> Reading:
        """What is noted until something is, after an event of `a` was stored."""
        connection, cache = MongoConnection(settings), HistoryCache(10_000_000)
        changes = EventChanges(connection, cache, poll_seconds=0.01, idle_seconds=idle_seconds)
        assert await changes.catch_up()
        with cache.reading() as reading:
            stored = event(f"for {idle_seconds}", "a", START)
            await asyncio.to_thread(store_events, store, [stored], CANONICAL)
            task = asyncio.create_task(changes.run())
            try:
                await until(lambda: reading != Reading())
            finally:
                await cancel_tasks([task])
        await connection.close()
        return reading

    assert asyncio.run(follow(3_600)) == Reading({"a"})
    assert asyncio.run(follow(0)) == Reading(all_changed=True)
