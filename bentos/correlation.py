"""Request ids and W3C trace context: taken from a request or created, returned and logged."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar

import msgspec

from bentos.problems import Headers

REQUEST_ID = "request_id"
"""Entry of the ASGI scope of a request."""

REQUEST_ID_HEADER = b"x-request-id"
TRACE_HEADER = b"traceparent"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_TRACEPARENT = re.compile(
    rb"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
"""The version is not ff, and one of version 00 ends after the flags; neither id is zero."""


class Correlation(msgspec.Struct, frozen=True):
    """The ids of one request.

    Attributes:
        request_id: that of the client, else the trace id.
        trace_id: 32 hexadecimal digits, those of the client's `traceparent`, else random.
        span_id: 16 hexadecimal digits of this request within the trace.
        flags: two hexadecimal digits, those of the client, else `00`: not sampled.
        parent_id: span of the client; empty without a `traceparent`.
    """

    request_id: str
    trace_id: str
    span_id: str
    flags: str = "00"
    parent_id: str = ""

    @property
    def traceparent(self) -> bytes:
        """Value of the header `traceparent`, for the response and for whoever is called."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}".encode()

    def headers(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """Headers of the response."""
        return (REQUEST_ID_HEADER, self.request_id.encode()), (TRACE_HEADER, self.traceparent)


current: ContextVar[Correlation | None] = ContextVar("correlation", default=None)
"""The request that the running code belongs to, for log records; threads of a pool have none."""


def correlate(headers: Headers) -> Correlation:
    """The ids of a request with these headers; invalid values are replaced.

    >>> traced = correlate([(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")])
    >>> traced.trace_id, traced.request_id == traced.trace_id, traced.flags, traced.parent_id
    ('0af7651916cd43dd8448eb211c80319c', True, '01', 'b7ad6b7169203331')
    >>> correlate([(b"x-request-id", b"order-7")]).request_id
    'order-7'
    """
    digits = os.urandom(24).hex()
    request_id, trace_id, flags, parent_id = "", digits[16:], "00", ""
    for name, value in headers:
        if name == REQUEST_ID_HEADER and _REQUEST_ID.fullmatch(value):
            request_id = value.decode()
        elif name == TRACE_HEADER and (match := _TRACEPARENT.fullmatch(value)):
            trace_id, parent_id, flags = (part.decode() for part in match.groups())
    return Correlation(request_id or trace_id, trace_id, digits[:16], flags, parent_id)
