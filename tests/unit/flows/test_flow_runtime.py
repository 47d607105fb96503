"""Errors of flows: user-facing ones become the message of a failed run, bugs are raised."""

from __future__ import annotations

import inspect
import logging

import pytest
from prefect.client.schemas.objects import State
from pymongo.errors import AutoReconnect

from flows.flow_runtime import _DropExpectedTracebacks, fail_with_message, user_facing_error
from retail_core.errors import DependencyError, InputError


@fail_with_message
def flow_function(divisor: int = 1) -> int:
    if divisor < 0:
        raise InputError("The divisor is negative.", remedy="give a positive one.")
    return 6 // divisor


def test_a_user_facing_error_is_the_message_of_the_failed_state() -> None:
    state = flow_function(-1)
    assert isinstance(state, State)
    assert state.is_failed()
    assert state.message == str(InputError("The divisor is negative.", remedy="give a positive one."))


def test_results_are_returned_and_bugs_are_raised() -> None:
    assert flow_function(2) == 3
    with pytest.raises(ZeroDivisionError):
        flow_function(0)


def test_the_decorated_flow_keeps_its_parameters_with_resolved_annotations() -> None:
    (parameter,) = inspect.signature(flow_function).parameters.values()
    assert (parameter.name, parameter.annotation, parameter.default) == ("divisor", int, 1)


def test_a_lost_connection_is_a_dependency_error_and_a_bug_is_not_user_facing() -> None:
    assert isinstance(user_facing_error(AutoReconnect("closed")), DependencyError)
    assert user_facing_error(ZeroDivisionError()) is None


def test_tracebacks_are_logged_for_bugs_only() -> None:
    def filtered(error: Exception) -> logging.LogRecord:
        record = logging.LogRecord(
            "flow", logging.ERROR, __file__, 1, "failed", None, (type(error), error, None)
        )
        assert _DropExpectedTracebacks().filter(record)
        return record

    assert filtered(InputError("wrong", remedy="correct it")).exc_info is None
    assert filtered(ZeroDivisionError()).exc_info is not None
