"""The lake equals the committed events of MongoDB after any order of windows, any kill and any damage."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as configure
from hypothesis import strategies as st

from retail_core.errors import DependencyError, InputError, IntegrityError
from retail_core.schemas import EVENT_ARROW, EVENT_COLUMNS
from retail_core.settings import Settings
from retail_core.store.lake.manifest import GENERATIONS_KEPT
from retail_core.store.lake.table import EVENT_KEYS, Lake, LakeState, rebuild, sync
from retail_core.store.mongo.connection import Document, Store, open_store
from tests.examples import examples

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
START = datetime(2025, 1, 1, tzinfo=UTC)
SYNC = (
    "import sys; from pathlib import Path; from pydantic import SecretStr;"
    "from retail_core.settings import Settings; from retail_core.store.mongo.connection import open_store;"
    "from retail_core.store.lake.table import sync;"
    "s = open_store(Settings(home=Path(sys.argv[1]), mongodb_uri=SecretStr(sys.argv[2]),"
    " mongodb_database=sys.argv[3]));"
    "print('ready', flush=True); print(sync(s).data_hash, flush=True); s.close()"
)


def event(number: int, window_id: int, *, day: int = 0, **more: object) -> Document:
    """An event document as ingestion writes it; `number` makes its id and its instant within the day."""
    return {
        "_id": f"{number:032x}",
        "user_id": f"u{number % 7}",
        "event_time": START + timedelta(days=day, milliseconds=number * 997 % 86_400_000),
        "event_type": "view_item",
        "properties": "{}",
        "source": "canonical",
        "window_id": window_id,
    } | more


def put(
    store: Store, window_id: int, events: list[Document], *, committed: bool = True, users: int = 0
) -> None:
    if events:
        store.events.insert_many(events)
    store.ledger.insert_one(
        {
            "_id": f"window:{window_id}",
            "kind": "window",
            "window_id": window_id,
            "state": "committed" if committed else "open",
            "counts": {"inserted": len(events)},
            "users": users,
        }
    )


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
        keys = list(zip(*(table[key].to_pylist() for key in EVENT_KEYS), strict=True))
        assert keys == sorted(set(keys))
        rows += table.to_pylist()
    return rows


def mongo_rows(store: Store, windows: set[int]) -> list[dict[str, object]]:
    documents = store.events.find({"window_id": {"$in": sorted(windows)}})
    rows = [
        {name: document.get("_id" if name == "event_id" else name) for name in EVENT_COLUMNS}
        for document in documents
    ]
    return sorted(rows, key=lambda row: (row["event_time"].date(), *(row[key] for key in EVENT_KEYS)))


def assert_mirrors(store: Store, windows: set[int]) -> LakeState:
    lake = Lake(store.settings.lake_url)
    assert lake_rows(lake) == mongo_rows(store, windows)
    state = lake.state()
    assert state.rows == store.events.count_documents({"window_id": {"$in": sorted(windows)}})
    return state


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
        synced = sync(store)
        assert assert_mirrors(store, committed) == synced
        assert rebuild(store) == synced
        assert assert_mirrors(store, committed) == synced
        store.client.drop_database(settings.mongodb_database)


def test_late_events_rewrite_only_their_days(store: Store) -> None:
    fill(store, windows=2, rows=50)
    sync(store)
    lake = Lake(store.settings.lake_url)
    before = lake.files()
    first_hash = lake.state().data_hash
    put(store, 3, [event(9_000, 3, day=1), event(9_001, 3, day=8)])
    progress: list[tuple[int, int]] = []
    state = sync(store, progress=lambda copied, total: progress.append((copied, total)))
    after = lake.files()
    assert [old == new for old, new in zip(before, after, strict=False)] == [True, False, True, True, True]
    assert state.days[-1] == "2025-01-09"
    assert progress == [(2, 2)]
    assert state.data_hash != first_hash
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
    full_state = lake.state()
    times = sorted(document["event_time"] for document in store.events.find())
    instant = times[len(times) // 2].replace(tzinfo=UTC)
    early = lake.state(instant)
    assert early.rows == sum(time.replace(tzinfo=UTC) < instant for time in times)
    assert early.newest_event is not None
    assert early.newest_event < instant
    assert lake.state(instant + timedelta(days=99)) == full_state
    assert lake.state(START - timedelta(days=99)).rows == 0
    store.events.delete_many({"event_time": {"$gte": instant}})
    assert rebuild(store) == early


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


def test_a_killed_sync_that_is_repeated_gives_the_same_lake(store: Store, mongod_uri: str) -> None:
    fill(store, windows=8, rows=4_000, days=30)
    generator = random.Random(5)
    command = [sys.executable, "-c", SYNC, str(store.settings.home), mongod_uri, store.database.name]
    lake = Lake(store.settings.lake_url)
    for round_ in range(4):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            try:
                child.wait(generator.uniform(0.0, 0.6))
            except subprocess.TimeoutExpired:
                child.kill()
        assert lake.state().rows in {0, 32_000, 32_010}
        assert len(lake_rows(lake)) == lake.state().rows
        if round_ >= 2:
            late = [event(10**6 + round_ * 10 + i, 9 + round_, day=i * 3) for i in range(10)]
            put(store, 9 + round_, late)
    state = sync(store)
    windows = {*range(1, 9), 11, 12}
    assert assert_mirrors(store, windows) == state
    assert rebuild(store) == state
    assert not (store.settings.home_dir / "lake-spool").exists()


def test_concurrent_syncs_and_readers_are_safe(store: Store, mongod_uri: str) -> None:
    fill(store, windows=4, rows=1_000)
    state = sync(store)
    reader = Lake(store.settings.lake_url).snapshot()
    put(store, 5, [event(10**6 + i, 5, day=i % 9) for i in range(1_000)])
    command = [sys.executable, "-c", SYNC, str(store.settings.home), mongod_uri, store.database.name]
    children = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    outputs = [child.communicate(timeout=120)[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert outputs[0] == outputs[1]
    assert_mirrors(store, {1, 2, 3, 4, 5})
    assert reader.state() == state
    assert len(lake_rows(reader)) == 4_000


def test_superseded_files_are_kept_for_some_commits(store: Store) -> None:
    put(store, 1, [event(1, 1)])
    sync(store)
    reader = Lake(store.settings.lake_url).snapshot()
    for window_id in range(2, GENERATIONS_KEPT + 2):
        put(store, window_id, [event(window_id, window_id)])
        sync(store)
        assert len(lake_rows(reader)) == 1
    put(store, 99, [event(99, 99)])
    sync(store)
    assert not Path(reader.files()[0]).exists()
    folder = Path(store.settings.lake_url) / "events"
    assert len(list(folder.rglob("*.parquet"))) == 1 + GENERATIONS_KEPT


@pytest.mark.parametrize("damage", ["manifest", "missing file", "cut file", "stray files"])
def test_damage_is_repaired_by_the_next_sync(store: Store, damage: str) -> None:
    fill(store, windows=2, rows=50)
    state = sync(store)
    lake = Lake(store.settings.lake_url)
    root = Path(store.settings.lake_url)
    if damage == "manifest":
        (root / "manifest.json").write_text('{"format": 1, "days": ')
        with pytest.raises(IntegrityError, match=r"manifest\.json"):
            lake.state()
    elif damage == "missing file":
        Path(lake.files()[2]).unlink()
    elif damage == "cut file":
        Path(lake.files()[2]).write_bytes(Path(lake.files()[2]).read_bytes()[:-9])
    else:
        (root / "events" / "day=2025-01-01" / "00000002.parquet.tmp").write_bytes(b"killed")
        (root / "events" / "day=2025-01-01" / "00000002.parquet").write_bytes(b"killed")
    assert sync(store) == state
    assert assert_mirrors(store, {1, 2}) == state
    assert not list(root.rglob("*.tmp"))


def test_a_lake_of_another_database_is_rebuilt(store: Store) -> None:
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
