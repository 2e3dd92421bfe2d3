"""This file is the traces: an OpenTelemetry span for each sending, from the application's trace on to ION.

Off unless OpenTelemetry's own variables name a collector, and the extra `otel` is imported only then. A span
holds who, what and how it ended; no document, and nothing that a far side wrote.
"""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from relay import __version__
from relay.core import protocol
from relay.core.model import TRACEPARENT, Message
from relay.core.replies import Answer, Reply
from relay.core.validation import Problem

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

COLLECTORS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Either says where spans go; OpenTelemetry reads it, and its further variables, by itself."""

NAME = "ion.send"
CUT = "cut"
"""The answer, in a span, of what was cut before ION answered."""

Post = Callable[[str | None], Awaitable[Answer]]
"""Post it with this `traceparent`."""

Tell = Callable[[str | None], object]
"""Told after each batch, in a thread of the exporter's: why it was dropped, or None."""


class Traces:
    """The spans of one relay process."""

    def __init__(self, processor: "SpanProcessor") -> None:
        """`processor`: takes the spans that ended."""
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = Resource({"service.name": "ion-relay", "service.version": __version__})
        resource = named.merge(OTELResourceDetector().detect())  # what the environment says counts
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("relay", __version__)
        self._w3c = TraceContextTextMapPropagator()

    async def around(self, message: Message, post: Post) -> Answer:
        """Post within a span of this message; its parent is what the row's `traceparent` names."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        facts = {
            "relay.tenant": message.tenant_id,
            "relay.document": message.document_name,
            "messaging.message.id": message.message_id,
            "relay.answer": CUT,
        }
        span = self._tracer.start_span(NAME, self._parent(message), SpanKind.CLIENT, facts)
        owner_of: dict[str, str] = {}
        self._w3c.inject(owner_of, set_span_in_context(span))
        is_fine = False
        try:
            answer = await post(owner_of.get(TRACEPARENT))
            is_fine = protocol.is_fine(answer)
            span.set_attribute("relay.answer", protocol.row_of(answer).name)
            if isinstance(answer, Reply):
                span.set_attribute("http.response.status_code", answer.status)
        finally:
            if not is_fine:
                span.set_status(StatusCode.ERROR)
            span.end()
        return answer

    async def close(self, within: float) -> None:
        """Hand over what is left; what a collector does not take in time is dropped."""
        last = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        last.start()
        await asyncio.to_thread(last.join, within)

    def _parent(self, message: Message) -> "Context":
        """Without one that can be read the span begins a trace of its own."""
        named = json.loads(message.parameters).get(TRACEPARENT) if TRACEPARENT in message.parameters else None
        return self._w3c.extract({TRACEPARENT: named} if isinstance(named, str) else {})


def opened(environment: Mapping[str, str], tell: Tell) -> Traces | Problem | None:
    """The traces that the environment asks for; None if it asks for none, and what hinders them otherwise."""
    asked = next((name for name in COLLECTORS if environment.get(name)), None)
    if asked is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    except ImportError:
        hint = "install ion-relay[otel], or unset the variable"
        return Problem(asked, "needs the extra otel, which is not installed: no traces", hint)

    class Exporter(OTLPSpanExporter):
        def export(self, spans: "Sequence[ReadableSpan]") -> SpanExportResult:
            result = super().export(spans)
            is_taken = result is SpanExportResult.SUCCESS
            tell(
                None if is_taken else f"the collector that {asked} names did not take spans: they are dropped"
            )
            return result

    return Traces(BatchSpanProcessor(Exporter()))
