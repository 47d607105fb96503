"""What Prefect must find in the environment before it is imported, so that it needs nothing else."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from retail_core.errors import InputError
from retail_core.settings import load_settings

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""No telemetry; without PREFECT_API_URL a server of the flow's own, however slowly it starts."""


def prepare() -> None:
    """Put Prefect's home below `RETAIL_HOME` and set `DEFAULTS`, except where the user has set them."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        home = load_settings().home_dir
    except InputError:
        return  # the flow reads the settings itself and says what is wrong with them
    os.environ.setdefault("PREFECT_HOME", str(home / "prefect"))
    with suppress(OSError):  # Prefect says that it cannot write there; its parents it does not make
        Path(os.environ["PREFECT_HOME"]).expanduser().mkdir(parents=True, exist_ok=True)
