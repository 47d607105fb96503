"""Running `retail` in tests: in this process where possible, since starting Python takes a second."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from retail_core.cli.app import main
from retail_core.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


def command_environment(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """This environment without settings of the project, then `home` and `variables`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RETAIL_")}
    return {**inherited, "RETAIL_HOME": str(home), "RETAIL_CONFIG": "", **variables}


def store_variables(settings: Settings) -> dict[str, str]:
    """The database of a home on another server, and a small training, as environment variables."""
    assert settings.mongodb_uri is not None
    return {
        "RETAIL_MONGODB_URI": settings.mongodb_uri.get_secret_value(),
        "RETAIL_MONGODB_DATABASE": settings.mongodb_database,
        "RETAIL_SEARCH_ROWS": "1000",
        "RETAIL_FIT_ROWS": "2000",
    }


def retail(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process; not for `serve` without --json, which replaces the process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code: int | str | None = 0
    with (
        _replaced(["retail", *arguments], command_environment(home, variables)),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(arguments, int(code or 0), stdout.getvalue(), stderr.getvalue())


def retail_process(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in its own process, as users do."""
    return subprocess.run(
        [sys.executable, "-c", "from retail_core.cli import main; main()", *arguments],
        cwd=ROOT,
        env=command_environment(home, variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@contextmanager
def _replaced(arguments: list[str], environment: Mapping[str, str]) -> Iterator[None]:
    before_arguments, before_environment = sys.argv, dict(os.environ)
    sys.argv = arguments
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        sys.argv = before_arguments
        os.environ.clear()
        os.environ.update(before_environment)
