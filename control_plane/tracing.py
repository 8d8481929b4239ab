"""OpenTelemetry traces of what the control plane does: operators' orders and runs of the planner.

Off unless asked for, and an extra (``pip install farcast[traces]``), imported only then. Reports of edges are
no spans: 200 edges are 200 a second, and metrics count them. Attributes are names of edges and keys, never a
token. Where traces go is OpenTelemetry's own environment (``OTEL_EXPORTER_OTLP_ENDPOINT``, ...); its exporter
has a bounded queue and a thread of its own, so a collector that is gone costs spans and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from farcast.errors import EXIT_USAGE, UserError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE_NAME = "farcast-control"


class Action(Protocol):
    """One action while it runs."""

    def refuse(self, reason: str) -> None:
        """It was not done, and why."""


class Tracer:
    """Traces nothing."""

    @contextlib.contextmanager
    def action(self, name: str, **attributes: str | int) -> Iterator[Action]:
        """An action from begin to end."""
        yield _Untraced()

    def close(self) -> None:
        """Send what waits."""


class OpenTelemetryTracer(Tracer):
    """Hands spans to a provider."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("farcast.control_plane")

    @contextlib.contextmanager
    def action(self, name: str, **attributes: str | int) -> Iterator[Action]:
        """A span; an exception is recorded in it and goes on."""
        told = {f"farcast.{key}": value for key, value in attributes.items()}
        with self._tracer.start_as_current_span(f"farcast.{name}", attributes=told) as span:
            yield _Traced(span.set_attribute)

    def close(self) -> None:
        """Send what waits, and end the exporter's thread."""
        self._provider.shutdown()


class _Untraced:
    def refuse(self, reason: str) -> None:
        """Nobody is told."""


class _SetAttribute(Protocol):
    def __call__(self, key: str, value: str) -> None: ...


class _Traced:
    def __init__(self, set_attribute: _SetAttribute) -> None:
        self._set_attribute = set_attribute

    def refuse(self, reason: str) -> None:
        """As an attribute: a refusal is an answer and no failure of ours."""
        self._set_attribute("farcast.refused", reason)


def open_tracer(mode: str, cluster: str) -> Tracer:
    """The tracer for ``off`` or ``otlp``. `UserError` where the extra is not installed."""
    if mode == "off":
        return Tracer()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UserError(
            f"traces = {mode!r} needs OpenTelemetry ({error.name} is missing): pip install 'farcast[traces]'",
            EXIT_USAGE,
        ) from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": SERVICE_NAME, "farcast.cluster": cluster}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OpenTelemetryTracer(provider)
