"""OpenTelemetry traces of requests, turned on by the usual variables (`OTEL_*`); else nothing is loaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from bentos.correlation import Correlation

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

SERVICE_NAME = "retail-api"
EXPORTER_VARIABLE = "OTEL_TRACES_EXPORTER"
ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTER_GROUP = "opentelemetry_traces_exporter"
OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
"""Name of the installed exporter for a protocol; http/protobuf is the default."""

log = logging.getLogger("bentoml.serve")


class RequestTracer:
    """Makes one server span per request, as the child of the client's span if there is one."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("bentos")

    def start(self, method: str, route: str, ids: Correlation) -> tuple[Span, Correlation]:
        """The span of a request, and the ids of the request with those of the span."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        attributes = {"http.request.method": method, "http.route": route}
        context = _parent(ids) if ids.parent_id else Context()
        span = self._tracer.start_span(f"{method} {route}", context, SpanKind.SERVER, attributes)
        span_context = span.get_span_context()
        trace_id = f"{span_context.trace_id:032x}"
        request_id = trace_id if ids.request_id == ids.trace_id else ids.request_id
        flags = f"{span_context.trace_flags:02x}"
        return span, Correlation(request_id, trace_id, f"{span_context.span_id:016x}", flags, ids.parent_id)


def end_span(span: Span, status: int, key: str) -> None:
    """End the span of a request that was answered with `status`; `key` is the name of its API key."""
    from opentelemetry.trace import StatusCode

    span.set_attributes({"http.response.status_code": status, "retail.api_key": key})
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()


def load_tracer(variables: Mapping[str, str] = os.environ) -> RequestTracer | None:
    """The tracer that the environment variables request, if any.

    An exporter that is not installed or cannot be started is logged, and no traces are made: the service
    has to serve.
    """
    exporters = [exporter for name in exporter_names(variables) for exporter in _exporters(name)]
    if not exporters:
        return None
    try:
        return RequestTracer(_provider(exporters))
    except Exception:
        # Whatever an exporter that others install raises must not keep the service from answering.
        log.exception("No traces are made: the exporter cannot be started")
        return None


def _provider(exporters: Sequence[EntryPoint]) -> TracerProvider:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": SERVICE_NAME}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter.load()()))
    return provider


def exporter_names(variables: Mapping[str, str]) -> list[str]:
    """Names of the exporters that the variables request; none if traces are off.

    >>> exporter_names({}), exporter_names({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"})
    ([], ['otlp_proto_http'])
    >>> exporter_names({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"})
    []
    """
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    has_endpoint = any(variables.get(name) for name in ENDPOINT_VARIABLES)
    listed = variables.get(EXPORTER_VARIABLE) or ("otlp" if has_endpoint else "none")
    protocol = next((variables[name] for name in PROTOCOL_VARIABLES if variables.get(name)), "")
    names = [name.strip() for name in listed.split(",")]
    otlp = OTLP.get(protocol, OTLP["http/protobuf"])
    return [otlp if name == "otlp" else name for name in names if name not in {"", "none"}]


def _exporters(name: str) -> Sequence[EntryPoint]:
    exporters = list(entry_points(group=EXPORTER_GROUP, name=name))
    if not exporters:
        package = f"opentelemetry-exporter-{name.replace('_', '-')}"
        log.error("The exporter of traces %s is not installed; install %s.", name, package)
    return exporters


def _parent(ids: Correlation) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    parent = SpanContext(
        trace_id=int(ids.trace_id, 16),
        span_id=int(ids.parent_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(ids.flags, 16)),
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())
