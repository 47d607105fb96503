"""The lake in an object store: a local S3 server over HTTP, with homes that write to it at the same time."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyarrow import fs

from retail_core.errors import DependencyError, IntegrityError
from retail_core.features.engine import open_engine
from retail_core.scoring.prediction_storage import read_lake_predictions, write_lake_predictions
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.erase import count_in_lake, erase_from_lake
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.table import Lake, damage, rebuild, sync
from retail_core.store.lake.table_specs import EVENTS
from retail_core.store.mongo.connection import Store
from tests.lake_windows import START, SYNC_PROGRAM, event, predictions_of, put
from tests.process_environment import without_coverage

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an S3 server in a process of its own, with the bucket `lakes`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log = tmp_path_factory.mktemp("s3") / "log.txt"
    environment = without_coverage(os.environ)
    with (
        log.open("w") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=output) as server,
    ):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "key")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
            fs.S3FileSystem(
                endpoint_override=f"127.0.0.1:{port}",
                scheme="http",
                region="us-east-1",
                allow_bucket_creation=True,
            ).create_dir("lakes")
        yield f"http://127.0.0.1:{port}"
        server.send_signal(signal.SIGTERM)


@pytest.fixture
def remote(store: Store, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store with its lake in the object store, at an address of its own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    settings = store.settings.model_copy(update={"lake": f"s3://lakes/{store.database.name}"})
    return Store(settings, store.client, store.database)


def fill(store: Store, windows: range, rows: int) -> None:
    for window_id in windows:
        numbers = range(window_id * rows, (window_id + 1) * rows)
        put(store, window_id, [event(number, window_id, day=number % 3) for number in numbers])


def ids_read(lake: Lake, start: datetime | None = None, end: datetime | None = None) -> list[str]:
    """Event ids as the feature engine reads them."""
    with open_engine() as engine:
        return sorted(
            engine.to_arrow(engine.events(lake, start, end).select("event_id"))["event_id"].to_pylist()
        )


def test_features_read_a_lake_in_an_object_store_without_an_extension(remote: Store) -> None:
    fill(remote, range(1, 3), 30)
    remote.users.insert_one(
        {"_id": "a", "user_id": "u1", "valid_from": START, "attributes": "{}", "window_id": 9}
    )
    put(remote, 9, [], users=1)
    assert sync(remote).rows == 60
    lake = Lake(remote.settings.lake_url)
    assert all(path.startswith("s3://lakes/") for path in lake.files())
    assert ids_read(lake) == sorted(remote.events.distinct("_id"))
    day = START + timedelta(days=1)
    assert len(lake.files(day, day + timedelta(days=1))) == 1
    expected = remote.events.find({"event_time": {"$gte": day, "$lt": day + timedelta(days=1)}})
    assert ids_read(lake, day, day + timedelta(days=1)) == sorted(document["_id"] for document in expected)
    users = lake.users_file()
    assert users is not None
    assert users.startswith("s3://lakes/")
    options = LakeLocation(remote.settings.lake_url).storage_options
    delta = DeltaTable(f"{remote.settings.lake_url}/events", storage_options=options)
    assert delta.to_pyarrow_table().num_rows == 60
    assert lake.state(hashed=True).data_hash


def test_two_homes_that_sync_one_lake_add_every_window_once(
    remote: Store, mongod_uri: str, tmp_path: Path
) -> None:
    """Both start on the same version, again and again; whoever loses a commit starts again."""
    for round_ in range(3):
        fill(remote, range(1 + round_ * 4, 5 + round_ * 4), 25)
        children = [
            subprocess.Popen(
                [
                    *(sys.executable, "-c", SYNC_PROGRAM, str(tmp_path / home), mongod_uri),
                    *(remote.database.name, remote.settings.lake_url),
                ],
                cwd=ROOT,
                env=without_coverage(os.environ),
                stdout=subprocess.PIPE,
            )
            for home in ("first", "second")
        ]
        outputs = [child.communicate(timeout=300)[0].split() for child in children]
        assert [child.returncode for child in children] == [0, 0]
        assert outputs == [[b"ready", str(100 * (round_ + 1)).encode()]] * 2
    table = LakeTable.open(LakeLocation(remote.settings.lake_url), EVENTS)
    assert table is not None
    assert table.applied == ((1, 12),)
    assert ids_read(Lake(remote.settings.lake_url)) == sorted(remote.events.distinct("_id"))


def test_an_erased_user_is_nowhere_in_the_object_store(remote: Store) -> None:
    fill(remote, range(1, 3), 30)
    sync(remote)
    lake_url = remote.settings.lake_url
    write_lake_predictions(lake_url, predictions_of("u1", "u2"), as_of=START, version="1")
    assert count_in_lake(remote.settings, "u1")["lake_predictions"] == 1
    remote.events.delete_many({"user_id": "u1"})
    erase_from_lake(remote.settings, "u1")
    assert set(count_in_lake(remote.settings, "u1").values()) == {0}
    assert read_lake_predictions(lake_url, as_of=START, version="1")["user_id"].tolist() == ["u2"]
    location = LakeLocation(lake_url)
    for table in ("events", "predictions"):
        for path in location.sizes(table):
            with location.filesystem.open_input_file(location.path_of(f"{table}/{path}")) as stream:
                content = stream.read()
            assert b'"u1"' not in content, path
    assert sync(remote).rows == remote.events.count_documents({})
    assert damage(lake_url) == []


def test_a_missing_object_is_rebuilt(remote: Store) -> None:
    fill(remote, range(1, 2), 30)
    state = sync(remote)
    location = LakeLocation(remote.settings.lake_url)
    table = LakeTable.open(location, EVENTS)
    assert table is not None
    location.delete(f"events/{table.files[0].path}")
    assert "is missing" in damage(remote.settings.lake_url)[0]
    assert sync(remote) == state
    assert ids_read(Lake(remote.settings.lake_url)) == sorted(remote.events.distinct("_id"))


def test_a_damaged_object_is_named_when_it_is_read_or_checked(remote: Store) -> None:
    fill(remote, range(1, 2), 3_000)
    sync(remote)
    location = LakeLocation(remote.settings.lake_url)
    table = LakeTable.open(location, EVENTS)
    assert table is not None
    path = location.path_of(f"events/{table.files[0].path}")
    with location.filesystem.open_input_file(path) as stream:
        content = bytearray(stream.read())
    ids = pq.read_metadata(io.BytesIO(content)).row_group(0).column(0)
    assert ids.path_in_schema == "event_id"
    content[ids.data_page_offset + ids.total_compressed_size // 2] ^= 4
    with location.filesystem.open_output_stream(path) as stream:
        stream.write(bytes(content))
    assert damage(remote.settings.lake_url) == []
    with pytest.raises(IntegrityError, match="retail lake rebuild"):
        ids_read(Lake(remote.settings.lake_url))
    (sentence,) = damage(remote.settings.lake_url, read_objects=True)
    assert "has other content than was committed" in sentence
    rebuild(remote)
    assert damage(remote.settings.lake_url, read_objects=True) == []
    assert ids_read(Lake(remote.settings.lake_url)) == sorted(remote.events.distinct("_id"))


def test_a_bucket_that_does_not_exist_is_explained(remote: Store) -> None:
    put(remote, 1, [event(1, 1)])
    settings = remote.settings.model_copy(update={"lake": "s3://nobucket/lake"})
    with pytest.raises(DependencyError, match="RETAIL_LAKE"):
        sync(Store(settings, remote.client, remote.database))
