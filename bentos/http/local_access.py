"""Without API keys, accept loopback requests only, and none that a browser sends for another site.

Such a site would send a request under its own name (`Origin`), or under a name of its own that resolves to
this machine (`Host`, DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache

from starlette.types import Scope

from bentos.problems import Problem

REMEDY = "create a key with `retail keys add` and send it, or use http://127.0.0.1 on this machine."


def local_access_problem(scope: Scope, headers: Mapping[bytes, bytes]) -> Problem | None:
    """403 if a request without a key is not from this machine or from a page of another site, else None."""
    if not _is_from_loopback(scope):
        return _forbidden("No API keys are set: only requests from this machine are accepted.")
    host, origin = headers.get(b"host", b""), headers.get(b"origin", b"")
    if host and not _names_loopback(host):
        return _forbidden("No API keys are set: the host of a request is 127.0.0.1 or localhost.")
    if origin and origin.partition(b"://")[2] != host:
        return _forbidden("No API keys are set: requests from pages of other sites are refused.")
    return None


def _forbidden(detail: str) -> Problem:
    return Problem(403, "loopback-only", detail, remedy=REMEDY)


def _is_from_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    return not client or not client[0] or _is_loopback(client[0])  # a Unix socket has no client address


@lru_cache(maxsize=1024)
def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=64)
def _names_loopback(host: bytes) -> bool:
    """Whether the header `Host` is `localhost` or a loopback address, with or without a port."""
    name = re.sub(r":\d*$", "", host.decode("latin-1")).strip("[]").lower()
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)
