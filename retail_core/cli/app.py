"""The command tree."""

from __future__ import annotations

import typer

from retail_core import __version__
from retail_core.cli import (
    alert_commands,
    backup_commands,
    calendar_commands,
    campaign_commands,
    data_check_command,
    data_commands,
    demo_command,
    key_commands,
    lake_commands,
    model_commands,
    monitoring_commands,
    sources_commands,
    stack_commands,
    user_commands,
)
from retail_core.cli.edge import run_with_exit_code, user_error_of

app = typer.Typer(
    name="retail",
    help="Which users of our app will buy within the next 24 hours?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    demo_command,
    sources_commands,
    data_commands,
    data_check_command,
    lake_commands,
    calendar_commands,
    model_commands,
    campaign_commands,
    monitoring_commands,
    alert_commands,
    user_commands,
    key_commands,
    backup_commands,
    stack_commands,
):
    module.register(app)


@app.callback(invoke_without_command=True)
def _root(show_version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if show_version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run `retail`. Exit codes: 0 done, 1 user error, 2 usage error, 3 a dependency is unreachable."""
    run_with_exit_code(app, user_error_of)
