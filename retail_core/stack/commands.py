"""`up`, `down` and `status` of the stack of services on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from retail_core.api_keys import has_keys
from retail_core.errors import DependencyError, InputError
from retail_core.file_locks import create_private_folder
from retail_core.registry.artifact_locations import relocate_registry
from retail_core.settings import Settings
from retail_core.stack.child import is_healthy
from retail_core.stack.mongo_keeper import MONGODB, MongoKeeper
from retail_core.stack.ownership import END_SECONDS, Echo, already_running, clean_up, end_owner, owned
from retail_core.stack.processes import Identity
from retail_core.stack.registry_probe import champion_missing
from retail_core.stack.services import ROOT, environment, services, variables
from retail_core.stack.state import ServiceState, StackFiles, StackState, last_lines, rotate
from retail_core.stack.supervisor import SharedContext, Stop, Supervisor, refuse_busy_ports
from retail_core.store.mongod.embedded import mongod_status, stop_mongod

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
START_TIMEOUT_SECONDS = 600.0

Report = dict[str, object]


def up(settings: Settings, *, echo: Echo, detach: bool = False) -> Report:
    """Start the stack and supervise it until Ctrl-C, SIGTERM or `down`.

    Args:
        settings: ports, home, and which services are external.
        echo: receives messages for people.
        detach: return as soon as everything is ready and leave the stack running.

    Returns:
        Detached: the report of `status`. Otherwise `{"ended_by": signal name}`.

    Raises:
        InputError: two services share a port, the home cannot be written, or the API would be open to
            the network without keys.
        DependencyError: a port is busy, the stack runs already, or a service does not become healthy.
    """
    files = StackFiles(settings.home_dir)
    _refuse_open_api(settings)
    if detach:
        return _up_detached(settings, files, echo)
    stop = Stop()
    with stop.listening(), owned(files, echo) as state:
        table = services(settings, lambda: champion_missing(settings))
        refuse_busy_ports(table)
        try:
            keeper = MongoKeeper(settings, state, echo)
            keeper()
            shared = SharedContext(files, _prepared(settings), ROOT, echo, keeper)
            supervisor = Supervisor(table, state, shared, stop)
            ended_by = supervisor.run(lambda: _announce(state, echo))
        finally:
            if settings.mongodb_uri is None:
                stop_mongod(settings)
        echo(f"the stack has ended ({ended_by})")
        return {"ended_by": ended_by}


def down(settings: Settings, *, echo: Echo = lambda _: None) -> Report:
    """End the stack of this home and every process that a killed one left behind.

    Returns:
        `was_running`, `services` (names that were stopped), `leftovers` (processes that had no
        supervisor any more), `mongodb` (whether the embedded server was stopped).

    Raises:
        DependencyError: a process does not end, or belongs to another user.
    """
    files = StackFiles(settings.home_dir)
    if not settings.home_dir.is_dir():
        return {"was_running": False, "services": [], "leftovers": 0, "mongodb": False}
    was_running = files.running()
    state = files.read()
    mongodb = settings.mongodb_uri is None and mongod_status(settings) is not None
    names = [name for name, service in state.services.items() if service.pid] if state else []
    if was_running:
        end_owner(files, echo)
    with files.exclusive(wait=END_SECONDS) as acquired:
        if not acquired:
            raise DependencyError(
                "The stack does not end.", remedy=f"kill the process that holds {files.lock}."
            )
        leftovers = clean_up(files, echo)
        if settings.mongodb_uri is None:
            stop_mongod(settings)
    return {"was_running": was_running, "services": names, "leftovers": leftovers, "mongodb": mongodb}


def status(settings: Settings) -> Report:
    """Current state: `running`, `ready`, `since`, `supervisor_pid` and `services`.

    Each service has `state, running, healthy, port, pid, url, since, restarts, note, log`. The embedded
    MongoDB is included even where a command, not the stack, has started it.
    """
    files = StackFiles(settings.home_dir)
    running = files.running()
    state = files.read()
    reports = {name: _service_report(s) for name, s in state.services.items()} if state else {}
    embedded = mongod_status(settings) if settings.mongodb_uri is None else None
    if embedded is not None:
        report = reports.get(MONGODB) or _service_report(ServiceState("healthy", log=str(embedded["log"])))
        live = {"running": True, "healthy": True, "pid": embedded["pid"], "port": embedded["port"]}
        reports[MONGODB] = report | live
    return {
        "running": running,
        "ready": bool(running and state and state.ready),
        "since": state.since if running and state else None,
        "supervisor_pid": state.pid if running and state else None,
        "services": reports,
    }


def _up_detached(settings: Settings, files: StackFiles, echo: Echo) -> Report:
    """Run `up` as a daemon and echo its log until it is ready."""
    files.prepare()
    if files.running():
        raise already_running(files)
    refuse_busy_ports(services(settings, lambda: True))
    log = files.logs / "stack.log"
    rotate(log)
    log.touch()
    daemon = _start_daemon(settings, log)
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    with log.open() as output:
        while time.monotonic() < deadline:
            alive = daemon.process() is not None
            for line in output:
                echo(line.rstrip("\n"))
            if not alive:
                reason = (last_lines(log, 1) or ["its log is empty"])[0]
                raise DependencyError(f"The stack did not start: {reason}", remedy=f"see {log}.")
            state = files.read()
            if state is not None and state.pid == daemon.pid and state.ready:
                return status(settings)
            time.sleep(0.1)
    down(settings)
    raise DependencyError(
        f"The stack was not ready within {START_TIMEOUT_SECONDS:.0f} s.", remedy=f"see {log}."
    )


def _start_daemon(settings: Settings, log: Path) -> Identity:
    """Start `up` as a daemon, which is not a child of this process and outlives it."""
    command = [sys.executable, "-m", "retail_core.stack", "--detach", str(log)]
    started = subprocess.run(
        command, env=_environment_of(settings), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    pid = int(started.stdout)
    return Identity.of(pid) or Identity(pid, 0.0)


def _environment_of(settings: Settings) -> dict[str, str]:
    """This environment with exactly these settings, for a process that reads them itself."""
    ours = variables(settings)
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return inherited | {name: value for name, value in ours.items() if value is not None}


def _prepared(settings: Settings) -> dict[str, str]:
    for name in ("mlflow", "prefect"):
        create_private_folder(settings.home_dir / name)
    # The services reach MLflow over HTTP only, and its server takes the locations as they are stored.
    relocate_registry(settings)
    return environment(settings)


def _refuse_open_api(settings: Settings) -> None:
    if settings.api_host not in LOOPBACK_NAMES and not has_keys(settings):
        raise InputError(
            f"RETAIL_API_HOST={settings.api_host} would open the API to the network without keys.",
            remedy="create one with `retail keys add`, set RETAIL_API_KEYS, or unset RETAIL_API_HOST.",
        )


def _service_report(service: ServiceState) -> Report:
    identity = service.identity
    process = identity.process() if identity else None
    is_done = service.state == "done"
    return {
        "state": service.state,
        "running": process is not None,
        "healthy": is_done or (process is not None and bool(service.health) and is_healthy(service.health)),
        "port": service.port,
        "pid": service.pid,
        "url": service.url or None,
        "since": service.since or None,
        "restarts": service.restarts,
        "note": service.note or None,
        "log": service.log or None,
    }


def _announce(state: StackState, echo: Echo) -> None:
    echo("")
    for name, service in state.services.items():
        if service.url:
            echo(f"{name:<12} {service.url}{f'  ({service.note})' if service.note else ''}")
    echo("everything is up; Ctrl-C or `retail down` ends all of it")
