"""The lake equals the committed events of MongoDB after any order of windows, any kill and any damage."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import settings as configure
from hypothesis import strategies as st

from retail_core.errors import DependencyError, InputError, IntegrityError
from retail_core.schemas import EVENT_ARROW, EVENT_COLUMNS
from retail_core.scoring.prediction_storage import read_lake_predictions, write_lake_predictions
from retail_core.settings import Settings
from retail_core.store.lake import table
from retail_core.store.lake.erase import count_in_lake, erase_from_lake
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.merging import FILES_PER_DAY
from retail_core.store.lake.table import Lake, LakeState, damage, rebuild, sync
from retail_core.store.lake.table_specs import EVENTS
from retail_core.store.mongo.connection import Document, Store, open_store
from tests.examples import examples
from tests.forked_processes import ForkedProcess
from tests.killed_programs import KILLED, end_at_commit, synchronize
from tests.lake_windows import START, event, predictions_of, put

pytestmark = pytest.mark.integration


def commit(store: Store, window_id: int) -> None:
    store.ledger.update_one({"_id": f"window:{window_id}"}, {"$set": {"state": "committed"}})


def fill(store: Store, windows: int, rows: int, days: int = 5) -> None:
    for window_id in range(1, windows + 1):
        numbers = range(window_id * rows, (window_id + 1) * rows)
        put(store, window_id, [event(number, window_id, day=number % days) for number in numbers])


def lake_rows(lake: Lake) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for path in lake.files():
        table = pq.ParquetFile(path).read()
        assert table.schema.equals(EVENT_ARROW)
        day = Path(path).parent.name.removeprefix("day=")
        assert {str(time)[:10] for time in table["event_time"].to_pylist()} == {day}
        keys = list(zip(*(table[key].to_pylist() for key in EVENTS.keys), strict=True))
        assert keys == sorted(set(keys))
        rows += table.to_pylist()
    return in_order(rows)


def in_order(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return sorted(rows, key=lambda row: (str(row["event_time"])[:10], *(row[key] for key in EVENTS.keys)))


def mongo_rows(store: Store, windows: set[int]) -> list[dict[str, object]]:
    documents = store.events.find({"window_id": {"$in": sorted(windows)}})
    rows = [
        {name: document.get("_id" if name == "event_id" else name) for name in EVENT_COLUMNS}
        for document in documents
    ]
    return in_order(rows)


def assert_mirrors(store: Store, windows: set[int]) -> LakeState:
    lake = Lake(store.settings.lake_url)
    assert lake_rows(lake) == mongo_rows(store, windows)
    state = lake.state(hashed=True)
    assert state.rows == store.events.count_documents({"window_id": {"$in": sorted(windows)}})
    if state.rows:
        read = DeltaTable(lake_folder(store, "events")).to_pyarrow_table()
        assert read.num_rows == len(set(read["event_id"].to_pylist())) == state.rows
    return state


def hashed(store: Store, state: LakeState) -> LakeState:
    """The state with its hash, after checking that it is the stored one."""
    stored = Lake(store.settings.lake_url).state(hashed=True)
    assert replace(stored, data_hash="") == state
    return stored


def lake_folder(store: Store, table: str) -> Path:
    return Path(store.settings.lake_url) / table


@pytest.fixture(scope="module")
def fresh(mongod_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings from which each example of a property derives its own database and home."""
    return Settings(home=tmp_path_factory.mktemp("lake"), mongodb_uri=mongod_uri)


optional = st.fixed_dictionaries(
    {},
    optional={
        "item_id": st.text(min_size=1, max_size=5),
        "brand": st.sampled_from(["Ä", "b"]),
        "price_minor": st.integers(0, 10**13),
        "quantity": st.integers(0, 10**7),
        "properties": st.sampled_from(['{"a": "\\u0000"}', "{}"]),
    },
)
window = st.lists(st.tuples(st.integers(0, 3), optional), max_size=6)
steps = st.lists(st.one_of(window, st.sampled_from(["sync", "commit the oldest open"])), max_size=12)


@configure(max_examples=examples(15), deadline=None)
@given(steps=steps, open_windows=st.sets(st.integers(1, 12)))
def test_the_lake_holds_exactly_the_committed_windows(
    fresh: Settings, steps: list[object], open_windows: set[int]
) -> None:
    name = uuid.uuid4().hex[:12]
    settings = fresh.model_copy(update={"home": fresh.home / name, "mongodb_database": f"lake_{name}"})
    with open_store(settings) as store:
        committed: set[int] = set()
        waiting: list[int] = []
        number = window_id = 0
        for step in steps:
            if step == "sync":
                sync(store)
                assert_mirrors(store, committed)
            elif isinstance(step, str):
                if waiting:
                    commit(store, waiting[0])
                    committed.add(waiting.pop(0))
            else:
                window_id += 1
                events = [event(number + i, window_id, day=d, **more) for i, (d, more) in enumerate(step)]
                number += len(events)
                put(store, window_id, events, committed=window_id not in open_windows)
                (waiting.append if window_id in open_windows else committed.add)(window_id)
        synced = hashed(store, sync(store))
        assert assert_mirrors(store, committed) == synced
        assert hashed(store, rebuild(store)) == synced
        assert assert_mirrors(store, committed) == synced
        store.client.drop_database(settings.mongodb_database)


def test_late_events_add_a_file_to_their_days(store: Store) -> None:
    fill(store, windows=2, rows=50)
    sync(store)
    lake = Lake(store.settings.lake_url)
    before = lake.files()
    first_hash = lake.state(hashed=True).data_hash
    put(store, 3, [event(9_000, 3, day=1), event(9_001, 3, day=8)])
    progress: list[tuple[int, int]] = []
    state = sync(store, progress=lambda copied, total: progress.append((copied, total)))
    after = lake.files()
    assert set(before) < set(after)
    new_days = sorted(Path(path).parent.name for path in set(after) - set(before))
    assert new_days == ["day=2025-01-02", "day=2025-01-09"]
    assert state.days[-1] == "2025-01-09"
    assert progress == [(2, 2)]
    assert lake.state(hashed=True).data_hash != first_hash
    assert_mirrors(store, {1, 2, 3})
    assert sync(store) == state
    assert lake.files() == after


def test_files_are_those_of_the_days_that_overlap(store: Store) -> None:
    fill(store, windows=1, rows=50)
    state = sync(store)
    lake = Lake(store.settings.lake_url)
    paths = lake.files()
    midnight = START + timedelta(days=1)
    assert lake.files(end=midnight) == paths[:1]
    assert lake.files(end=midnight + timedelta(microseconds=1)) == paths[:2]
    assert lake.files(midnight, midnight + timedelta(days=1)) == paths[1:2]
    assert lake.files(midnight + timedelta(days=3)) == paths[4:]
    times = pd.concat([pd.read_parquet(path)["event_time"] for path in paths])
    assert (state.first_event, state.last_event) == (times.min(), times.max())
    assert state.window_id == 1


def test_the_state_before_an_instant_is_that_of_a_lake_that_ends_there(store: Store) -> None:
    """Rows, times and hash are equal for an instant within a day, at one of its events."""
    fill(store, windows=1, rows=50)
    sync(store)
    lake = Lake(store.settings.lake_url)
    full_state = lake.state(hashed=True)
    times = sorted(document["event_time"] for document in store.events.find())
    instant = times[len(times) // 2].replace(tzinfo=UTC)
    early = lake.state(instant, hashed=True)
    assert early.rows == sum(time.replace(tzinfo=UTC) < instant for time in times)
    assert early.newest_event is not None
    assert early.newest_event < instant
    assert lake.state(instant + timedelta(days=99), hashed=True) == full_state
    assert lake.state(START - timedelta(days=99)).rows == 0
    store.events.delete_many({"event_time": {"$gte": instant}})
    assert hashed(store, rebuild(store)) == early


def test_user_attributes_are_mirrored(store: Store) -> None:
    def user(number: int, window_id: int, valid_from: datetime | None) -> Document:
        name = f"u{number}"
        return {
            "_id": f"{name}{valid_from}",
            "user_id": name,
            "valid_from": valid_from,
            "attributes": '{"age": 3}',
            "window_id": window_id,
        }

    lake = Lake(store.settings.lake_url)
    assert lake.users_file() is None
    store.users.insert_many([user(2, 1, None), user(1, 1, START), user(3, 3, START)])
    put(store, 1, [], users=2)
    put(store, 3, [], committed=False, users=1)
    assert sync(store).rows == 0
    store.users.insert_one(user(1, 2, START + timedelta(days=1)))
    put(store, 2, [event(1, 2)], users=1)
    state = sync(store)
    path = lake.users_file()
    assert path is not None
    table = pq.ParquetFile(path).read()
    assert table.column_names == ["user_id", "valid_from", "attributes"]
    assert table["user_id"].to_pylist() == ["u1", "u1", "u2"]
    assert table["valid_from"].to_pylist() == [START, START + timedelta(days=1), None]
    assert rebuild(store) == state


def test_a_killed_sync_that_is_repeated_gives_the_same_lake(store: Store) -> None:
    fill(store, windows=8, rows=4_000, days=30)
    generator = random.Random(5)
    lake = Lake(store.settings.lake_url)
    for round_ in range(4):
        ForkedProcess.start(synchronize, store.settings).kill_after(generator.uniform(0.0, 0.6))
        assert lake.state().rows in {0, 32_000, 32_010}
        assert len(lake_rows(lake)) == lake.state().rows
        if round_ >= 2:
            late = [event(10**6 + round_ * 10 + i, 9 + round_, day=i * 3) for i in range(10)]
            put(store, 9 + round_, late)
    state = sync(store)
    windows = {*range(1, 9), 11, 12}
    assert assert_mirrors(store, windows) == hashed(store, state)
    assert rebuild(store) == state
    assert stray_files(store) == []
    assert not (store.settings.home_dir / "lake-spool").exists()


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("operation", ["sync", "rebuild", "erase"])
def test_a_kill_at_any_commit_leaves_one_version_or_the_next(
    store: Store, operation: str, moment: str, number: int
) -> None:
    fill(store, windows=3, rows=20)
    for window_id in (1, 2, 3):
        add_user(store, window_id)
    sync(store)
    # Files of a killed run, so that there is something to delete.
    (lake_folder(store, "events") / "stray.parquet").write_bytes(b"killed")
    rows = {60, 61}
    if operation == "erase":
        store.events.delete_many({"user_id": "u1"})
        store.users.delete_many({"user_id": "u1"})
        rows = {60, store.events.count_documents({})}
    else:
        put(store, 4, [event(999, 4)])
        add_user(store, 4)
    ended = ForkedProcess.start(end_at_commit, store.settings, operation, moment, number)
    assert ended.wait() == KILLED
    lake = Lake(store.settings.lake_url)
    assert len(lake_rows(lake)) == lake.state().rows
    assert lake.state().rows in rows
    if operation == "erase":
        erase_from_lake(store.settings, "u1")
        assert set(count_in_lake(store.settings, "u1").values()) == {0}
    sync(store)
    assert_mirrors(store, {1, 2, 3, 4})
    users = lake.users_file()
    assert (len(pq.ParquetFile(users).read()) if users else 0) == store.users.count_documents({})
    assert stray_files(store) == []


def add_user(store: Store, window_id: int) -> None:
    document = {"user_id": "u1", "valid_from": START, "attributes": f'{{"age": {window_id}}}'}
    store.users.insert_one(document | {"_id": f"{window_id}", "window_id": window_id})
    store.ledger.update_one({"window_id": window_id}, {"$set": {"users": 1}})


def test_concurrent_syncs_and_readers_are_safe(store: Store) -> None:
    fill(store, windows=4, rows=1_000)
    state = sync(store)
    reader = Lake(store.settings.lake_url).snapshot()
    put(store, 5, [event(10**6 + i, 5, day=i % 9) for i in range(1_000)])
    processes = [ForkedProcess.start(synchronize, store.settings) for _ in range(2)]
    assert [process.result() for process in processes] == [5_000, 5_000]
    assert_mirrors(store, {1, 2, 3, 4, 5})
    assert reader.state() == state
    assert len(lake_rows(reader)) == 4_000


def stray_files(store: Store) -> list[str]:
    """Data files that no version of their table has."""
    names: list[str] = []
    for log in Path(store.settings.lake_url).glob("*/_delta_log"):
        delta = DeltaTable(log.parent)
        superseded = set(delta.vacuum(0, enforce_retention_duration=False))
        names += set(delta.vacuum(0, enforce_retention_duration=False, full=True)) - superseded
    return names


def test_a_day_with_many_files_is_written_anew_as_one(store: Store) -> None:
    for window_id in range(1, FILES_PER_DAY + 1):
        put(store, window_id, [event(window_id, window_id)])
        sync(store)
    lake = Lake(store.settings.lake_url)
    reader = lake.snapshot()
    assert len(lake.files()) == FILES_PER_DAY
    put(store, 99, [event(99, 99), event(100, 99, day=1)])
    sync(store)
    assert len(lake.files()) == 2
    assert_mirrors(store, {*range(1, FILES_PER_DAY + 1), 99})
    assert len(lake_rows(reader)) == FILES_PER_DAY


def test_a_reader_whose_files_were_deleted_reads_the_newest_version(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, 1, [event(1, 1), event(2, 1)])
    sync(store)
    reader = Lake(store.settings.lake_url).snapshot()
    erase_from_lake(store.settings, "u1")
    assert reader.state().rows == 2
    assert [row["user_id"] for row in lake_rows(reader)] == ["u2"]
    assert "Files of the pinned version of the lake were deleted" in caplog.text
    assert reader.state().rows == 1


@pytest.mark.parametrize("kind", ["log", "file"])
def test_damaged_predictions_are_taken_out(store: Store, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    put(store, 1, [event(1, 1)])
    lake_url = store.settings.lake_url
    for version in ("1", "2"):
        write_lake_predictions(lake_url, predictions_of("u1"), as_of=START, version=version)
    folder = lake_folder(store, "predictions")
    if kind == "log":
        (folder / "_delta_log" / "00000000000000000001.json").write_text("{")
    else:
        next(folder.glob("*/model_version=1/*.parquet")).write_bytes(b"torn")
    (sentence,) = damage(lake_url)
    assert "predictions" in sentence
    assert sync(store).rows == 1
    assert damage(lake_url) == []
    assert "predictions" in caplog.text
    with pytest.raises(FileNotFoundError):
        read_lake_predictions(lake_url, as_of=START, version="1")
    write_lake_predictions(lake_url, predictions_of("u1"), as_of=START, version="1")
    assert len(read_lake_predictions(lake_url, as_of=START, version="1")) == 1
    if kind == "file":
        assert len(read_lake_predictions(lake_url, as_of=START, version="2")) == 1


def test_files_of_a_killed_sync_are_deleted_by_the_next(store: Store) -> None:
    fill(store, windows=1, rows=50)
    sync(store)
    stray = lake_folder(store, "events") / "day=2025-01-01" / "killed.parquet"
    stray.write_bytes(b"killed")
    assert stray_files(store) == ["day=2025-01-01/killed.parquet"]
    sync(store)
    assert not stray.exists()


def test_an_erasure_during_a_sync_makes_it_start_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The sync has read the user's rows from MongoDB when the erasure of another home commits."""
    put(store, 1, [event(1, 1), event(2, 1)])
    read, erased = table.read_window_events, []

    def read_then_erase(*arguments: Any) -> Iterator[pa.Table]:
        yield from list(read(*arguments))
        if not erased:
            erased.append("u1")
            store.events.delete_many({"user_id": "u1"})
            erase_from_lake(store.settings, "u1")

    # Homes that share an object store have no lock in common.
    monkeypatch.setattr(LakeLocation, "locked", lambda location, home: nullcontext())
    monkeypatch.setattr(table, "read_window_events", read_then_erase)
    with caplog.at_level("INFO"):
        assert sync(store).rows == 1
    assert "the synchronization starts again" in caplog.text
    assert [row["user_id"] for row in lake_rows(Lake(store.settings.lake_url))] == ["u2"]
    assert stray_files(store) == []


def test_a_lake_of_an_earlier_release_is_replaced_with_one_message(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, windows=2, rows=50)
    root = Path(store.settings.lake_url)
    old = [root / "events/day=2025-01-01/00000001.parquet", root / "users/00000001.parquet"]
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"old")
    (root / "manifest.json").write_text('{"format":1,"days":{}}')
    runs = root / "predictions/as_of=20250101T000000Z"
    runs.mkdir(parents=True)
    predictions_of("u1").to_parquet(runs / "version=1.parquet")
    (runs / "version=2.parquet").write_bytes(b"torn")
    assert Lake(str(root)).state().rows == 0
    sync(store)
    assert_mirrors(store, {1, 2})
    assert not any(path.exists() for path in [*old, runs / "version=1.parquet", root / "manifest.json"])
    assert read_lake_predictions(str(root), as_of=START, version="1")["user_id"].tolist() == ["u1"]
    assert "version=2.parquet cannot be read and is left out" in caplog.text
    assert [r.message for r in caplog.records if "earlier release" in r.message] == [
        f"The lake at {root}/ has the format of an earlier release and is written anew as Delta Lake."
    ]


def test_a_lake_of_a_newer_release_is_refused(store: Store) -> None:
    root = Path(store.settings.lake_url)
    root.mkdir(parents=True, exist_ok=True)
    (root / "manifest.json").write_text('{"format": 9}')
    fill(store, windows=1, rows=5)
    with pytest.raises(InputError, match="newer release"):
        sync(store)


def test_a_lake_of_another_database_is_refused_where_it_is_configured(store: Store, tmp_path: Path) -> None:
    fill(store, windows=1, rows=50)
    settings = store.settings.model_copy(update={"lake": str(tmp_path / "shared")})
    state = sync(Store(settings, store.client, store.database))
    name = f"other_{uuid.uuid4().hex[:8]}"
    other_settings = settings.model_copy(update={"mongodb_database": name, "home": tmp_path / "other"})
    with open_store(other_settings) as other:
        put(other, 1, [event(1, 1)])
        with pytest.raises(InputError, match="another MongoDB database") as caught:
            sync(other)
        assert "retail lake rebuild" in caught.value.remedy
        assert Lake(str(tmp_path / "shared")).state() == state
        assert rebuild(other).rows == 1
        other.client.drop_database(name)


def test_a_lake_below_the_home_follows_its_database(store: Store) -> None:
    fill(store, windows=3, rows=50)
    sync(store)
    store.events.drop()
    store.ledger.drop()
    put(store, 1, [event(1, 1)])
    assert sync(store).rows == 1
    assert_mirrors(store, {1})


@pytest.mark.parametrize(
    ("wrong_fields", "message"), [({"user_id": 17}, "int32"), ({"user_id": None}, "1 without user_id")]
)
def test_an_unusable_event_is_an_error_and_changes_nothing(
    store: Store, wrong_fields: Document, message: str
) -> None:
    put(store, 1, [event(1, 1)])
    state = sync(store)
    put(store, 2, [event(2, 2) | wrong_fields])
    with pytest.raises(IntegrityError, match=message):
        sync(store)
    assert Lake(store.settings.lake_url).state() == state


def test_an_empty_lake_has_a_state(tmp_path: Path, store: Store) -> None:
    state = Lake(str(tmp_path / "none")).state()
    assert (state.rows, state.days, state.window_id, state.first_event) == (0, (), 0, None)
    assert sync(store) == state


def test_a_lake_that_cannot_be_written_or_understood_is_explained(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = store.settings.model_copy(update={"lake": str(tmp_path / "file")})
    with pytest.raises(DependencyError, match="cannot be written"):
        sync(Store(settings, store.client, store.database))
    with pytest.raises(InputError, match="RETAIL_LAKE"):
        Lake("nosuch://user:s3cret@host/lake")


def test_a_file_url_is_the_same_lake_as_its_path(store: Store) -> None:
    fill(store, windows=1, rows=50)
    by_path = sync(store)
    url = (store.settings.home_dir / "by-url").as_uri()
    settings = store.settings.model_copy(update={"lake": url})
    assert sync(Store(settings, store.client, store.database)) == by_path
    assert lake_rows(Lake(url)) == lake_rows(Lake(store.settings.lake_url))
