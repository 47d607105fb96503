"""`retail models`: registered versions, promotion, rollback, recalibration."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retail_core.cli.output import JsonFlag, emit, log_line, print_rows, progress
from retail_core.settings import Settings, load_settings
from retail_core.times import iso

if TYPE_CHECKING:
    from retail_core.registry.promotion import ProductionChange
    from retail_core.store.mongo.connection import Store

Reason = Annotated[
    str | None, typer.Option("--reason", help="Why; stored in the promotion record with user and time.")
]

models_app = typer.Typer(
    help="The registry: versions, promotion, rollback, recalibration.", no_args_is_help=True
)


def _registered(settings: Settings) -> dict[str, Any]:
    """Registered `versions`, newest first, and the version in `production`."""
    from retail_core.registry import versions as registry
    from retail_core.registry.champion import find_champion

    versions = [spec.summary() for spec in registry.list_versions(settings)]
    return {"versions": versions, "production": find_champion(settings)}


def _emit_with_registry(settings: Settings, result: Mapping[str, Any], json_output: bool, title: str) -> None:
    """Print a version or a change of production; as JSON together with the registry's state."""
    state = _registered(settings) if json_output else {}
    emit(dict(result) | state, json_output=json_output, title=title)


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


@models_app.command("history")
def model_history(json_output: JsonFlag = False) -> None:
    """Every promotion and rollback, newest first: when, what, who and why.

    Example: retail models history
    """
    from retail_core.registry.promotion_record import history
    from retail_core.store.mongo.connection import open_store

    with open_store(load_settings()) as store:
        entries = [public_entry(entry) for entry in reversed(history(store))]
    if json_output:
        emit({"history": entries}, json_output=True, title="")
        return
    columns = ("number", "at", "kind", "previous", "version", "actor", "reason", "evidence")
    rows = [{name: entry[name] for name in columns} for entry in entries]
    print_rows(rows, title="Changes of the version in production")


@models_app.command("attempts")
def training_attempts(json_output: JsonFlag = False) -> None:
    """Every training and recalibration, newest first: data, reason, and the verdict of the promotion gate.

    Example: retail models attempts
    """
    from retail_core.store.mongo.connection import open_store
    from retail_core.training.attempts import list_attempts

    with open_store(load_settings()) as store:
        attempts = [attempt.to_dict() for attempt in list_attempts(store)]
    if json_output:
        emit({"attempts": attempts}, json_output=True, title="")
        return
    columns = ("started_at", "kind", "state", "as_of", "reason", "version", "verdict", "ap_difference")
    rows = [{name: attempt[name] for name in (*columns, "interval", "decision")} for attempt in attempts]
    print_rows(rows, title="Trainings and recalibrations")


@models_app.command("promote")
def promote_model(version: str, reason: Reason = None, json_output: JsonFlag = False) -> None:
    """Put a version into production. Killed and run again, it does so once.

    Example: retail models promote 3 --reason "approved by the marketing team"
    """
    from retail_core.registry.promotion import Author, promote
    from retail_core.store.mongo.connection import open_store

    settings = load_settings()
    with open_store(settings) as store:
        change = promote(store, version, Author(reason, confirms_later=True))
        _answer(store, change, json_output, "Promoted")


@models_app.command("rollback")
def rollback_model(
    expected: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="VERSION", help="Roll back only this version; safe to repeat in scripts."
        ),
    ] = None,
    reason: Reason = None,
    json_output: JsonFlag = False,
) -> None:
    """Put the previous production version back into production; each run goes back by one more.

    A rollback that was killed before it answered is completed by the next run, which does not start another.

    Example: retail models rollback --reason "too many false promises since Monday"
    """
    from retail_core.registry.promotion import Author, rollback
    from retail_core.store.mongo.connection import open_store

    settings = load_settings()
    with open_store(settings) as store:
        change = rollback(store, Author(reason, confirms_later=True), expected=expected)
        _answer(store, change, json_output, "Rolled back")


def _answer(store: Store, change: ProductionChange, json_output: bool, title: str) -> None:
    """Print a change of production, then confirm that it has been printed."""
    from retail_core.registry.promotion_record import confirm

    entry = change.entry
    if change.repeated:
        log_line(
            f"This {entry['kind']} was recorded at {iso(entry['at'])} by a command that was interrupted or "
            f"is still running. It is complete, version {entry['version']} is in production, and no other "
            f"{entry['kind']} was started."
        )
    result = public_entry(entry) | {"repeated": change.repeated}
    _emit_with_registry(store.settings, result, json_output, title)
    sys.stdout.flush()
    confirm(store, entry)


def public_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the promotion record for people and programs; entries of release 0.1.0 name no actor."""
    internal = {"_id", "state", "applied_at", "confirmed_at"}
    fields = {name: value for name, value in entry.items() if name not in internal}
    return {"number": entry["_id"], "actor": None, "evidence": {}} | fields


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
