"""Process supervisors against the hard requirements of `retail up` (decision 0006).

Run with the interpreter of an environment that has this project:
`uv pip install --target /some/folder supervisor circus honcho`, then
`PYTHONPATH=.:/some/folder python -m tests.benchmarks.decisions.supervisors`.

Two services each: `plain`, an HTTP server; and `stubborn`, which ignores SIGTERM and whose HTTP server is
its child. Every process carries a mark in its environment, by which this script counts the survivors.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil

from retail_core.subprocesses import free_port, port_is_free

ROOT = Path(__file__).resolve().parents[3]
TINY = next((ROOT / "tests").rglob("tiny_stack.py"))
MARK = "SUPERVISOR_COMPARISON"
SERVER = (
    "import http.server as h; h.HTTPServer(('127.0.0.1', {}), h.SimpleHTTPRequestHandler).serve_forever()"
)
STUBBORN = """import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", {!r}])
time.sleep(600)
"""
Commands = dict[str, list[str]]


def supervisord(folder: Path, services: Commands) -> list[str]:
    """Supervisor 4, stop and kill signals sent to the process group."""
    lines = [
        "[unix_http_server]",
        f"file={folder}/socket",
        "[supervisord]",
        "nodaemon=true",
        f"pidfile={folder}/supervisord.pid",
        f"logfile={folder}/log",
        "",
    ]
    for name, command in services.items():
        quoted = " ".join(command)
        lines += [f"[program:{name}]", f"command={quoted}", "stopasgroup=true", "killasgroup=true"]
        lines += ["stopwaitsecs=1", "startsecs=1", ""]
    (folder / "supervisord.conf").write_text("\n".join(lines))
    return [sys.executable, "-m", "supervisor.supervisord", "-c", str(folder / "supervisord.conf")]


def circusd(folder: Path, services: Commands) -> list[str]:
    """Circus, children stopped too."""
    endpoints = [f"{name} = tcp://127.0.0.1:{free_port()}" for name in ("endpoint", "pubsub_endpoint")]
    lines = ["[circus]", *endpoints, f"pidfile = {folder}/circus.pid", "check_delay = 0.5", ""]
    for name, (program, script) in services.items():
        lines += [f"[watcher:{name}]", f"cmd = {program}", f"args = {script}", "graceful_timeout = 1"]
        lines += ["stop_children = true", "copy_env = true", ""]
    (folder / "circus.ini").write_text("\n".join(lines))
    return [sys.executable, "-m", "circus.circusd", str(folder / "circus.ini")]


def honcho(folder: Path, services: Commands) -> list[str]:
    """Honcho, a Procfile."""
    text = "\n".join(f"{name}: exec {' '.join(command)}" for name, command in services.items())
    (folder / "Procfile").write_text(text + "\n")
    return [sys.executable, "-m", "honcho.command", "-f", str(folder / "Procfile"), "start"]


def retail_up(folder: Path, services: Commands) -> list[str]:
    """The supervisor of `retail up`."""
    ports = json.loads((folder / "ports.json").read_text())
    table = [
        {
            "name": name,
            "command": command,
            "port": ports[name],
            "health": f"http://127.0.0.1:{ports[name]}/",
            "grace": 1.0,
            "backoff": 0.1,
        }
        for name, command in services.items()
    ]
    (folder / "table.json").write_text(json.dumps(table))
    return [sys.executable, str(TINY), str(folder), str(folder / "table.json")]


CANDIDATES: dict[str, tuple[str, Callable[[Path, Commands], list[str]]]] = {
    "retail up": ("retail_core", retail_up),
    "supervisor": ("supervisor", supervisord),
    "circus": ("circus", circusd),
    "honcho": ("honcho", honcho),
}


class Trial:
    """One supervisor with its two services in a folder of its own."""

    def __init__(self, folder: Path, make: Callable[[Path, Commands], list[str]]) -> None:
        self.mark = uuid.uuid4().hex
        self.folder = folder
        self.ports = {"plain": free_port(), "stubborn": free_port()}
        (folder / "ports.json").write_text(json.dumps(self.ports))
        server = {name: SERVER.format(port) for name, port in self.ports.items()}
        (folder / "plain.py").write_text(server["plain"])
        (folder / "stubborn.py").write_text(STUBBORN.format(server["stubborn"]))
        services = {name: [sys.executable, str(folder / f"{name}.py")] for name in self.ports}
        self.command = make(folder, services)

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, MARK: self.mark}
        log = (self.folder / "output.txt").open("ab")
        return subprocess.Popen(self.command, env=environment, cwd=ROOT, stdout=log, stderr=log)

    def services(self) -> list[psutil.Process]:
        """Live processes of the services, children included."""
        scripts = {str(self.folder / "plain.py"), str(self.folder / "stubborn.py")}
        return [process for process in self.marked() if scripts & set(line(process)) or "-c" in line(process)]

    def marked(self) -> list[psutil.Process]:
        marked = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    marked.append(process)
            except psutil.Error:
                continue
        return marked

    def leader(self, name: str) -> psutil.Process | None:
        script = str(self.folder / f"{name}.py")
        return next((process for process in self.services() if script in line(process)), None)

    def listening(self) -> bool:
        return not any(port_is_free("127.0.0.1", port) for port in self.ports.values())

    def end_all(self) -> None:
        for _ in range(3):
            for process in self.marked():
                process.kill()
            time.sleep(0.2)


def line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def wait(condition: Callable[[], object], seconds: float = 15.0) -> float | None:
    """Seconds until the condition holds; None when it does not."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            return None
        time.sleep(0.05)
    return round(time.monotonic() - started, 1)


def measure(make: Callable[[Path, Commands], list[str]]) -> dict[str, object]:
    """Each requirement with a fresh start of the supervisor."""
    report: dict[str, object] = {}
    for check in (second_start, service_dies, terminated, killed):
        with tempfile.TemporaryDirectory() as folder:
            trial = Trial(Path(folder), make)
            supervisor = trial.start()
            try:
                wait(trial.listening)
                time.sleep(1)
                report |= check(trial, supervisor)
            finally:
                trial.end_all()
                supervisor.wait()
    return report


def second_start(trial: Trial, supervisor: subprocess.Popen[bytes]) -> dict[str, object]:
    before = set(trial.services())
    second, started = trial.start(), False
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and second.poll() is None and not started:
        started = started or bool(set(trial.services()) - before)
        time.sleep(0.02)
    if second.poll() is None:
        second.kill()
    refused = second.wait() > 0 and not started
    return {"second start refused before it starts a service": refused}


def service_dies(trial: Trial, supervisor: subprocess.Popen[bytes]) -> dict[str, object]:
    leader = trial.leader("stubborn")
    assert leader is not None
    children = leader.children()
    leader.kill()
    seconds = wait(lambda: trial.leader("stubborn") not in {None, leader}, 10)
    time.sleep(2)
    return {
        "killed service restarted, seconds": seconds,
        "the killed service's own children left": sum(child in trial.services() for child in children),
    }


def terminated(trial: Trial, supervisor: subprocess.Popen[bytes]) -> dict[str, object]:
    supervisor.send_signal(signal.SIGTERM)
    seconds = wait(lambda: supervisor.poll() is not None, 30)
    time.sleep(1)
    return {"SIGTERM, gone after seconds": seconds, "SIGTERM, survivors": len(trial.services())}


def killed(trial: Trial, supervisor: subprocess.Popen[bytes]) -> dict[str, object]:
    supervisor.kill()
    supervisor.wait()
    time.sleep(1)
    survivors = set(trial.services())
    restarted = trial.start()
    seconds = wait(lambda: not survivors & set(trial.services()) and trial.listening(), 20)
    left = len(survivors & set(trial.services()))
    restarted.kill()
    restarted.wait()
    return {
        "SIGKILL, survivors": len(survivors),
        "of them after the next start": left,
        "next start works after seconds": seconds,
    }


def main() -> None:
    for name, (module, make) in CANDIDATES.items():
        if importlib.util.find_spec(module) is None:
            print(name, "is not installed")
            continue
        print(name, json.dumps(measure(make), indent=1))


if __name__ == "__main__":
    main()
