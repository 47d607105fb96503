"""The command tree."""

from __future__ import annotations

import typer

from retail_core import __version__
from retail_core.cli import data, demo, models, stack, users, watch
from retail_core.cli.edge import guarded, mendable

app = typer.Typer(
    name="retail",
    help="Which users of our app will buy within the next 24 hours?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (demo, data, models, watch, users, stack):
    module.register(app)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run `retail`. Exit codes: 0 done, 1 a user's mistake, 2 usage, 3 a dependency is unreachable."""
    guarded(app, mendable)
