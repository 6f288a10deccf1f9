"""A request's steps for OpenTelemetry: the whole, and for each run of a graph the queue and the run.

Needs the extra ``otel``; this is the only file that knows it. Who calls decides by the header ``traceparent``
(W3C) whose trace it is and whether it is kept; without one the SDK's own variables decide, such as
``OTEL_TRACES_SAMPLER`` and ``OTEL_SERVICE_NAME``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

SERVICE: Final = "pushforward"
PARENT: Final = (b"traceparent", b"tracestate")
PATIENCE_S: Final = 2  # with a collector; a process that stops waits no longer for it
NS: Final = 1_000_000_000


class TracesMissing(ImportError):
    """Traces are asked for, and the extra is not installed."""


class Traces:
    """Makes traces, and sends them in the background; a collector that is away loses them, and no request."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE)
        self._context = TraceContextTextMapPropagator()

    @classmethod
    def to(cls, url: str) -> Self:
        """Send them to a collector, over OTLP.

        Raises:
            TracesMissing: without the extra ``otel``.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise TracesMissing(
                f"PUSHFORWARD_OTLP_URL needs the extra otel, which is not here: {error}"
            ) from None
        named = Resource.create({"service.name": SERVICE}).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=named, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=PATIENCE_S)))
        return cls(provider)

    def begin(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> Trace:
        """A request has come."""
        from opentelemetry.trace import SpanKind

        carrier = {name.decode(): headers[name].decode("latin1") for name in PARENT if name in headers}
        span = self._tracer.start_span(
            f"{method} {path}",
            context=self._context.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.path": path},
        )
        return Trace(self._tracer, span)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class Trace:
    """One request's."""

    __slots__ = ("_offset_ns", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    @property
    def id(self) -> str:
        """The trace's, in hexadecimal, by which a collector finds it."""
        return f"{self._span.get_span_context().trace_id:032x}"

    def ran(self, entry: str, rows: int, since: float, waited_s: float) -> None:
        """A graph has run rows, which were put into its queue at ``since`` on the monotonic clock."""
        began = since + waited_s
        self._step(f"queue {entry}", since, began, rows)
        self._step(f"run {entry}", began, time.monotonic(), rows)

    def _step(self, name: str, start: float, end: float, rows: int) -> None:
        from opentelemetry.trace import set_span_in_context

        context, said = set_span_in_context(self._span), {"pushforward.rows": rows}
        span = self._tracer.start_span(name, context, attributes=said, start_time=self._ns(start))
        span.end(self._ns(end))

    def end(self, status: int, **attributes: str | int) -> None:
        """The request is answered."""
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("http.response.status_code", status)
        self._span.set_attributes({f"pushforward.{name}": value for name, value in attributes.items()})
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def _ns(self, at: float) -> int:
        return int(at * NS) + self._offset_ns
