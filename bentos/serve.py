"""`python -m bentos.serve`: import the production model if necessary, then become `bentoml serve`."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import sys
from datetime import UTC, datetime

from bentos.import_model import import_production
from bentos.model_store import MODEL_VARIABLE, ROOT, newest_model, prepare_environment
from bentos.supervision import SUPERVISOR_VARIABLE
from retail_core.api_keys import has_keys
from retail_core.errors import DataError, DependencyError, InputError, RetailError
from retail_core.settings import Settings, load_settings
from retail_core.subprocesses import port_is_free
from retail_core.times import iso

SERVICE = "bentos.service:PurchaseService"


def main(arguments: list[str] | None = None) -> int:
    """Command line: this process becomes the server, or returns an exit code on failure.

    With --json stdout has one JSON object on failure, else nothing: the server writes to stderr.
    """
    settings = load_settings()
    options = _parser(settings).parse_args(arguments)
    try:
        check_exposure(options.host, settings)
        check_port(options.host, options.port)
        prepare_environment(settings)
        if MODEL_VARIABLE not in os.environ:
            _log(_import_model(settings), settings)
    except RetailError as error:
        print(error, file=sys.stderr)  # noqa: T201
        if options.json:
            print(json.dumps({"error": error.message, "remedy": error.remedy}))  # noqa: T201
        return error.exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    if options.json:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return _become_server(options.host, options.port)


def _log(message: str, settings: Settings) -> None:
    """Write a line to stderr in the format of the service's log."""
    if settings.log_format == "json":
        time = iso(datetime.now(UTC))
        message = json.dumps({"time": time, "level": "INFO", "logger": "bentos.serve", "message": message})
    print(message, file=sys.stderr)  # noqa: T201


def _become_server(host: str, port: int) -> int:
    command = ["-m", "bentoml", "serve", SERVICE, "--working-dir", str(ROOT)]
    address = ["--host", host, "--port", str(port)]
    os.environ[SUPERVISOR_VARIABLE] = str(os.getpid())
    os.chdir(ROOT)
    return os.execv(sys.executable, [sys.executable, *command, *address])  # noqa: S606


def _import_model(settings: Settings) -> str:
    """Import the production model and say which is served.

    It is the newest imported one without MLflow, and none if the settings allow to start without a model.
    """
    try:
        imported = import_production(settings)
    except (DataError, DependencyError) as error:
        newest = newest_model(settings.model_name) if isinstance(error, DependencyError) else None
        if newest is None:
            if settings.wait_for_model:
                return f"serving no model yet: {error.message}"
            raise
        return f"serving {newest.tag} as imported before: {error.message}"
    return f"serving {imported.tag}: version {imported.version}"


def check_exposure(host: str, settings: Settings) -> None:
    """Refuse to listen beyond this machine without API keys.

    Raises:
        InputError: `host` is no address, or not the loopback while no key is set; the file of keys is
            unreadable.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise InputError(f"{host!r} is not an IP address.", remedy="use 127.0.0.1 or 0.0.0.0.") from error
    if not has_keys(settings) and not address.is_loopback:
        raise InputError(
            f"The API would be open to everyone on {host}: no keys are set.",
            remedy="create one with `retail keys add`, set RETAIL_API_KEYS, or serve on 127.0.0.1.",
        )


def check_port(host: str, port: int) -> None:
    """Refuse a port that is in use.

    Raises:
        DependencyError: the port is in use; names the process.
    """
    if not port_is_free(host, port):
        # Imports the whole stack, which takes a second.
        from retail_core.stack.processes import port_holder

        raise DependencyError(
            f"Port {port} is in use by {port_holder(port)}.",
            remedy="end it, or choose another port with --port or RETAIL_API_PORT.",
        )


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bentos.serve",
        description="Serve the production model over HTTP.",
        epilog="example: python -m bentos.serve --port 8080",
    )
    parser.add_argument("--host", default=settings.api_host, help="IP address to bind (default %(default)s)")
    parser.add_argument("--port", type=int, default=settings.api_port, help="default %(default)s")
    parser.add_argument("--json", action="store_true", help="on failure print exactly one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
