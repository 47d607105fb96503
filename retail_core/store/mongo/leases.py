"""Leases: which process works on a ledger document. Their times are those of the MongoDB server."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from typing import Any

import psutil

from retail_core.store.mongo.connection import Store, server_time

LEASE_SECONDS = 60
"""Time without a commit after which a run of another machine counts as ended."""


def new_owner() -> str:
    """A name for one run of this process."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"


def new_lease(owner: str) -> dict[str, Any]:
    """Expressions of the fields of a lease that this process holds, for an update with a pipeline."""
    return {name: {"$literal": value} for name, value in this_process(owner).items()} | {"until": lease_end()}


def this_process(owner: str) -> dict[str, Any]:
    """The fields of a lease that name this process."""
    return {
        "owner": owner,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": _process_start_time(os.getpid()),
    }


def is_this_process(lease: Mapping[str, Any]) -> bool:
    """Whether a lease names this process."""
    return bool(lease["host"] == socket.gethostname() and lease["pid"] == os.getpid())


def lease_ended(store: Store, lease: Mapping[str, Any] | None) -> bool:
    """Whether there is no lease, its process has ended, or it has expired.

    On this machine only the process counts, since a slow one does not renew its lease in time.
    """
    if lease is None:
        return True
    if lease["host"] == socket.gethostname():
        start_time = _process_start_time(lease["pid"])
        return start_time is None or abs(start_time - lease["born"]) > 1
    return bool(lease["until"] < server_time(store))


def lease_end() -> dict[str, Any]:
    """Expression for the time at which a lease that is renewed now expires."""
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "second", "amount": LEASE_SECONDS}}


def _process_start_time(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None
