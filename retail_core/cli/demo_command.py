"""`retail demo`: the main job end to end on a simulated shop."""

from __future__ import annotations

from typing import Annotated

import typer

from retail_core.cli.output import JsonFlag, emit, print_line, print_rows, progress
from retail_core.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(demo)


def demo(
    users: Annotated[int, typer.Option(min=500)] = 20_000,
    days: Annotated[int, typer.Option(min=20)] = 45,
    seed: int = 7,
    json_output: JsonFlag = False,
) -> None:
    """Simulate a shop, ingest, train, promote, score, serve, request a prediction, and show the results.

    Example: retail demo --users 20000 --days 45 --seed 7
    """
    from retail_core.stack.demo import DemoConfig, run_demo

    with progress("demo", quiet=json_output) as advance:
        result = run_demo(load_settings(), DemoConfig(users, days, seed), advance)
    if json_output:
        emit(result.to_dict(), json_output=True, title="")
        return
    emit(result.headline(), json_output=False, title="Demo")
    print_rows(result.top_users, title="Ten users most likely to buy")
    print_rows([result.seconds], title="Seconds")
    print_line(result.next_steps())
