"""Traces of control actions: what a span says, and that none is made unless asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from farcast.control_plane.tracing import OpenTelemetryTracer, Tracer, open_tracer
from farcast.errors import UserError


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter) -> OpenTelemetryTracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return OpenTelemetryTracer(provider)


def test_an_order_is_a_span_with_what_it_was_about(
    tracer: OpenTelemetryTracer, spans: InMemorySpanExporter
) -> None:
    with tracer.action("drain", node_id="fra-1"):
        pass
    (span,) = spans.get_finished_spans()
    assert span.name == "farcast.drain"
    assert dict(span.attributes or {}) == {"farcast.node_id": "fra-1"}


def test_a_refused_order_says_why_and_is_no_error(
    tracer: OpenTelemetryTracer, spans: InMemorySpanExporter
) -> None:
    with tracer.action("undrain", node_id="fra-1") as action:
        action.refuse("edge 'fra-1' has no order to drain")
    (span,) = spans.get_finished_spans()
    assert (span.attributes or {})["farcast.refused"] == "edge 'fra-1' has no order to drain"
    assert span.status.status_code is not StatusCode.ERROR


def test_a_planner_that_breaks_is_an_error_and_goes_on_breaking(
    tracer: OpenTelemetryTracer, spans: InMemorySpanExporter
) -> None:
    with pytest.raises(ZeroDivisionError), tracer.action("plan", nodes=3):
        raise ZeroDivisionError
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR


def test_off_traces_nothing_and_imports_nothing() -> None:
    assert type(open_tracer("off", "shows")) is Tracer
    script = (
        "import sys, farcast.control_plane.service, farcast.control_plane.tracing as t;"
        "t.open_tracer('off', 'shows'); sys.exit('opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(UserError, match=r"pip install 'farcast\[traces\]'"):
        open_tracer("otlp", "shows")
