"""Environment variables that Prefect reads when it is imported.

They are set before the first import of Prefect, so that a flow runs without any configuration.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from retail_core.errors import InputError
from retail_core.file_locks import create_private_folder
from retail_core.settings import load_settings
from retail_core.sqlite_addresses import sqlite_url

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""No telemetry; without PREFECT_API_URL an ephemeral server with a long start-up timeout."""


def configure_prefect() -> None:
    """Set Prefect's home below `RETAIL_HOME` and `DEFAULTS`; variables that are already set stay."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        home = load_settings().home_dir
    except InputError:
        return  # the flow reads the settings again and reports the error
    prefect_home = os.environ.setdefault("PREFECT_HOME", str(home / "prefect"))
    database = Path(prefect_home).expanduser() / "prefect.db"
    url = sqlite_url(database, "sqlite+aiosqlite")
    if not url.endswith(f"/{database}"):  # Prefect's own default does not quote
        os.environ.setdefault("PREFECT_API_DATABASE_CONNECTION_URL", url)
    with suppress(OSError):  # Prefect reports a folder it cannot write to, but creates no parent folders
        create_private_folder(Path(os.environ["PREFECT_HOME"]).expanduser())
