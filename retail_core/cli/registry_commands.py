"""`retail models`: registered versions, promotion, rollback, recalibration."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from retail_core.cli.output import JsonFlag, emit, print_rows, progress
from retail_core.settings import Settings, load_settings

models_app = typer.Typer(
    help="The registry: versions, promotion, rollback, recalibration.", no_args_is_help=True
)


def _registered(settings: Settings) -> dict[str, Any]:
    """Registered `versions`, newest first, and the version in `production`."""
    from retail_core.registry import versions as registry

    versions = [spec.summary() for spec in registry.list_versions(settings)]
    return {"versions": versions, "production": registry.production_version(settings)}


def _emit_with_registry(settings: Settings, result: Mapping[str, Any], json_output: bool, title: str) -> None:
    """Print a version or a promotion entry; as JSON together with the registry's state."""
    public = {name: value for name, value in result.items() if name != "_id"}
    state = _registered(settings) if json_output else {}
    emit(public | state, json_output=json_output, title=title)


@models_app.command("list")
def list_models(json_output: JsonFlag = False) -> None:
    """Every registered version, newest first.

    Example: retail models list
    """
    state = _registered(load_settings())
    if json_output:
        emit(state, json_output=True, title="")
        return
    print_rows(state["versions"], title=f"Production: version {state['production'] or 'none'}")


@models_app.command("show")
def show_model(version: str, json_output: JsonFlag = False) -> None:
    """One version with its metrics, thresholds, data and features.

    Example: retail models show 3
    """
    from retail_core.registry import versions as registry

    settings = load_settings()
    _emit_with_registry(settings, registry.version_spec(settings, version).to_dict(), json_output, "Model")


@models_app.command("promote")
def promote_model(version: str, json_output: JsonFlag = False) -> None:
    """Put a version under the alias `production`.

    Example: retail models promote 3
    """
    from retail_core.registry import promotion
    from retail_core.store.mongo.connection import open_store

    settings = load_settings()
    with open_store(settings) as store:
        entry = promotion.promote(store, version, reason="by hand", at=datetime.now(UTC))
    _emit_with_registry(settings, entry, json_output, "Promoted")


@models_app.command("rollback")
def rollback_model(json_output: JsonFlag = False) -> None:
    """Put the previous production version back into production.

    Example: retail models rollback
    """
    from retail_core.registry import promotion
    from retail_core.store.mongo.connection import open_store

    settings = load_settings()
    with open_store(settings) as store:
        entry = promotion.rollback(store, at=datetime.now(UTC))
    _emit_with_registry(settings, entry, json_output, "Rolled back")


@models_app.command("reproduce")
def reproduce_model(version: str, json_output: JsonFlag = False) -> None:
    """Train a version again on exactly its rows, and compare; nothing is registered or promoted.

    Exit code 0: equal; 1: not equal, for the reason that is printed.

    Example: retail models reproduce 3
    """
    from retail_core.store.mongo.connection import open_store
    from retail_core.training.reproduction import reproduce

    with open_store(load_settings()) as store, progress("reproduce", quiet=json_output) as advance:
        result = reproduce(store, version, at=datetime.now(UTC), progress=advance)
    emit(result.to_dict(), json_output=json_output, title="Reproduced" if result.equal else "Not reproduced")
    if not result.equal:
        typer.echo(f"version {version} was not reproduced: {result.reason}.", err=True)
        raise typer.Exit(1)


@models_app.command("recalibrate")
def recalibrate_model(
    version: Annotated[str | None, typer.Argument(help="Default: the one in production.")] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="ISO 8601; default: the newest midnight.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Refit calibrators and thresholds on days later than the training data, for the same rankers.

    Registers a new version; it is promoted if its probabilities are better than those in production.

    Example: retail models recalibrate --as-of 2025-03-01T00:00:00Z
    """
    from retail_core.training.recalibration import recalibrate
    from retail_core.workspace import open_workspace

    with open_workspace(load_settings()) as workspace:
        instant = workspace.resolve_as_of(as_of, midnight=True)
        report = recalibrate(workspace, version=version, as_of=instant)
    emit(report.to_dict(), json_output=json_output, title="Recalibrated")
