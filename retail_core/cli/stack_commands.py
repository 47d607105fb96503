"""`retail serve`, `up`, `down`, `status`, `config` and `doctor`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from retail_core.cli.output import JsonFlag, emit, log_line, print_line, print_rows
from retail_core.settings import load_settings, setting_origins


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    for command in (serve, up, down, rotate_key, status, config, doctor):
        app.command()(command)


def serve(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: RETAIL_API_PORT or 8080.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Serve the production model over HTTP, on loopback unless RETAIL_API_HOST is set.

    Runs until Ctrl-C or SIGTERM. With --json, logs go to stderr and the exit status to stdout.

    Example: retail serve --port 8080
    """
    from retail_core.stack.state import StackFiles

    settings = load_settings()
    StackFiles(settings.home_dir).prepare()
    port = port or settings.api_port
    command = [sys.executable, "-m", "bentos.serve", "--host", settings.api_host, "--port", str(port)]
    if not json_output:
        os.execv(sys.executable, command)  # noqa: S606 - so that ending this command ends the service
    code, error = _run_service([*command, "--json"])
    failed = {"error": "The service ended; stderr says why.", "remedy": "see stderr."} if code else {}
    result = {"host": settings.api_host, "port": port, "exit_code": code} | failed | error
    emit(result, json_output=True, title="")
    raise typer.Exit(code)


def _run_service(command: Sequence[str]) -> tuple[int, dict[str, object]]:
    """Run the service until it ends, forwarding signals to it.

    Returns its exit code, 0 where a signal ended it, and the JSON object it printed on failure.
    """
    received_signals: list[int] = []
    # In the same session, Ctrl-C would reach the service twice.
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as service:

        def forward(number: int, _: object) -> None:
            received_signals.append(number)
            service.terminate()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, forward)
        output, _ = service.communicate()
    ended = received_signals and service.returncode == -signal.SIGTERM
    code = 0 if ended else service.returncode if service.returncode >= 0 else 128 - service.returncode
    return code, json.loads(output) if output.strip() else {}


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Return once everything is healthy.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Run MongoDB, MLflow, Prefect with a worker, the API and the app on this machine.

    With --json, messages go to stderr; with --detach the object is that of `retail status`, otherwise it
    names the signal that ended the stack.

    Example: retail up
    """
    from retail_core import stack

    report = stack.up(load_settings(), echo=log_line if json_output else print_line, detach=detach)
    if json_output:
        emit(report, json_output=True, title="")


def down(json_output: JsonFlag = False) -> None:
    """End all services of `retail up`, and the embedded MongoDB.

    Example: retail down
    """
    from retail_core import stack

    emit(stack.down(load_settings()), json_output=json_output, title="Stopped")


def rotate_key(json_output: JsonFlag = False) -> None:
    """Replace the key of the embedded MongoDB; the data stay. Run `retail down` before.

    Example: retail rotate-key
    """
    from retail_core.store.mongod.embedded import rotate_key as rotate

    emit({"key_file": rotate(load_settings())}, json_output=json_output, title="Key replaced")


def status(json_output: JsonFlag = False) -> None:
    """Show the services of the stack, their addresses and their health.

    Example: retail status
    """
    from retail_core import stack

    result = stack.status(load_settings())
    emit(result, json_output=json_output, title="Status")


def config(json_output: JsonFlag = False) -> None:
    """Show every setting, its value and where the value comes from. Secrets are masked.

    Values come from the environment, else from retail.toml in the working directory, else from retail.toml
    in the home, else from the defaults.

    Example: retail config
    """
    rows = [asdict(setting) for setting in setting_origins()]
    if json_output:
        emit({"settings": rows}, json_output=True, title="")
    else:
        print_rows(rows, title="Settings")


def doctor(
    leakage: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check this log or table of features for label leakage."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="With --leakage: the preset of a raw log.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="With --leakage: YAML that maps a raw log.")] = None,
    label: Annotated[str, typer.Option(help="With --leakage: the label column of the table.")] = "label",
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read and compare everything that is stored; takes minutes.")
    ] = False,
    json_output: JsonFlag = False,
) -> None:
    """Check this machine, the settings and the data; each finding has a remedy. Exit code 1: a check fails.

    With --leakage, check a file for label leakage; nothing is stored and no server is needed. A raw log is
    checked on the rows that a training on it would have, a CSV or Parquet table by its columns. Exit code
    1: it leaks.

    Example: retail doctor

    Example: retail doctor --deep

    Example: retail doctor --leakage users.csv.gz --source app_profile

    Example: retail doctor --leakage features.parquet --label bought
    """
    if leakage is not None:
        from retail_core.cli.leakage_command import examine

        examine(leakage, (source, mapping), label, load_settings(), json_output=json_output)
        return
    from retail_core import stack

    def progress(name: str) -> None:
        typer.echo(f"checking {name}", err=True)

    checks = stack.doctor(load_settings(), deep=deep, progress=progress)
    passed = all(check["state"] != "fail" for check in checks)
    if json_output:
        emit({"checks": checks, "ok": passed}, json_output=True, title="")
    else:
        print_rows(checks, title="Doctor")
    if not passed:
        raise typer.Exit(1)
