"""Admission of requests by their head: API key, body size, rate limit, media type."""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping

from starlette.types import Scope

from bentos.http.local_access import local_access_problem
from bentos.http.upload_form import MAPPING_LIMIT_BYTES, form_boundary
from bentos.problems import Problem

OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/docs", "/openapi.json"})
OPEN_PREFIX = "/docs/"
JSON_LIMIT_BYTES = 16 * 1024 * 1024
UPLOAD_PREFIX = "/score_batch"
JSON_PATHS = frozenset({"/predict", "/events", "/alerts/run"})
UPLOAD_PATHS = frozenset({UPLOAD_PREFIX, f"{UPLOAD_PREFIX}/submit"})
MULTIPART_OVERHEAD_BYTES = 64 * 1024 + MAPPING_LIMIT_BYTES
BURST_SECONDS = 2.0

_HEADERS = frozenset({b"x-api-key", b"content-length", b"content-type", b"host", b"origin"})


class RateLimiter:
    """One token bucket per key: `rate` requests per second on average, bursts of `BURST_SECONDS` times that.

    A rate of 0 means no limit. Only accepted keys have a bucket, so there are never more buckets than keys.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._capacity = max(1.0, rate * BURST_SECONDS)
        self._buckets: dict[bytes, tuple[float, float]] = {}

    def wait_seconds(self, key: bytes, clock_seconds: float) -> float:
        """0 if the request is admitted, else the seconds until the next one will be."""
        if not self.rate:
            return 0.0
        tokens, updated = self._buckets.get(key, (self._capacity, clock_seconds))
        tokens = min(self._capacity, tokens + (clock_seconds - updated) * self.rate)
        admitted = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if admitted else tokens, clock_seconds)
        return 0.0 if admitted else (1.0 - tokens) / self.rate


class Guard:
    """Decides from a request's head whether it is admitted.

    Keys are compared in constant time; without keys only loopback requests are admitted (`local_access`).

    Args:
        keys: accepted API keys, sent as `X-API-Key`.
        upload_bytes: size limit of a file sent to `/score_batch`.
        rate: requests per second accepted for each key; 0 means no limit.
    """

    def __init__(self, keys: tuple[str, ...], upload_bytes: int, rate: float = 0.0) -> None:
        self.keys = tuple(key.encode() for key in keys)
        self.upload_bytes = upload_bytes
        self.rate_limiter = RateLimiter(rate)

    def limit_bytes(self, path: str) -> int:
        """The size limit of a body sent to `path`."""
        if path.startswith(UPLOAD_PREFIX):
            return self.upload_bytes + MULTIPART_OVERHEAD_BYTES
        return JSON_LIMIT_BYTES

    def refusal(self, scope: Scope, clock_seconds: float) -> Problem | None:
        """The reason to refuse the request, or None; `clock_seconds` is of any monotonic clock."""
        headers = {name: value for name, value in scope["headers"] if name in _HEADERS}
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return None
        key = headers.get(b"x-api-key", b"")
        forbidden = self._key_problem(key) if self.keys else local_access_problem(scope, headers)
        if forbidden is not None:
            return forbidden
        limit, length = self.limit_bytes(path), headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            return too_large(limit)
        wait = self.rate_limiter.wait_seconds(key, clock_seconds)
        return _too_fast(self.rate_limiter.rate, wait) if wait else _media_type_problem(scope, headers)

    def _key_problem(self, key: bytes) -> Problem | None:
        matches = [hmac.compare_digest(key, accepted) for accepted in self.keys]
        if any(matches):
            return None
        remedy = "send one of the keys of RETAIL_API_KEYS."
        return Problem(401, "api-key", "The header X-API-Key has no valid key.", remedy=remedy)


def too_large(limit_bytes: int) -> Problem:
    """413: the body has more than `limit_bytes`."""
    detail = f"The body is larger than the limit of this route, {limit_bytes // 1024} KiB."
    return Problem(413, "too-large", detail, remedy="send it in several requests.")


def is_upload(scope: Scope) -> bool:
    """Whether the request uploads a file."""
    return scope["method"] == "POST" and scope["path"] in UPLOAD_PATHS


def _too_fast(rate: float, wait_seconds: float) -> Problem:
    retry_after = str(math.ceil(wait_seconds))
    detail = f"The rate limit of this key, {rate:g} requests per second, is exceeded."
    remedy = f"send the request again after {retry_after} s."
    return Problem(429, "too-fast", detail, headers=(("Retry-After", retry_after),), remedy=remedy)


def _media_type_problem(scope: Scope, headers: Mapping[bytes, bytes]) -> Problem | None:
    """415 where JSON is sent as another media type, 422 where an upload is not a multipart form."""
    if is_upload(scope):
        try:
            form_boundary(scope["headers"])
        except Problem as problem:
            return problem
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    is_json_route = scope["method"] == "POST" and scope["path"] in JSON_PATHS
    if is_json_route and media_type not in {b"", b"application/json"}:
        detail = "The content type of the body is not application/json."
        return Problem(415, "not-json", detail, remedy="send JSON with content-type: application/json.")
    return None
