"""`retail keys`: create, list and remove API keys of the service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from retail_core.api_keys import Scope, add_key, read_keys, remove_key
from retail_core.cli.output import JsonFlag, emit, log_line, print_rows
from retail_core.settings import load_settings

keys_app = typer.Typer(help="API keys of the service, with names and scopes.", no_args_is_help=True)

KeyName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the key, in logs and rate limits.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(keys_app, name="keys")


@keys_app.command("add")
def add(
    name: KeyName,
    scope: Annotated[list[Scope], typer.Option(help="What the key may do; give it once per scope.")],
    json_output: JsonFlag = False,
) -> None:
    """Create a key and print it. Only its hash is stored, so it is never shown again.

    A running service accepts it within a second.

    Example: retail keys add crm --scope predict --scope batch
    """
    path = load_settings().api_keys_path
    key = add_key(path, name, scope, datetime.now(UTC))
    result = {"name": name, "scopes": sorted(set(scope)), "key": key, "file": path}
    if json_output:
        emit(result, json_output=True, title="API key")
        return
    log_line(f"The key {name}, which is shown only now; clients send it as X-API-Key:")
    typer.echo(key)


@keys_app.command("list")
def list_keys(json_output: JsonFlag = False) -> None:
    """List the keys of the file: names, scopes and when they were created; never the keys.

    Example: retail keys list
    """
    path = load_settings().api_keys_path
    keys = read_keys(path)
    if json_output:
        rows = [{"name": key.name, "scopes": sorted(key.scopes), "created": key.created} for key in keys]
        emit({"file": path, "keys": rows}, json_output=True, title="API keys")
        return
    table = [
        {"name": key.name, "scopes": ", ".join(sorted(key.scopes)), "created": key.created} for key in keys
    ]
    print_rows(table, title=f"API keys of {path}")


@keys_app.command("remove")
def remove(name: KeyName, json_output: JsonFlag = False) -> None:
    """Remove a key. A running service refuses it within a second.

    Example: retail keys remove crm
    """
    path = load_settings().api_keys_path
    remaining = remove_key(path, name)
    emit({"removed": name, "remaining": remaining, "file": path}, json_output=json_output, title="API keys")
