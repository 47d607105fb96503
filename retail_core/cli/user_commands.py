"""`retail user`: show and erase everything stored about one user."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retail_core.cli.output import JsonFlag, emit
from retail_core.errors import InputError
from retail_core.settings import load_settings

user_app = typer.Typer(
    help="Everything stored about one user; erasure from every store.", no_args_is_help=True
)

UserIdArgument = Annotated[str, typer.Argument(help="User id, as in the events.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(user_app, name="user")


@user_app.command("show")
def show(
    user_id: UserIdArgument,
    out: Annotated[Path | None, typer.Option(help="Also write every document here, as JSON lines.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Count the stored documents of a user, by collection, under all ids that identity links give the person.

    Example: retail user show u0000398 --out u0000398.jsonl
    """
    from retail_core.privacy import erasure
    from retail_core.store.mongo.connection import open_store

    with open_store(load_settings()) as store:
        ids = erasure.person_ids(store, user_id, datetime.now(UTC))
        counts = erasure.count_stored(store, *ids)
        written = erasure.export(store, ids, out) if out else 0
    result = {"user_id": user_id, "ids": list(ids), **counts, "deleted": 0} | (
        {"file": out, "documents": written} if out else {}
    )
    emit(result, json_output=json_output, title=f"Held about {user_id}")


@user_app.command("delete")
def delete(
    user_id: UserIdArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Erase a user from every collection, the lake and the stored predictions. This cannot be undone.

    All ids that identity links give the person are erased, and their links.

    If killed, run it again. It asks for confirmation unless --yes is given; --json requires --yes.

    Example: retail user delete u0000398 --yes
    """
    from retail_core.privacy import erasure
    from retail_core.store.mongo.connection import open_store

    if json_output and not yes:
        raise InputError("Nothing was erased: --json does not ask.", remedy="give --yes as well.")
    with open_store(load_settings()) as store:
        ids = erasure.person_ids(store, user_id, datetime.now(UTC))
        if not (yes or typer.confirm(f"Erase everything held about {', '.join(ids)}?")):
            raise InputError("Nothing was erased.", remedy="answer y, or give --yes.")
        counts = erasure.erase(store, *ids)
    result = {"user_id": user_id, "ids": list(ids), **counts, "deleted": sum(counts.values())}
    emit(result, json_output=json_output, title=f"Erased {user_id}")
