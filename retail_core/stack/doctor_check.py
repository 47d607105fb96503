"""The result of one check, and checks that never raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from retail_core.errors import RetailError


@dataclass(frozen=True)
class DoctorCheck:
    """Result of one check: `what` was observed, and the `remedy`, empty where none is needed."""

    name: str
    state: Literal["ok", "warn", "fail"]
    what: str
    remedy: str = ""


def guarded(name: str, check: Callable[[], DoctorCheck]) -> DoctorCheck:
    """The result of `check`; an error is a failed check of this name."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a check that fails is a finding, whatever failed
        return failed_check(name, error)


def failed_check(name: str, error: Exception) -> DoctorCheck:
    """The result of a check that raised."""
    if isinstance(error, RetailError):
        return DoctorCheck(name, "fail", error.message, error.remedy)
    what = f"{type(error).__name__}: {error}".partition("\n")[0]
    return DoctorCheck(name, "fail", what, "report this together with the log.")
