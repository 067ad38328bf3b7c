"""Spans of readings and requests that carry a W3C trace context, sent to an OpenTelemetry collector.

Nothing of OpenTelemetry is imported unless an endpoint is set. Only what carries a context with its flag *sampled* has
spans: whoever begins a trace decides, and a home at its normal rate has none.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from hl_platform.core.errors import ConfigError
from hl_platform.core.trace_context import Parent, parse_traceparent, write_traceparent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanContext

log = structlog.get_logger()

# A batch of the sink may hold thousands; what a span can show, and a collector take, are a few.
MAX_LINKS = 128
EXPORT_TIMEOUT_S = 5
# So that a trace is there when a person looks for it.
EXPORT_EVERY_MS = 1_000

Attributes = Mapping[str, str | int]


class Tracing:
    """Where spans go; made by `open_tracing`.

    Guarantee: never raises and never waits; while the collector is away, spans are dropped.

    Args:
        provider: of OpenTelemetry.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("hl")

    def record(self, name: str, traceparent: str, start_ns: int, attributes: Attributes) -> None:
        """A span that ends now, in the trace of a context; none where that is not sampled.

        Args:
            name: of the span.
            traceparent: as the reading carried it.
            start_ns: when it began, in Unix nanoseconds.
            attributes: what to know about it.
        """
        span = self.begin(name, traceparent, start_ns)
        if span is not None:
            span.set_attributes(dict(attributes))
            span.end()

    def record_batch(
        self, name: str, traceparents: Sequence[str], start_ns: int, attributes: Attributes
    ) -> None:
        """A span of its own trace that ends now, with links to those that were sampled; none without any."""
        from opentelemetry import context, trace  # noqa: PLC0415

        parents = [parent for one in traceparents if (parent := _sampled(one)) is not None]
        if not parents:
            return
        links = [trace.Link(_context_of(parent)) for parent in parents[:MAX_LINKS]]
        # Its own begin of a trace, yet nobody's root decides for it: that is what the links have done.
        span = self._tracer.start_span(
            name, context.Context(), links=links, start_time=start_ns, attributes=dict(attributes)
        )
        span.end()

    def begin(self, name: str, traceparent: str, start_ns: int | None = None) -> "Span | None":
        """A span that goes on, in the trace of a context; None where that is not sampled."""
        from opentelemetry import trace  # noqa: PLC0415

        parent = _sampled(traceparent)
        if parent is None:
            return None
        around = trace.set_span_in_context(trace.NonRecordingSpan(_context_of(parent)))
        return self._tracer.start_span(name, around, start_time=start_ns or time.time_ns())

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def open_tracing(endpoint: str | None, service: str) -> Tracing | None:
    """Where the spans of a service go; None where no endpoint is set.

    Args:
        endpoint: of an OTLP collector, by HTTP, such as http://127.0.0.1:4318.
        service: shown as `service.name`, with `hl-` before it.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    if endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as exc:
        raise ConfigError(
            f"HL_TRACING__ENDPOINT={endpoint!r} needs OpenTelemetry: pip install 'hl-platform[otel]', or unset it."
        ) from exc
    provider = TracerProvider(resource=Resource.create({"service.name": f"hl-{service}"}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_EVERY_MS))
    log.info("tracing_on", endpoint=endpoint, service=service)
    return Tracing(provider)


def traceparent_of(span: "Span") -> str:
    """The context of a span, as what follows from it carries it."""
    found = span.get_span_context()
    return write_traceparent(Parent(found.trace_id, found.span_id, sampled=True))


def _sampled(traceparent: str) -> Parent | None:
    parent = parse_traceparent(traceparent)
    return parent if parent is not None and parent.sampled else None


def _context_of(parent: Parent) -> "SpanContext":
    from opentelemetry import trace  # noqa: PLC0415

    flags: Any = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    return trace.SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
