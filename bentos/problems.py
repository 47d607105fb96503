"""RFC 9457 problem documents: the one shape of every error response."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from starlette.responses import Response

from retail_core.errors import DependencyError, RetailError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = "2"

Headers = Sequence[tuple[bytes, bytes]]
"""ASGI headers: names in lower case and values."""

_AT = re.compile(r"^(?P<rule>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_NAMED = re.compile(r"^Object (?:missing required|contains unknown) field `(?P<name>.*)`$", re.DOTALL)


class FieldError(msgspec.Struct, frozen=True):
    """A field of the request (`events[0].price`; empty for the whole request) and the rule it breaks."""

    field: str
    rule: str


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - the RFC's word
    """An error response; raised where it is noticed, sent at the edge.

    Attributes:
        status: HTTP status.
        kind: short name, the fragment of `type`; the kinds are listed in docs/api.md.
        detail: what is wrong, in a sentence or two.
        errors: the fields at fault.
        retry: whether the same request may succeed in a moment.
        headers: further headers of the response.
        remedy: what to do about it, in a sentence.
    """

    status: int
    kind: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    retry: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    remedy: str = ""

    def body(self, request_id: str = "") -> dict[str, object]:
        """The problem document; without a request id for an item of a list."""
        document: dict[str, object] = {
            "type": f"/docs#{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.remedy:
            document["remedy"] = self.remedy
        if self.errors:
            document["errors"] = self.errors
        if request_id:
            document["request_id"] = request_id
        return document

    def encoded(self, request_id: str) -> bytes:
        """The problem document as JSON."""
        return msgspec.json.encode(self.body(request_id))

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of the response, without its length."""
        pairs = [("content-type", MEDIA_TYPE), *self.headers]
        if self.retry:
            pairs.append(("Retry-After", RETRY_AFTER_SECONDS))
        if self.status == HTTPStatus.UNAUTHORIZED:
            pairs.append(("WWW-Authenticate", "ApiKey"))
        return [(name.lower().encode(), value.encode()) for name, value in pairs]

    def response(self, request_id: str) -> Response:
        """The complete response."""
        response = Response(self.encoded(request_id), status_code=self.status)
        response.raw_headers += self.raw_headers()
        return response


def invalid(field_path: str, rule: str) -> Problem:
    """422: the field breaks the rule."""
    prefix = f"{field_path}: " if field_path else ""
    return Problem(422, "invalid-request", f"{prefix}{rule}", (FieldError(field_path, rule),))


def unexpected() -> Problem:
    """500 without its cause, which only the log has."""
    return Problem(500, "unexpected", "The service failed.", remedy="see the log of the service.")


def from_msgspec(error: Exception) -> Problem:
    """422, or 400 for text that is not JSON or not UTF-8, from msgspec's message: `<rule> - at `$.path``."""
    if isinstance(error, UnicodeDecodeError):
        return Problem(400, "not-json", "The body is not JSON: a string is not UTF-8.")
    if isinstance(error, msgspec.ValidationError):
        match = _AT.match(str(error))
        path = ((match["path"] or "$") if match else "$").removeprefix("$")
        rule = match["rule"] if match else str(error)
        if named := _NAMED.match(rule):
            path = f"{path}.{named['name']}"
        return invalid(path.removeprefix("."), rule)
    return Problem(400, "not-json", f"The body is not JSON: {error}.")


def from_retail(error: RetailError) -> Problem:
    """The problem for one of our own errors: 503 where a dependency is unreachable, else 422."""
    if isinstance(error, DependencyError):
        return Problem(503, "dependency-away", error.message, retry=True, remedy=error.remedy)
    return Problem(422, "invalid-request", error.message, remedy=error.remedy)
