"""Admission of requests by their head: API key and its scope, body size, rate limit, media type."""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.types import Scope as HttpScope

from bentos.http.key_brake import KeyBrake, client_network
from bentos.http.key_ring import KeyRing
from bentos.http.local_access import local_access_problem
from bentos.http.route_scopes import OTHER, ROUTES, Routes
from bentos.http.upload_form import MAPPING_LIMIT_BYTES, form_boundary
from bentos.problems import Problem
from retail_core.api_keys import LOCAL, ApiKey, Scope, key_digest

JSON_LIMIT_BYTES = 16 * 1024 * 1024
UPLOAD_PATH = "/score_batch"
JSON_PATHS = frozenset({"/predict", "/events", "/alerts/run"})
MULTIPART_OVERHEAD_BYTES = 64 * 1024 + MAPPING_LIMIT_BYTES
BURST_SECONDS = 2.0

API_KEY = "api_key"
"""Entry of an admitted request's ASGI scope: its `ApiKey`. Public routes have none."""

KEY_HEADERS = frozenset({b"x-api-key", b"authorization"})
_BEARER = b"bearer "
_HEADERS = KEY_HEADERS | frozenset({b"content-length", b"content-type", b"host", b"origin"})


class RateLimiter:
    """One token bucket per key: `rate` requests per second on average, bursts of `BURST_SECONDS` times that.

    A rate of 0 means no limit. Only accepted keys have a bucket, so there are no more buckets than key names.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._capacity = max(1.0, rate * BURST_SECONDS)
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_seconds(self, key: str, clock_seconds: float) -> float:
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

    Without keys only loopback requests are admitted (`local_access`).

    Args:
        keys: accepted API keys, sent as `X-API-Key` or as a bearer token.
        upload_bytes: size limit of a file sent to `/score_batch`.
        rate: requests per second accepted for each key; 0 means no limit.
        routes: the routes with the scopes they need.
    """

    def __init__(self, keys: KeyRing, upload_bytes: int, rate: float = 0.0, routes: Routes = ROUTES) -> None:
        self.keys = keys
        self.upload_bytes = upload_bytes
        self.rate_limiter = RateLimiter(rate)
        self.routes = routes
        self._brake = KeyBrake()

    def limit_bytes(self, path: str) -> int:
        """The size limit of a body sent to `path`."""
        if path == UPLOAD_PATH:
            return self.upload_bytes + MULTIPART_OVERHEAD_BYTES
        return JSON_LIMIT_BYTES

    def refusal(self, scope: HttpScope, route: str, clock_seconds: float) -> Problem | None:
        """The reason to refuse the request, or None; an admitted request's scope gets its `API_KEY`.

        Args:
            scope: the request's head.
            route: that of its path, from `routes`.
            clock_seconds: time of any monotonic clock.
        """
        needed = self.routes.scopes.get(route)
        if needed is None and route != OTHER:
            return None
        headers = {name: value for name, value in scope["headers"] if name in _HEADERS}
        if self.keys.needs_key(clock_seconds):
            forbidden = self._key_problem(scope, headers, clock_seconds)
        else:
            scope[API_KEY] = LOCAL
            forbidden = local_access_problem(scope, headers)
        if forbidden is not None:
            return forbidden
        key: ApiKey = scope[API_KEY]
        wait = self.rate_limiter.wait_seconds(key.name, clock_seconds)
        if wait:
            return _too_fast(self.rate_limiter.rate, wait)
        if needed is None:
            return Problem(404, "not-found", "There is no such path.", remedy="see the paths at /docs.")
        return _missing_scope(key, needed) or self._body_problem(scope, headers)

    def _body_problem(self, scope: HttpScope, headers: Mapping[bytes, bytes]) -> Problem | None:
        limit, length = self.limit_bytes(scope["path"]), headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            return too_large(limit)
        return _media_type_problem(scope, headers)

    def _key_problem(
        self, scope: HttpScope, headers: Mapping[bytes, bytes], clock_seconds: float
    ) -> Problem | None:
        sent = _sent_key(headers)
        if not sent:
            return _no_key("The request has no API key.")
        client = scope.get("client")
        address = client_network(client[0]) if client else ""
        digest = key_digest(sent)
        wait = self._brake.wait_seconds(address, digest, clock_seconds)
        if wait:
            return _wrong_keys(wait)
        key = self.keys.find(digest)
        if key is None:
            self._brake.key_was_wrong(address, digest, clock_seconds)
            return _no_key("The API key is not valid.")
        self._brake.key_was_right(address, digest)
        scope[API_KEY] = key
        return None


def _sent_key(headers: Mapping[bytes, bytes]) -> bytes:
    """The key of the request: `X-API-Key`, else a bearer token, as BentoML's client sends it."""
    if key := headers.get(b"x-api-key"):
        return key
    authorization = headers.get(b"authorization", b"")
    is_bearer = authorization[: len(_BEARER)].lower() == _BEARER
    return authorization[len(_BEARER) :].strip() if is_bearer else b""


def too_large(limit_bytes: int) -> Problem:
    """413: the body has more than `limit_bytes`."""
    detail = f"The body is larger than the limit of this route, {limit_bytes // 1024} KiB."
    return Problem(413, "too-large", detail, remedy="send it in several requests.")


def is_upload(scope: HttpScope) -> bool:
    """Whether the request uploads a file."""
    return (scope["method"], scope["path"]) == ("POST", UPLOAD_PATH)


def _no_key(detail: str) -> Problem:
    return Problem(401, "api-key", detail, remedy="send a valid key in the header X-API-Key.")


def _wrong_keys(wait_seconds: float) -> Problem:
    retry_after = str(math.ceil(wait_seconds))
    detail = "Too many wrong API keys came from this address."
    remedy = f"send a valid key after {retry_after} s."
    return Problem(429, "wrong-keys", detail, headers=(("Retry-After", retry_after),), remedy=remedy)


def _missing_scope(key: ApiKey, needed: Scope) -> Problem | None:
    """403 where the key lacks the scope of the route."""
    if needed in key.scopes:
        return None
    detail = f"The key {key.name} has no scope `{needed}`, which this route needs."
    return Problem(403, "scope", detail, remedy=f"use a key with the scope `{needed}` (`retail keys add`).")


def _too_fast(rate: float, wait_seconds: float) -> Problem:
    retry_after = str(math.ceil(wait_seconds))
    detail = f"The rate limit of this key, {rate:g} requests per second, is exceeded."
    remedy = f"send the request again after {retry_after} s."
    return Problem(429, "too-fast", detail, headers=(("Retry-After", retry_after),), remedy=remedy)


def _media_type_problem(scope: HttpScope, headers: Mapping[bytes, bytes]) -> Problem | None:
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
