"""Definitions of the services of the stack; a new one is one entry in `services`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

import retail_core
from retail_core.settings import Settings
from retail_core.settings_files import variable_name
from retail_core.sqlite_addresses import sqlite_url
from retail_core.stack.child import Service
from retail_core.subprocesses import free_port

ROOT = Path(retail_core.__file__).resolve().parent.parent
"""Folder that holds the packages flows, bentos and app: the repository or site-packages."""

LOOPBACK = "127.0.0.1"
POOL = "retail"
NO_MODEL = "no model yet: run `retail train`; the API starts by itself then"


def runs_mlflow(settings: Settings) -> bool:
    """Whether the stack runs MLflow: no tracking server is set."""
    return not settings.tracking_uri.startswith(("http://", "https://"))


def runs_prefect(settings: Settings) -> bool:
    """Whether the stack runs Prefect's server: none is set."""
    return settings.prefect_api_url is None


def tracking_url(settings: Settings) -> str:
    """Address of MLflow for the services."""
    return f"http://{LOOPBACK}:{settings.mlflow_port}" if runs_mlflow(settings) else settings.tracking_uri


def prefect_url(settings: Settings) -> str:
    """Address of Prefect's API for the services."""
    return settings.prefect_api_url or f"http://{LOOPBACK}:{settings.prefect_port}/api"


def api_url(settings: Settings) -> str:
    """Address of the API on this machine."""
    on_all_interfaces = settings.api_host in {"0.0.0.0", "::"}  # nosec B104 # noqa: S104 - compared, not bound
    return f"http://{LOOPBACK if on_all_interfaces else settings.api_host}:{settings.api_port}"


def environment(settings: Settings) -> dict[str, str]:
    """Environment of every service: inherited variables, settings, addresses of the others, no telemetry."""
    result = dict(os.environ)
    for name, value in variables(settings).items():
        result.pop(name, None)
        if value is not None:
            result[name] = value
    inherited = result.get("NO_PROXY") or result.get("no_proxy")
    direct = ",".join(filter(None, [inherited, LOOPBACK, "localhost"]))
    return result | {
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), result.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "MLFLOW_TRACKING_URI": tracking_url(settings),
        "PREFECT_API_URL": prefect_url(settings),
        "PREFECT_HOME": str(settings.home_dir / "prefect"),
        "PREFECT_LOGGING_COLORS": "false",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
        "BENTOML_DO_NOT_TRACK": "True",
    }


def services(settings: Settings, champion_missing: Callable[[], bool]) -> list[Service]:
    """The services that the stack runs with these settings, in the order of their start.

    Args:
        settings: ports, home, and which services are external.
        champion_missing: whether the registry has no model under the production alias.
    """
    table: list[Service] = []
    if runs_mlflow(settings):
        table.append(_mlflow(settings))
    if runs_prefect(settings):
        table.append(_prefect(settings))
    return [*table, *_deployments(settings), _api(settings, champion_missing), _app(settings)]


def _mlflow(settings: Settings) -> Service:
    # Artifacts are read and written directly: models that were trained before, with no server, keep
    # their file: addresses, and new ones get addresses that work without a server too.
    port = settings.mlflow_port
    artifacts = settings.artifact_root or (settings.home_dir / "mlflow" / "artifacts").as_uri()
    return Service(
        name="mlflow",
        command=_module(
            *_words(f"mlflow server --no-serve-artifacts --workers 1 --host {LOOPBACK} --port {port}")
        ),
        port=port,
        variable="RETAIL_MLFLOW_PORT",
        url=f"http://{LOOPBACK}:{port}",
        health=f"http://{LOOPBACK}:{port}/health",
        environment={
            "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifacts,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
    )


def _prefect(settings: Settings) -> Service:
    port = settings.prefect_port
    database = settings.home_dir / "prefect" / "prefect.db"
    return Service(
        name="prefect",
        command=_module(*_words(f"prefect server start --host {LOOPBACK} --port {port}")),
        port=port,
        variable="RETAIL_PREFECT_PORT",
        url=f"http://{LOOPBACK}:{port}",
        health=f"http://{LOOPBACK}:{port}/api/health",
        environment={
            "PREFECT_API_DATABASE_CONNECTION_URL": sqlite_url(database, "sqlite+aiosqlite"),
            "PREFECT_UI_API_URL": f"http://{LOOPBACK}:{port}/api",
        },
    )


def _deployments(settings: Settings) -> list[Service]:
    server = ("prefect",) if runs_prefect(settings) else ()
    port = free_port()
    pool_options = ["--own-server"] if runs_prefect(settings) else []
    pool = Service(name="pool", command=_module("retail_core.stack.work_pool", *pool_options), after=server)
    # The wheel has the file inside its package `flows`.
    file = "prefect.yaml" if (ROOT / "prefect.yaml").is_file() else "flows/prefect.yaml"
    deployments = Service(
        name="deployments",
        command=_module(*_words(f"prefect --no-prompt deploy --all --prefect-file {file}")),
        after=(*server, "pool"),
    )
    automations = Service(name="automations", command=_module("flows.automations"), after=(*server, "pool"))
    worker = Service(
        name="worker",
        command=_module(*_words(f"prefect worker start --pool {POOL} --type process --with-healthcheck")),
        health=f"http://{LOOPBACK}:{port}/health",
        environment={"PREFECT_WORKER_WEBSERVER_HOST": LOOPBACK, "PREFECT_WORKER_WEBSERVER_PORT": str(port)},
        after=(*server, "pool"),
    )
    return [pool, deployments, automations, worker]


def _api(settings: Settings, champion_missing: Callable[[], bool]) -> Service:
    return Service(
        name="api",
        command=_module("bentos.serve", "--host", settings.api_host, "--port", str(settings.api_port)),
        port=settings.api_port,
        variable="RETAIL_API_PORT",
        host=settings.api_host,
        url=f"{api_url(settings)}/docs",
        health=f"{api_url(settings)}/readyz",
        after=("mlflow",) if runs_mlflow(settings) else (),
        wait=lambda: NO_MODEL if champion_missing() else None,
        grace=15,
    )


def _app(settings: Settings) -> Service:
    port = settings.app_port
    options = {
        "--server.address": LOOPBACK,
        "--server.port": str(port),
        "--server.headless": "true",
        "--server.fileWatcherType": "none",
        "--server.maxUploadSize": str(settings.upload_mb),
        "--browser.gatherUsageStats": "false",
    }
    return Service(
        name="app",
        command=_module("streamlit", "run", "app/Home.py", *_flat(options)),
        port=port,
        variable="RETAIL_APP_PORT",
        url=f"http://{LOOPBACK}:{port}",
        health=f"http://{LOOPBACK}:{port}/_stcore/health",
    )


def variables(settings: Settings) -> dict[str, str | None]:
    """The settings as the variables that `load_settings` reads them from; the home absolute."""
    result: dict[str, str | None] = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        result[variable_name(name)] = None if text is None else str(text)
    return result | {"RETAIL_HOME": str(settings.home_dir)}


def _module(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *arguments)


def _words(text: str) -> list[str]:
    return text.split()


def _flat(options: dict[str, str]) -> list[str]:
    return [word for pair in options.items() for word in pair]
