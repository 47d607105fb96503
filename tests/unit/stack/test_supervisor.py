"""The supervisor with tiny real processes: whatever happens, nothing is left running and it is said why."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from retail_core.errors import DependencyError, InputError
from retail_core.settings import Settings
from retail_core.stack import commands, processes
from retail_core.stack.child import Service
from retail_core.stack.services import environment, services
from retail_core.stack.state import ServiceState, StackFiles, StackState, last_lines, rotate
from retail_core.stack.supervisor import refuse_busy_ports
from retail_core.subprocesses import free_port, port_is_free

TINY = Path(__file__).with_name("tiny_stack.py")
ROOT = Path(__file__).resolve().parents[3]
SERVER = (
    "import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
)
# Starts the server as a grandchild and turns a deaf ear to being asked to end.
STUBBORN = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen([sys.executable, '-c', {server!r}]); time.sleep(600)"
)


def eventually(condition: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


class Tiny:
    """A home, its table of tiny services and the supervisor in a process of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home
        self.files = StackFiles(home)
        self.settings = Settings(home=home, mongodb_uri="mongodb://127.0.0.1:1")
        self.table: list[dict[str, object]] = []
        self.process: subprocess.Popen[str] | None = None
        self.output = home / "output.txt"

    def server(self, name: str, *, stubborn: bool = False, **fields: object) -> int:
        port = free_port()
        code = SERVER.format(port=port)
        code = STUBBORN.format(server=code) if stubborn else code
        health = f"http://127.0.0.1:{port}/"
        entry = {"name": name, "command": ["{python}", "-c", code], "port": port, "health": health}
        self.table.append({**entry, "variable": "X_PORT", "grace": 0.5, "backoff": 0.1, **fields})
        return port

    def task(self, name: str, code: str, **fields: object) -> None:
        self.table.append({"name": name, "command": ["{python}", "-c", code], **fields})

    def start(self) -> None:
        table = self.home / "table.json"
        table.write_text(json.dumps(self.table))
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(TINY), str(self.home), str(table)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def up(self) -> None:
        self.start()
        eventually(lambda: "READY" in self.printed() or self.finished())
        assert "READY" in self.printed(), self.printed()

    def printed(self) -> str:
        return self.output.read_text()

    def finished(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def send(self, sign: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(sign)

    def code(self) -> int:
        assert self.process is not None
        return self.process.wait(90)

    def state(self) -> StackState:
        state = self.files.read()
        assert state is not None
        return state

    def pid(self, name: str) -> int:
        return self.state().services[name].pid or 0

    def nothing_left(self) -> bool:
        ports = [entry["port"] for entry in self.table if "port" in entry]
        free = all(port_is_free("127.0.0.1", int(str(port))) for port in ports)
        return free and not processes.family(self.mark)

    def remember(self) -> None:
        self.mark = self.state().id


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Tiny]:
    stack = Tiny(tmp_path / "home")
    yield stack
    commands.down(stack.settings)
    if stack.process is not None and stack.process.poll() is None:
        stack.process.kill()
    if stack.process is not None:
        stack.process.wait(10)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, "down"])
def test_one_signal_or_down_ends_everything_with_grandchildren(tiny: Tiny, how: signal.Signals | str) -> None:
    tiny.server("base")
    tiny.task("prepare", "print('prepared')", after=["base"])
    tiny.server("stubborn", stubborn=True, after=["prepare"])
    tiny.up()
    tiny.remember()
    state = tiny.state()
    assert {name: service.state for name, service in state.services.items()} == {
        "base": "healthy",
        "prepare": "done",
        "stubborn": "healthy",
    }
    assert len(processes.family(state.id)) == 3
    report = commands.status(tiny.settings)
    assert report["running"]
    assert report["ready"]

    if isinstance(how, signal.Signals):
        tiny.send(how)
    else:
        assert commands.down(tiny.settings)["services"] == ["base", "prepare", "stubborn"]

    assert tiny.code() == 0
    assert tiny.nothing_left()
    assert not tiny.files.state.exists()
    assert commands.status(tiny.settings) == {
        "running": False,
        "ready": False,
        "since": None,
        "supervisor_pid": None,
        "services": {},
    }
    assert "prepared" in "\n".join(last_lines(tiny.files.logs / "prepare.log"))


@pytest.mark.parametrize("command", ["down", "up"])
def test_what_a_killed_stack_left_behind_is_ended_by_the_next_command(tiny: Tiny, command: str) -> None:
    tiny.server("plain")
    tiny.server("orphaning", stubborn=True)
    tiny.up()
    tiny.remember()
    tiny.send(signal.SIGKILL)
    tiny.code()
    # Its grandchild now belongs to init; only the mark still tells whose it is.
    os.kill(tiny.pid("orphaning"), signal.SIGKILL)
    assert not commands.status(tiny.settings)["running"]

    if command == "down":
        assert commands.down(tiny.settings)["leftovers"] == 2
        assert tiny.nothing_left()
    else:
        tiny.up()
        assert "ended 2 processes that a killed stack had left behind" in tiny.printed()


def test_a_process_that_only_shares_the_recorded_pid_is_spared(tiny: Tiny) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        created = psutil.Process(stranger.pid).create_time() - 100
        gone = ServiceState(state="healthy", pid=stranger.pid, created=created)
        tiny.files.prepare()
        tiny.files.write(StackState("no-such-id", stranger.pid, created, "", services={"x": gone}))
        assert commands.down(tiny.settings)["leftovers"] == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_second_up_says_that_one_runs(tiny: Tiny) -> None:
    tiny.server("one")
    tiny.up()
    with pytest.raises(DependencyError, match=f"already running.*{tiny.state().pid}"):
        commands.up(tiny.settings, echo=print)


def test_a_busy_port_is_named_with_holder_and_variable_before_anything_starts(tiny: Tiny) -> None:
    tiny.server("first")
    port = tiny.server("second")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        tiny.start()
        assert tiny.code() == 3
    assert f"Port {port} for second is in use by process {os.getpid()} (" in tiny.printed()
    assert "set X_PORT" in tiny.printed()
    assert len(tiny.printed().splitlines()) == 1
    assert list(tiny.files.logs.iterdir()) == []


def test_two_services_on_one_port_are_refused() -> None:
    pair = [Service(name, ("x",), port=1, variable=f"{name}_PORT") for name in ("A", "B")]
    with pytest.raises(InputError, match="A and B are both set to port 1") as error:
        refuse_busy_ports(pair)
    assert "B_PORT" in error.value.remedy


def test_a_service_that_dies_is_restarted_a_bounded_number_of_times(tiny: Tiny) -> None:
    tiny.server("mortal", stubborn=True, restarts=2)
    tiny.server("other")
    tiny.up()
    for count in (1, 2):
        killed = tiny.pid("mortal")
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: f"restart {count} of 2" in tiny.printed())  # noqa: B023
        # The state file is written after the message: until then it has the killed process as healthy.
        eventually(lambda: tiny.pid("mortal") != killed)  # noqa: B023
        eventually(lambda: tiny.state().services["mortal"].state == "healthy")
    os.kill(tiny.pid("mortal"), signal.SIGKILL)
    eventually(lambda: "given up after 2 restarts" in tiny.printed())
    eventually(lambda: tiny.state().services["mortal"].state == "failed")
    assert not tiny.finished()
    services_now = commands.status(tiny.settings)["services"]
    assert isinstance(services_now, dict)
    assert services_now["other"]["healthy"]
    assert not services_now["mortal"]["healthy"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit('the reason is here')", "bad ended with exit code 1 before it was ready"),
        (
            "print('the reason is here', flush=True); import time; time.sleep(60)",
            "bad was not ready within 1 s",
        ),
    ],
)
def test_a_service_that_does_not_come_up_ends_all_and_shows_its_log(
    tiny: Tiny, code: str, reason: str
) -> None:
    tiny.server("good")
    tiny.task("bad", code, health="http://127.0.0.1:1/", timeout=1.0, after=["good"])
    tiny.start()
    eventually(lambda: tiny.files.read() is not None or tiny.finished())
    tiny.remember()
    assert tiny.code() == 3
    assert reason in tiny.printed()
    assert "  the reason is here" in tiny.printed()
    assert tiny.nothing_left()


def test_a_service_that_waits_starts_when_the_time_has_come(tiny: Tiny) -> None:
    sign = tiny.home / "sign"
    tiny.server("late", wait_for=str(sign))
    tiny.up()
    assert tiny.printed().count("waits for a file") == 1
    assert tiny.state().services["late"].note == "waits for a file"
    sign.touch()
    eventually(lambda: tiny.state().services["late"].state == "healthy")
    assert tiny.state().services["late"].note == ""


def test_services_find_each_other_and_keep_every_setting(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, timezone="Asia/Shanghai", api_keys="one,two", api_port=1234, horizon_hours=48
    )
    code = (
        "from retail_core.settings import load_settings as s;"
        "print(s().model_dump_json(), s().api_keys.get_secret_value())"
    )
    variables = environment(settings)
    printed = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    stored_settings, keys = printed.stdout.split()
    expected = settings.model_copy(
        update={
            "mlflow_tracking_uri": "http://127.0.0.1:5000",
            "prefect_api_url": "http://127.0.0.1:4200/api",
        }
    )
    assert json.loads(stored_settings) == json.loads(expected.model_dump_json())
    assert keys == "one,two"
    assert "127.0.0.1" in variables["NO_PROXY"]


def test_what_is_given_from_outside_is_not_started(tmp_path: Path) -> None:
    external = Settings(
        home=tmp_path,
        mlflow_tracking_uri="http://mlflow.example",
        prefect_api_url="http://prefect.example/api",
    )
    names = [service.name for service in services(external, lambda: True)]
    assert names == ["pool", "deployments", "automations", "worker", "api", "app"]
    assert environment(external)["MLFLOW_TRACKING_URI"] == "http://mlflow.example"
    assert environment(external)["PREFECT_API_URL"] == "http://prefect.example/api"


def test_every_service_listens_on_loopback_unless_told(tmp_path: Path) -> None:
    table = services(Settings(home=tmp_path), lambda: True)
    assert {service.host for service in table} == {"127.0.0.1"}
    with pytest.raises(InputError, match="without keys"):
        commands.up(Settings(home=tmp_path, api_host="0.0.0.0"), echo=print)


def test_logs_are_rotated_and_an_unreadable_state_counts_as_none(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    for number in range(6):
        rotate(log)
        log.write_text(str(number))
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["5", "4", "3", "2"]
    files = StackFiles(tmp_path)
    state = StackState("id", 1, 2.0, "now", services={"a": ServiceState(pid=3, created=4.0)})
    files.write(state)
    assert asdict(files.read() or state) == asdict(state)
    for text in ("", "[]", "{}", '{"services": {"a": {"unknown": 1}}}'):
        files.state.write_text(text)
        assert files.read() is None
