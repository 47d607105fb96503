"""Who may ask where no keys are set: this machine alone, and no page of another site in its browser.

Such a page would ask in its own name (`Origin`), or in ours by a name of its own that leads here (`Host`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache

from starlette.types import Scope

from bentos.problems import Problem


def objection(scope: Scope, head: Mapping[bytes, bytes]) -> Problem | None:
    """Why a request without a key may not pass."""
    if not _is_loopback(scope):
        return Problem(403, "loopback-only", "Without RETAIL_API_KEYS only this machine may ask.")
    host, origin = head.get(b"host", b""), head.get(b"origin", b"")
    if host and not _names_loopback(host):
        return Problem(403, "loopback-only", "Without RETAIL_API_KEYS ask by 127.0.0.1 or localhost.")
    if origin and origin.partition(b"://")[2] != host:
        return Problem(403, "loopback-only", "Without RETAIL_API_KEYS pages of other sites may not ask.")
    return None


def _is_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    return not client or not client[0] or _loopback(client[0])  # without a client it is a Unix socket


@lru_cache(maxsize=1024)
def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=64)
def _names_loopback(host: bytes) -> bool:
    """Whether the header `Host` names this machine as only itself can be asked by."""
    name = re.sub(r":\d*$", "", host.decode("latin-1")).strip("[]").lower()
    return name == "localhost" or name.endswith(".localhost") or _loopback(name)
