"""Traces are made of whatever a caller sends, and never fail him."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.traces import Traces


def traced(headers: dict[bytes, bytes], status: int = 200) -> InMemorySpanExporter:
    """One request's spans."""
    kept, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    traces = Traces(provider)
    traces.begin("POST", "/sample", headers).end(status, model="linear")
    traces.close()
    return kept


@given(
    parent=st.binary(max_size=80)
    | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", fullmatch=True),
    state=st.binary(max_size=40),
)
def test_whatever_stands_in_traceparent_there_is_at_most_one_whole_span(parent: bytes, state: bytes) -> None:
    spans = traced({b"traceparent": parent, b"tracestate": state}).get_finished_spans()
    assert [span.name for span in spans] in ([], ["POST /sample"])  # not sampled, or sampled


def test_only_a_fault_of_ours_is_marked_as_one() -> None:
    marked = {status: traced({}, status).get_finished_spans()[0].status.is_ok for status in (200, 429, 503)}
    assert marked == {200: True, 429: True, 503: False}
