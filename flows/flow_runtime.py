"""Task types, error handling and the default cut-off that all flows share."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

import prefect.runtime
from prefect import Task, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed

from flows.run_reports import report_failure, report_success
from flows.schedules import newer_due_run
from retail_core.cli.edge import user_error_of
from retail_core.errors import AccessError, DependencyError, RetailError
from retail_core.settings import load_settings
from retail_core.times import to_utc_ms
from retail_core.workspace import open_workspace

P = ParamSpec("P")
R = TypeVar("R")
ReportFields = dict[str, object]

SKIPPED = "Skipped"
"""Name of the state of a run that had nothing to do."""

RETRIES = 2
RETRY_DELAYS = [5.0, 30.0]
"""Seconds before the first and the second retry."""


class _DropExpectedTracebacks(logging.Filter):
    """Removes the traceback of user-facing errors, whose message states the cause and the remedy."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] and user_facing_error(record.exc_info[1]):
            record.exc_info = None
        return True


for _name in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_DropExpectedTracebacks())


def user_facing_error(error: BaseException) -> RetailError | None:
    """`error` as one with a message and a remedy for the user; None where it is a bug."""
    return user_error_of(error) if isinstance(error, Exception) else None


def _dependency_unreachable(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    failure: object = state.data
    expected = user_facing_error(failure) if isinstance(failure, Exception) else None
    return isinstance(expected, DependencyError) and not isinstance(expected, AccessError)


def retryable_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Decorator for an idempotent task: retried while a dependency is unreachable, not if it refuses us."""
    return task(
        name=name,
        cache_policy=NO_CACHE,
        retries=RETRIES,
        retry_delay_seconds=RETRY_DELAYS,
        retry_condition_fn=_dependency_unreachable,
    )


def non_retryable_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Decorator for a task that creates something new on each run, such as a model version: never retried."""
    return task(name=name, cache_policy=NO_CACHE, retries=0)


def fail_with_message(flow_function: Callable[P, R]) -> Callable[P, R | State[Any]]:
    """Decorator that ends a flow as Failed with the message of a user-facing error.

    A deployed run also raises an alert when it fails, see `run_reports`, and is skipped where a later run of
    its schedule is due as well, see `schedules`.
    """

    @functools.wraps(flow_function)
    def run_flow(*args: P.args, **kwargs: P.kwargs) -> R | State[Any]:
        newer = newer_due_run()
        if newer is not None:
            return Completed(name=SKIPPED, message=f"Missed; the run that was due at {newer} does its work.")
        try:
            result = flow_function(*args, **kwargs)
        except Exception as error:
            expected = user_facing_error(error)
            show_failure(expected or error)
            report_failure(expected or error)
            if expected is None:
                raise
            return Failed(message=str(expected), data=expected)
        report_success()
        return result

    # Prefect resolves annotations in the module of the function it is given, which here is this module.
    run_flow.__signature__ = inspect.signature(flow_function, eval_str=True)  # type: ignore[attr-defined]
    return run_flow


def show_failure(error: Exception) -> None:
    """Publish why the run failed, beside the artifacts of runs that succeed."""
    if prefect.runtime.flow_run.id is None:
        return
    name = str(prefect.runtime.flow_run.flow_name or "flow")
    with suppress(Exception):  # the server may be what failed
        page = f"# {name} failed\n\n{type(error).__name__}: {error}\n"
        create_markdown_artifact(page, key=f"{name}-failure", description="Why the newest failed run failed")


def current_time() -> datetime:
    """The wall clock, UTC in whole milliseconds: the default of outcomes and retraining without `as_of`."""
    return to_utc_ms(datetime.now(UTC))


@retryable_task("choose the cut-off of the list")
def list_cutoff(as_of: datetime | None) -> datetime:
    """`as_of`, by default the cut-off of a list: see `retail_core.features.cutoffs.list_cutoff`."""
    if as_of is not None:
        return to_utc_ms(as_of)
    with open_workspace(load_settings()) as workspace:
        return workspace.list_cutoff(None)


@retryable_task("choose the cut-off of the training")
def training_cutoff(as_of: datetime | None) -> datetime:
    """`as_of`, by default the last local midnight at or before the newest event, UTC."""
    if as_of is not None:
        return to_utc_ms(as_of)
    with open_workspace(load_settings()) as workspace:
        return workspace.resolve_as_of(None, midnight=True)
