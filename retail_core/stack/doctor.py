"""Checks of this machine, the settings and the data, each with a remedy. No check raises."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from retail_core.errors import RetailError
from retail_core.settings import Settings
from retail_core.stack import processes
from retail_core.stack.child import is_healthy
from retail_core.stack.commands import status
from retail_core.stack.doctor_check import DoctorCheck, guarded
from retail_core.stack.registry_probe import tracking_credentials
from retail_core.stack.services import api_url, runs_mlflow, services
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongo.ledger import shop_zone
from retail_core.store.mongo.quarantine import count_refused
from retail_core.store.mongod.embedded import mongod_status
from retail_core.subprocesses import port_is_free
from retail_core.times import iso

PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
LOW_DISK_BYTES = 5 * 10**9
FULL_DISK_BYTES = 10**9
MONGO_RELEASE = 6
CLOCK_TOLERANCE = timedelta(seconds=60)
ANSWER_SECONDS = 10.0
"""Time limit of a request to a service; a healthy one may take seconds on a busy machine."""


def doctor(
    settings: Settings, *, deep: bool = False, progress: Callable[[str], object] = str
) -> list[dict[str, str]]:
    """Run every check: `name`, `state` (ok, warn or fail), `what` was observed, and the `remedy`.

    MongoDB is started if this home has data and its embedded server does not run.

    Args:
        settings: what to check.
        deep: also read everything that is stored, see `deep_checks`.
        progress: called with the name of each deep check before it begins.
    """
    checks = [
        guarded("python", _python),
        guarded("disk", partial(_disk, settings)),
        guarded("home", partial(_home, settings)),
        guarded("ports", partial(_ports, settings)),
        guarded("stack", partial(_stack, settings)),
        guarded("mlflow", partial(_mlflow, settings)),
        guarded("champion", partial(_champion, settings)),
        guarded("java", partial(_java, settings)),
        *_with_store(settings),
    ]
    if deep:
        from retail_core.stack.deep_checks import deep_checks

        checks += deep_checks(settings, progress)
    return [asdict(check) for check in checks]


def _python() -> DoctorCheck:
    version = platform.python_version()
    supported = sys.version_info[:2] in PYTHONS
    remedy = "" if supported else "use Python 3.11 to 3.14."
    text = f"Python {version} on {platform.platform()}"
    return DoctorCheck("python", "ok" if supported else "warn", text, remedy)


def _disk(settings: Settings) -> DoctorCheck:
    place = settings.home_dir
    while not place.exists():
        place = place.parent
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        remedy = "set RETAIL_HOME to a folder you may write to."
        return DoctorCheck(
            "disk", "fail", f"{settings.home_dir} cannot be written: {place} does not let you", remedy
        )
    free = shutil.disk_usage(place).free
    state: Literal["ok", "warn", "fail"] = "ok"
    if free < LOW_DISK_BYTES:
        state = "fail" if free < FULL_DISK_BYTES else "warn"
    remedy = "" if state == "ok" else "free space, or set RETAIL_HOME to a larger disk."
    return DoctorCheck("disk", state, f"{free / 1e9:.1f} GB free at {settings.home_dir}", remedy)


def _home(settings: Settings) -> DoctorCheck:
    """Whether only its owner can enter the home, which has the database, its key and the models."""
    home = settings.home_dir
    if not home.exists():
        return DoctorCheck("home", "ok", f"{home} does not exist yet")
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & 0o077:
        remedy = f"chmod 700 {shlex.quote(str(home))}"
        return DoctorCheck("home", "warn", f"other users can enter {home} (mode {mode:04o})", remedy)
    return DoctorCheck("home", "ok", f"only its owner can enter {home}")


def _ports(settings: Settings) -> DoctorCheck:
    if status(settings)["running"]:
        return DoctorCheck("ports", "ok", "held by the running stack")
    served = _is_our_api(settings)
    free, busy = [], []
    for service in services(settings, lambda: True):
        if service.port is None or (served and service.name == "api"):
            continue
        if port_is_free(service.host, service.port):
            free.append(f"{service.port} ({service.name})")
        else:
            holder = processes.port_holder(service.port)
            busy.append(f"{service.port} for {service.name} is in use by {holder} ({service.variable})")
    if busy:
        return DoctorCheck("ports", "fail", "; ".join(busy), "end it, or set the variable to a free port.")
    hint = f"; `retail serve` runs at {settings.api_port}: end it before `retail up`" if served else ""
    return DoctorCheck("ports", "ok", f"free: {', '.join(free)}{hint}")


def _is_our_api(settings: Settings) -> bool:
    """Whether the process on the API's port is our API, ready or not: it documents our routes.

    A request that exceeds its time limit is repeated once.
    """
    import httpx

    url = f"{api_url(settings)}/openapi.json"
    for _ in range(2):
        try:
            paths = httpx.get(url, timeout=ANSWER_SECONDS, trust_env=False).json()["paths"]
            return {"/predict", "/events", "/score_batch"} <= set(paths)
        except httpx.TimeoutException:
            continue
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            return False
    return False


def _stack(settings: Settings) -> DoctorCheck:
    report = status(settings)
    reports = report["services"]
    if not report["running"] or not isinstance(reports, dict):
        return DoctorCheck("stack", "ok", "not running")
    unhealthy = [
        f"{name}: {service['note'] or service['state']}"
        for name, service in reports.items()
        if not service["healthy"]
    ]
    if unhealthy:
        return DoctorCheck(
            "stack", "warn", "; ".join(unhealthy), "see `retail status` and the logs it names."
        )
    return DoctorCheck("stack", "ok", f"running and healthy since {report['since']}")


def _mlflow(settings: Settings) -> DoctorCheck:
    if not runs_mlflow(settings):
        return _own_mlflow(settings.tracking_uri)
    served = is_healthy(f"http://127.0.0.1:{settings.mlflow_port}/health", ANSWER_SECONDS)
    how = f"port {settings.mlflow_port} answers" if served else "read directly; no server runs"
    return DoctorCheck("mlflow", "ok", f"embedded below {settings.home_dir}, {how}")


def _own_mlflow(url: str) -> DoctorCheck:
    """Whether the tracking server answers and accepts the credentials."""
    import httpx

    query = f"{url.rstrip('/')}/api/2.0/mlflow/registered-models/search"
    try:
        answer = httpx.get(
            query, params={"max_results": 1}, timeout=ANSWER_SECONDS, auth=tracking_credentials()
        )
        if answer.status_code in {401, 403}:
            remedy = "correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            return DoctorCheck("mlflow", "fail", f"{url} refused the credentials", remedy)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        remedy = "start it, or correct or unset MLFLOW_TRACKING_URI."
        return DoctorCheck("mlflow", "fail", f"{url} cannot be used: {error}", remedy)
    return DoctorCheck("mlflow", "ok", f"{url} answers")


def _champion(settings: Settings) -> DoctorCheck:
    from retail_core.registry.champion import find_champion
    from retail_core.registry.versions import version_spec

    remedy = "run `retail train`."
    if runs_mlflow(settings) and not (settings.home_dir / "mlflow" / "mlflow.db").exists():
        return DoctorCheck("champion", "warn", "no model has been trained", remedy)
    version = find_champion(settings)
    if version is None:
        return DoctorCheck("champion", "warn", "no version is in production", remedy)
    spec = version_spec(settings, version)
    return DoctorCheck("champion", "ok", f"version {spec.version}, trained {spec.trained_at}, loadable")


def _java(settings: Settings) -> DoctorCheck:
    java = shutil.which("java")
    version = ""
    if java is not None:
        version = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    if version:
        return DoctorCheck("java", "ok", version.splitlines()[0])
    required = settings.engine == "spark"
    text = "none, and RETAIL_ENGINE=spark needs it" if required else "none; only RETAIL_ENGINE=spark needs it"
    remedy = "install a Java 17 runtime, or unset RETAIL_ENGINE." if required else ""
    return DoctorCheck("java", "fail" if required else "ok", text, remedy)


def _with_store(settings: Settings) -> list[DoctorCheck]:
    """The checks that need MongoDB; a single failed check where it is unreachable."""
    unused = settings.mongodb_uri is None and not (settings.home_dir / "mongo" / "data").exists()
    if unused:
        return [DoctorCheck("mongodb", "ok", "no data yet", "run `retail ingest` or `retail demo`.")]
    try:
        store = open_store(settings)
    except RetailError as error:
        return [DoctorCheck("mongodb", "fail", error.message, error.remedy)]
    with store:
        return [
            guarded("mongodb", partial(_mongodb, store)),
            guarded("clock", partial(_clock, store)),
            guarded("lake", partial(_lake, store)),
            guarded("quarantine", partial(_quarantine, store)),
            *([guarded("identities", partial(_identities, store))] if store.identities.find_one({}) else []),
        ]


def _mongodb(store: Store) -> DoctorCheck:
    version = str(store.client.server_info()["version"])
    embedded = mongod_status(store.settings) if store.settings.mongodb_uri is None else None
    place = f"embedded, port {embedded['port']}" if embedded else "at RETAIL_MONGODB_URI"
    text = f"MongoDB {version} {place}, {store.events.estimated_document_count():,} events"
    if int(version.split(".", maxsplit=1)[0]) < MONGO_RELEASE:
        return DoctorCheck("mongodb", "warn", text, "use MongoDB 6 or newer.")
    return DoctorCheck("mongodb", "ok", text)


def _clock(store: Store) -> DoctorCheck:
    """This machine's clock against MongoDB's and against the newest event."""
    local_time = datetime.now(UTC)
    server_time = store.client.admin.command("hello")["localTime"].replace(tzinfo=UTC)
    zone = f"now {iso(local_time)}, shop zone {shop_zone(store)}"
    if abs(local_time - server_time) > CLOCK_TOLERANCE:
        return DoctorCheck(
            "clock", "warn", f"{zone}; MongoDB says {iso(server_time)}", "set the clocks (NTP)."
        )
    from retail_core.store.lake.table import Lake

    newest = Lake(store.settings.lake_url).state().last_event
    if newest is not None and newest > local_time + CLOCK_TOLERANCE:
        remedy = "check the clock here, and the --timezone the files were ingested with."
        return DoctorCheck(
            "clock", "warn", f"{zone}; the newest event is of {iso(newest)}, in the future", remedy
        )
    return DoctorCheck("clock", "ok", zone)


def _lake(store: Store) -> DoctorCheck:
    from retail_core.store.lake.table import Lake, damage, pending

    lake_url = store.settings.lake_url
    damages = damage(lake_url)
    if damages:
        more = f" and {len(damages) - 1} more" if damages[1:] else ""
        remedy = "run `retail lake rebuild`; `retail train` and `retail score` rebuild it too."
        return DoctorCheck("lake", "fail", f"{damages[0]}{more}", remedy)
    state, windows = Lake(lake_url).state(), pending(store)
    text = f"{state.rows:,} events in {len(state.days)} days at {lake_url}"
    if windows:
        remedy = "nothing to do: `retail train` and `retail score` bring it up to date first."
        return DoctorCheck("lake", "warn", f"{text}; {windows} ingested windows behind MongoDB", remedy)
    return DoctorCheck("lake", "ok", f"{text}, in step with MongoDB")


def _identities(store: Store) -> DoctorCheck:
    """Identity links, and those that no person can have."""
    from retail_core.attribution import resolve
    from retail_core.ingest.link_warnings import describe
    from retail_core.store.mongo.identities import read_links

    links = list(read_links(store))
    groups = sorted(resolve(links).implausible, key=lambda group: -group.links)
    text = f"{len(links):,} links of ids"
    if not groups:
        return DoctorCheck("identities", "ok", text)
    count = sum(group.links for group in groups)
    remedy = "list placeholder ids under nulls in a mapping and ingest again, see docs/identity.md."
    return DoctorCheck("identities", "warn", f"{text}, {count:,} not applied ({describe(groups[0])})", remedy)


def _quarantine(store: Store) -> DoctorCheck:
    count = count_refused(store)
    if count:
        return DoctorCheck(
            "quarantine", "warn", f"{count:,} refused rows wait", "see `retail quarantine list`."
        )
    return DoctorCheck("quarantine", "ok", "no row waits")
