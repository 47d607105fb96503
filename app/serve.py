"""`python -m app.serve`: run Streamlit with the address, port and upload limit of the settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from retail_core.errors import RetailError
from retail_core.settings import load_settings

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK = "127.0.0.1"


def main() -> int:
    """Replace this process by Streamlit; returns an exit code only where the settings are not usable."""
    try:
        settings = load_settings()
    except RetailError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    os.environ["RETAIL_HOME"] = str(settings.home_dir)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.chdir(ROOT)
    options = {
        "--server.address": LOOPBACK,
        "--server.port": str(settings.app_port),
        "--server.maxUploadSize": str(settings.upload_mb),
    }
    command = ["-m", "streamlit", "run", "app/Home.py", *(word for pair in options.items() for word in pair)]
    return os.execv(sys.executable, [sys.executable, *command])  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
