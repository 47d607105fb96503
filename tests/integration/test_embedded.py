"""The embedded mongod: one per home under concurrent starts, kills, occupied ports and damage."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from retail_core.errors import DependencyError, InputError
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from retail_core.store.mongo.server_errors import redact
from retail_core.store.mongod import access
from retail_core.store.mongod.embedded import ensure_mongod, mongod_status, rotate_key, stop_mongod
from retail_core.store.mongod.process import ServerFiles, command_line, find_running, locate_binary
from retail_core.store.mongod.replica_set import initiate_replica_set
from retail_core.subprocesses import free_port

pytestmark = [pytest.mark.integration, pytest.mark.long]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def isolated(tmp_path: Path) -> Iterator[Settings]:
    """A home whose server no other test uses; its path has a space."""
    yield from _served(tmp_path / "my home")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home whose server the tests of this module share, in the state that the previous test left."""
    yield from _served(tmp_path_factory.mktemp("shared"))


def _served(home: Path) -> Iterator[Settings]:
    settings = Settings(home=home)
    yield settings
    stop_mongod(settings)
    assert until(lambda: not _supervisors(settings))


def until(condition: Callable[[], bool], seconds: float = 90) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _command_lines(word: str, settings: Settings) -> list[psutil.Process]:
    def is_ours(process: psutil.Process) -> bool:
        try:
            line = " ".join(process.cmdline())
            return word in line and str(settings.home_dir) in line and process.status() != "zombie"
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if is_ours(process)]


def _supervisors(settings: Settings) -> list[psutil.Process]:
    return _command_lines("retail_core.store.mongod.idle_supervisor", settings)


def _pid(settings: Settings) -> int:
    status = mongod_status(settings)
    assert status is not None
    return int(status["pid"])


def _kill(settings: Settings) -> None:
    pid = _pid(settings)
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: mongod_status(settings) is None)


def test_a_server_starts_on_demand_serves_the_next_command_and_stops(isolated: Settings) -> None:
    assert mongod_status(isolated) is None
    assert not stop_mongod(isolated)
    uri = ensure_mongod(isolated)
    assert uri.startswith("mongodb://retail:")
    pid = _pid(isolated)
    assert ensure_mongod(isolated) == uri
    assert _pid(isolated) == pid
    with open_store(isolated) as store:
        store.events.insert_one({"_id": "a"})
        hello = store.client.admin.command("hello")
    assert hello["setName"] == "rs0"
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(pid).net_connections()
        if connection.status == "LISTEN"
    }
    assert listening == {"127.0.0.1"}
    assert stop_mongod(isolated)
    assert mongod_status(isolated) is None
    assert not _command_lines("bin/mongod", isolated)
    with open_store(isolated) as store:
        assert store.events.count_documents({}) == 1


def test_it_has_its_own_session_so_that_ctrl_c_does_not_reach_it(shared: Settings) -> None:
    ensure_mongod(shared)
    for pid in (_pid(shared), _supervisors(shared)[0].pid):
        assert os.getsid(pid) != os.getsid(0)
        assert psutil.Process(pid).terminal() is None
        assert os.getpid() not in {parent.pid for parent in psutil.Process(pid).parents()}


def test_concurrent_commands_share_one_server(isolated: Settings) -> None:
    program = (
        "import sys; from pathlib import Path; from retail_core.settings import Settings;"
        "from retail_core.store.mongo.connection import open_store;"
        "s = open_store(Settings(home=Path(sys.argv[1])));"
        "s.events.insert_one({'_id': sys.argv[2]}); s.close()"
    )
    command = [sys.executable, "-c", program, str(isolated.home)]
    running = [subprocess.Popen([*command, str(number)], cwd=ROOT) for number in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(_command_lines("bin/mongod", isolated)) == 1
    assert len(_supervisors(isolated)) == 1
    with open_store(isolated) as store:
        assert store.events.count_documents({}) == 3


def test_after_kill_9_the_next_command_has_the_data(shared: Settings) -> None:
    with open_store(shared) as store:
        store.events.delete_many({})
        store.events.insert_many([{"_id": number} for number in range(1000)])
    _kill(shared)
    with open_store(shared) as store:
        assert store.events.count_documents({}) == 1000


def test_a_stale_record_that_names_another_process_is_ignored(shared: Settings) -> None:
    ensure_mongod(shared)
    _kill(shared)
    folder = shared.home_dir / "mongo"
    (folder / "server.json").write_text(f'{{"pid": {os.getpid()}, "port": 1}}')
    (folder / "data" / "mongod.lock").write_text(f"{os.getpid()}\n")
    assert mongod_status(shared) is None
    with open_store(shared) as store:
        assert store.client.admin.command("ping")["ok"] == 1


def test_a_server_that_was_never_recorded_is_adopted(shared: Settings) -> None:
    uri = ensure_mongod(shared)
    pid = _pid(shared)
    (shared.home_dir / "mongo" / "server.json").unlink()
    assert ensure_mongod(shared) == uri
    assert _pid(shared) == pid


def test_an_occupied_port_moves_the_replica_set(shared: Settings) -> None:
    with open_store(shared) as store:
        store.events.delete_many({})
        store.events.insert_one({"_id": "a"})
    status = mongod_status(shared)
    assert status is not None
    stop_mongod(shared)
    port = int(status["port"])
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        assert until(lambda: _bound(foreign, port))
        foreign.listen()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(_hang_up, foreign)
            with open_store(shared) as store:
                assert store.events.count_documents({}) == 1
                assert store.client.address is not None
                assert store.client.address[1] != port
            foreign.shutdown(socket.SHUT_RDWR)


def _bound(foreign: socket.socket, port: int) -> bool:
    try:
        foreign.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def _hang_up(foreign: socket.socket) -> None:
    """Accept connections and close them, like a server of another protocol."""
    while True:
        try:
            foreign.accept()[0].close()
        except OSError:
            return


def test_a_killed_supervisor_is_replaced_and_the_server_stays(shared: Settings) -> None:
    ensure_mongod(shared)
    pid = _pid(shared)
    (first,) = _supervisors(shared)
    first.kill()
    first.wait(30)
    assert until(lambda: bool(ensure_mongod(shared)) and len(_supervisors(shared)) == 1)
    assert first.pid not in {process.pid for process in _supervisors(shared)}
    assert _pid(shared) == pid


def test_an_idle_server_stops_but_not_under_a_connected_client(isolated: Settings) -> None:
    ensure_mongod(isolated, idle_seconds=1.5)
    with open_store(isolated) as store:
        store.client.admin.command("ping")
        pid = _pid(isolated)
        time.sleep(4)
        assert _pid(isolated) == pid
    record = isolated.home_dir / "mongo" / "server.json"
    assert until(lambda: mongod_status(isolated) is None and not record.exists())
    assert until(lambda: not _supervisors(isolated))
    assert ensure_mongod(isolated)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file",
            "libcurl.so.4: cannot open shared object file",
        ),
        (
            "mongod: /lib/libc.so.6: version `GLIBC_2.34' not found (required by mongod)",
            "version `GLIBC_2.34' not found",
        ),
    ],
)
def test_a_binary_that_cannot_run_is_explained_with_remedies(
    isolated: Settings, tmp_path: Path, output: str, expected: str
) -> None:
    binary = tmp_path / "mongod"
    binary.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{output}\nEND\nexit 127\n")
    binary.chmod(0o755)
    with pytest.raises(DependencyError) as caught:
        ensure_mongod(isolated, binary=binary)
    text = str(caught.value)
    assert expected in text
    for remedy in ("RETAIL_MONGODB_URI", "docker compose up -d mongo", "apt-get install libcurl4 libssl3"):
        assert remedy in text


def test_a_binary_of_another_machine_and_damaged_data_are_explained(
    isolated: Settings, tmp_path: Path
) -> None:
    binary = tmp_path / "mongod"
    binary.write_bytes(b"\x7fELF of another machine")
    binary.chmod(0o755)
    with pytest.raises(DependencyError, match="format"):
        ensure_mongod(isolated, binary=binary)
    ensure_mongod(isolated)
    stop_mongod(isolated)
    (isolated.home_dir / "mongo" / "data" / "storage.bson").write_text("damaged")
    with pytest.raises(DependencyError, match=r"log: .*mongod\.log"):
        ensure_mongod(isolated)


def test_a_home_that_is_a_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="RETAIL_HOME"):
        ensure_mongod(Settings(home=tmp_path / "file"))


def test_no_error_shows_a_password(tmp_path: Path) -> None:
    def refuse(uri: str, kind: type[Exception]) -> None:
        with pytest.raises(kind) as caught:
            open_store(Settings(home=tmp_path, mongodb_uri=SecretStr(uri)))
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None

    refuse("mongodb://app:s3cret@127.0.0.1:1/?serverSelectionTimeoutMS=1", DependencyError)
    refuse("mongodb://app:s3cret/s3cret@host:x/", InputError)
    refuse("postgres://app:s3cret@host/", InputError)
    assert redact("mongodb://a:b@c@host/?tls=true") == "mongodb://***@host/"


def test_wrong_credentials_are_named(mongod_uri: str, tmp_path: Path) -> None:
    uri = f"mongodb://app:s3cret@{mongod_uri.partition('@')[2]}"
    with pytest.raises(DependencyError, match="refused the credentials") as caught:
        open_store(Settings(home=tmp_path, mongodb_uri=SecretStr(uri)))
    assert "s3cret" not in str(caught.value)


def _port(settings: Settings) -> int:
    status = mongod_status(settings)
    assert status is not None
    return int(status["port"])


def _start_without_authentication(files: ServerFiles) -> None:
    """Start the server as an earlier release did, as primary with one event."""
    files.data.mkdir(parents=True)
    command = command_line(locate_binary(files), files, free_port())
    position = command.index("--keyFile")
    subprocess.run(command[:position] + command[position + 2 :], check=True, stdout=subprocess.DEVNULL)
    server = find_running(files)
    assert server is not None
    with MongoClient(f"mongodb://{server.address}/?directConnection=true") as client:
        initiate_replica_set(client, server.address)
        assert until(lambda: client.admin.command("hello")["isWritablePrimary"])
        client.retail.events.insert_one({"_id": "a"})


def test_only_the_holder_of_the_key_can_read_and_write(isolated: Settings) -> None:
    ensure_mongod(isolated)
    with MongoClient(f"mongodb://127.0.0.1:{_port(isolated)}/?directConnection=true") as client:
        for command in (
            {"find": "events"},
            {"insert": "events", "documents": [{"_id": "b"}]},
            {"listCollections": 1},
            {"createUser": "other", "pwd": "x", "roles": ["root"]},
        ):
            with pytest.raises(OperationFailure, match="requires authentication"):
                client.retail.command(command)


def test_the_home_is_private(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "new" / "home")
    ensure_mongod(settings)
    stop_mongod(settings)
    folder = settings.home_dir / "mongo"
    assert stat.S_IMODE((folder / "keyfile").stat().st_mode) == 0o600
    for path in (settings.home_dir, folder, folder / "data"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    key = (folder / "keyfile").read_text()
    for path in folder.iterdir():
        assert path.name == "keyfile" or not path.is_file() or key not in path.read_text(errors="replace")


def test_a_server_that_moves_to_another_port_keeps_its_data_and_user(isolated: Settings) -> None:
    with open_store(isolated) as store:
        store.events.insert_one({"_id": "a"})
    port = _port(isolated)
    stop_mongod(isolated)
    (isolated.home_dir / "mongo" / "port").write_text(str(free_port()))
    with open_store(isolated) as store:
        assert store.events.count_documents({}) == 1
    assert _port(isolated) != port


@pytest.mark.parametrize("is_running", [True, False])
def test_a_server_of_a_release_without_authentication_gets_it(isolated: Settings, is_running: bool) -> None:
    files = ServerFiles(isolated.home_dir / "mongo")
    _start_without_authentication(files)
    if not is_running:
        stop_mongod(isolated)
    with open_store(isolated) as store:
        assert [event["_id"] for event in store.events.find()] == ["a"]
    with (
        MongoClient(f"mongodb://127.0.0.1:{_port(isolated)}/?directConnection=true") as client,
        pytest.raises(OperationFailure, match="requires authentication"),
    ):
        client.retail.events.find_one()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_rotated_key_replaces_the_old_one_and_data_stay(isolated: Settings, is_killed: bool) -> None:
    """Killed after the server's user has the new key, the next command puts it in place."""
    with open_store(isolated) as store:
        store.events.insert_one({"_id": "a"})
    files = ServerFiles(isolated.home_dir / "mongo")
    old_key = files.key_file.read_text()
    if is_killed:
        with access.connect(_port(isolated), old_key, "test") as client:
            access.change_key(client, access.ensure_key(files.next_key_file))
    else:
        rotate_key(isolated)
    with open_store(isolated) as store:
        assert store.events.count_documents({}) == 1
    assert files.key_file.read_text() != old_key
    assert stat.S_IMODE(files.key_file.stat().st_mode) == 0o600
    assert not files.next_key_file.exists()
    with access.connect(_port(isolated), old_key, "test") as client:
        assert not access.is_key_accepted(client)


def test_a_lost_key_is_named(isolated: Settings) -> None:
    ensure_mongod(isolated)
    stop_mongod(isolated)
    (isolated.home_dir / "mongo" / "keyfile").unlink()
    with pytest.raises(DependencyError, match=r"does not accept the key in .*keyfile"):
        ensure_mongod(isolated)
    stop_mongod(isolated)
