"""Tracing: an OpenTelemetry span for each post, between the application's trace and ION's.

Off unless OpenTelemetry's own variables name a collector; the extra `otel` is imported only then. A span
holds who, what and the outcome; no document, and no text from a server.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from relay import __version__
from relay.core import answers
from relay.core.model import TRACEPARENT, Message
from relay.core.parameters import read_parameters
from relay.core.replies import Answer, Reply
from relay.core.validation import Problem

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

COLLECTORS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Either names the collector; OpenTelemetry itself reads it, and its further variables."""

NAME = "ion.send"
CUT = "cut"
"""The answer, in a span, of a post that was cut before ION answered."""

Post = Callable[[str | None], Awaitable[Answer]]
"""Posts the message with this `traceparent`."""

OnExport = Callable[[str | None], object]
"""Called after each batch, in the exporter's thread: why the batch was dropped, or None."""


class Traces:
    """The spans of one relay process."""

    def __init__(self, processor: "SpanProcessor") -> None:
        """`processor`: receives the spans that ended."""
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = Resource({"service.name": "ion-relay", "service.version": __version__})
        resource = named.merge(OTELResourceDetector().detect())  # the environment takes precedence
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("relay", __version__)
        self._w3c = TraceContextTextMapPropagator()

    async def post_in_span(self, message: Message, post: Post) -> Answer:
        """Post within a span; its parent is the message's `traceparent`."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        facts = {
            "relay.tenant": message.tenant_id,
            "relay.document": message.document_name,
            "messaging.message.id": message.message_id,
            "relay.answer": CUT,
        }
        span = self._tracer.start_span(NAME, self._parent(message), SpanKind.CLIENT, facts)
        carrier: dict[str, str] = {}
        self._w3c.inject(carrier, set_span_in_context(span))
        is_fine = False
        try:
            answer = await post(carrier.get(TRACEPARENT))
            is_fine = answers.is_fine(answer)
            span.set_attribute("relay.answer", answers.row_of(answer).name)
            if isinstance(answer, Reply):
                span.set_attribute("http.response.status_code", answer.status)
        finally:
            if not is_fine:
                span.set_status(StatusCode.ERROR)
            span.end()
        return answer

    async def close(self, within: float) -> None:
        """Export the remaining spans; those that the collector does not accept in time are dropped."""
        exporting = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        exporting.start()
        await asyncio.to_thread(exporting.join, within)

    def _parent(self, message: Message) -> "Context":
        """Without a valid one the span begins a trace of its own."""
        found = read_parameters(message.parameters) if TRACEPARENT in message.parameters else {}
        parent = None if isinstance(found, Problem) else found.get(TRACEPARENT)
        return self._w3c.extract({TRACEPARENT: parent} if isinstance(parent, str) else {})


def open_traces(environment: Mapping[str, str], on_export: OnExport) -> Traces | Problem | None:
    """Traces where the environment names a collector, else None; or why they cannot be exported."""
    variable = next((name for name in COLLECTORS if environment.get(name)), None)
    if variable is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    except ImportError:
        hint = "install ion-relay[otel], or unset the variable"
        return Problem(variable, "needs the extra otel, which is not installed: no traces", hint)

    class Exporter(OTLPSpanExporter):
        def export(self, spans: "Sequence[ReadableSpan]") -> SpanExportResult:
            result = super().export(spans)
            failure = f"the collector that {variable} names refused spans: they are dropped"
            on_export(None if result is SpanExportResult.SUCCESS else failure)
            return result

    return Traces(BatchSpanProcessor(Exporter()))
