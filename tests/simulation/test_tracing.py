"""Each post is a span of the application's own trace, and its header names the span; in virtual time."""

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from relay.core.model import Draft, MessageId
from relay.core.replies import Answer, NoReply, Reply
from relay.observability.tracing import CUT, Traces
from tests.simulation.harness import ACME, FINE, ORDER, Answerer, World, world
from tests.support.virtual import run

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def traced(answer: Answerer | None = None) -> tuple[World, InMemorySpanExporter]:
    spans = InMemorySpanExporter()
    w = world() if answer is None else world(answer)
    w.traces = Traces(SimpleSpanProcessor(spans))
    return w, spans


async def deliver(w: World, **parameters: str) -> None:
    w.outbox.insert(Draft(ACME, ORDER, b"<secret/>", MessageId("SO-1"), parameters=parameters))
    await w.start()
    await w.all_settled()
    await w.stop()


def headers_of(spans: Sequence[ReadableSpan]) -> list[str]:
    """The spans as headers of the posts."""
    contexts = [span.get_span_context() for span in spans]
    return [f"00-{c.trace_id:032x}-{c.span_id:016x}-{c.trace_flags:02x}" for c in contexts if c is not None]


def test_a_delivery_is_a_span_below_the_one_that_the_row_names() -> None:
    async def scene() -> None:
        w, exporter = traced()
        await deliver(w, traceparent=f"00-{TRACE}-{SPAN}-01")
        (span,) = exporter.get_finished_spans()
        assert (span.name, span.kind, span.status.status_code) == (
            "ion.send",
            SpanKind.CLIENT,
            StatusCode.UNSET,
        )
        assert span.parent is not None
        assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
        assert dict(span.attributes or {}) == {
            "relay.tenant": ACME,
            "relay.document": ORDER,
            "messaging.message.id": "SO-1",
            "relay.answer": "ok",
            "http.response.status_code": 202,
        }
        assert w.ion.traceparents == headers_of([span])
        assert TRACE in headers_of([span])[0]

    run(scene())


def test_a_row_without_a_trace_begins_one() -> None:
    async def scene() -> None:
        w, exporter = traced()
        await deliver(w)
        (span,) = exporter.get_finished_spans()
        assert span.parent is None
        assert w.ion.traceparents == headers_of([span])

    run(scene())


def test_each_post_is_a_span_of_its_own_in_one_trace() -> None:
    async def scene() -> None:
        answers: list[Answer] = [Reply(503), NoReply("SO-1 of <secret/> did not go")]
        w, exporter = traced(lambda call, *_: answers.pop(0) if call == "post" and answers else FINE[call])
        await deliver(w, traceparent=f"00-{TRACE}-{SPAN}-01")
        spans = exporter.get_finished_spans()
        assert [dict(span.attributes or {})["relay.answer"] for span in spans] == ["busy", "silent", "ok"]
        assert [span.status.status_code for span in spans] == [
            *(StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET)
        ]
        assert w.ion.traceparents == headers_of(spans)
        assert len(set(headers_of(spans))) == 3
        assert all(TRACE in one for one in headers_of(spans))
        assert "secret" not in "".join(span.to_json() for span in spans)

    run(scene())


def test_what_the_application_does_not_sample_is_passed_on_as_not_sampled_and_leaves_no_span() -> None:
    async def scene() -> None:
        w, exporter = traced()
        await deliver(w, traceparent=f"00-{TRACE}-{SPAN}-00")
        assert exporter.get_finished_spans() == ()
        (header,) = w.ion.traceparents
        assert header is not None
        assert header.startswith(f"00-{TRACE}-")
        assert header.endswith("-00")

    run(scene())


def test_a_cancelled_post_is_a_span_with_an_error() -> None:
    async def scene() -> None:
        w, exporter = traced()
        w.latency = 1000.0
        w.insert("k")
        await w.start()
        await w.until(lambda: w.ion.traceparents != [])
        await w.supervisor.cancel()
        (span,) = exporter.get_finished_spans()
        assert (dict(span.attributes or {})["relay.answer"], span.status.status_code) == (
            CUT,
            StatusCode.ERROR,
        )

    run(scene())


def test_without_a_collector_nothing_is_added() -> None:
    async def scene() -> None:
        w = world()
        await deliver(w, traceparent=f"00-{TRACE}-{SPAN}-01")
        assert w.ion.traceparents == [None]

    run(scene())
