"""The command tree and its one edge: errors become a line and an exit code here, and nowhere else."""

from __future__ import annotations

import json
import sys

import typer

from retail_core import __version__
from retail_core.cli import data, demo, models, stack, users
from retail_core.errors import DependencyError, RetailError

app = typer.Typer(
    name="retail",
    help="Which users of our app will buy within the next 24 hours?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (demo, data, models, users, stack):
    module.register(app)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _unreachable(error: Exception) -> RetailError | None:
    """A lost connection in any command as the error it is; None for everything else."""
    if type(error).__module__.startswith("pymongo"):
        from pymongo.errors import ConnectionFailure

        if isinstance(error, ConnectionFailure):
            return DependencyError(
                "MongoDB went away while the command ran.", remedy="see `retail doctor`, then run it again."
            )
    return None


def main() -> None:
    """Run `retail`. Exit codes: 0 done, 1 a user's mistake, 2 usage, 3 a dependency is unreachable."""
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("stopped; run the command again to go on where it was", err=True)
        sys.exit(130)
    except Exception as error:
        known = error if isinstance(error, RetailError) else _unreachable(error)
        if known is None:
            raise
        typer.echo(f"error: {known}", err=True)
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": known.message, "remedy": known.remedy}))
        sys.exit(known.exit_code)
