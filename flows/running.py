"""How every flow runs: which failures are retried, and how errors a person can mend end a run."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Failed
from pymongo.errors import ConnectionFailure

from retail_core.errors import DependencyError, RetailError
from retail_core.settings import load_settings
from retail_core.store.mongo.connection import open_store
from retail_core.store.mongo.shop import shop_zone
from retail_core.times import last_midnight, to_utc_ms

P = ParamSpec("P")
R = TypeVar("R")
Report = dict[str, object]

RETRIES = 2
RETRY_DELAYS = [5.0, 30.0]
"""Seconds before the first and the second retry."""


class _OneLine(logging.Filter):
    """Errors that say what is wrong and what to do need no stack in the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] and known(record.exc_info[1]):
            record.exc_info = None
        return True


for _name in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_OneLine())


def known(error: BaseException) -> RetailError | None:
    """`error` as one a person can mend; None where it is a bug."""
    if isinstance(error, RetailError):
        return error
    if isinstance(error, ConnectionFailure):
        return DependencyError("MongoDB went away.", remedy="see `retail doctor`, then run the flow again.")
    return None


def _unreachable(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    failure: object = state.data
    return isinstance(failure, Exception) and isinstance(known(failure), DependencyError)


def step(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task that may run twice with the same end: retried while something is unreachable."""
    return task(
        name=name,
        cache_policy=NO_CACHE,
        retries=RETRIES,
        retry_delay_seconds=RETRY_DELAYS,
        retry_condition_fn=_unreachable,
    )


def once(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task that leaves something new behind each time it runs: never retried."""
    return task(name=name, cache_policy=NO_CACHE, retries=0)


def plainly(body: Callable[P, R]) -> Callable[P, R | State[Any]]:
    """End the flow as Failed with the error's own sentence where a person can mend it."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> R | State[Any]:
        try:
            return body(*args, **kwargs)
        except Exception as error:
            told = known(error)
            if told is None:
                raise
            return Failed(message=str(told), data=told)

    # Prefect looks annotations up in the module of the function it is given, which here is this one.
    run.__signature__ = inspect.signature(body, eval_str=True)  # type: ignore[attr-defined]
    return run


def now() -> datetime:
    """The wall clock: what a deployment that names no instant means."""
    return to_utc_ms(datetime.now(UTC))


@step("choose the cut-off")
def midnight_or(as_of: datetime | None) -> datetime:
    """`as_of`, else the last midnight of the shop's zone by the wall clock, UTC."""
    if as_of is not None:
        return to_utc_ms(as_of)
    with open_store(load_settings()) as store:
        return last_midnight(now(), shop_zone(store))
