"""Traces are off unless the environment names a collector; then spans reach it, also the last ones."""

import sys
import threading
import time

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from relay.core.model import DocumentName, Message, MessageId, RowId, TenantId
from relay.core.replies import Answer, Reply
from relay.core.validation import Problem
from relay.observability.tracing import Traces, open_traces
from tests.support.collector import collector

MESSAGE = Message(
    RowId(1), TenantId("ACME_PRD"), DocumentName("Sync.Shipment"), MessageId("m1"), b"<doc/>", 6
)


async def taken(_: str | None) -> Answer:
    return Reply(202)


@pytest.mark.parametrize("environment", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_SERVICE_NAME": "x"}])
def test_without_a_collector_there_are_no_traces(environment: dict[str, str]) -> None:
    assert open_traces(environment, print) is None


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_without_the_extra_the_problem_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    found = open_traces({name: "http://127.0.0.1:4318"}, print)
    assert isinstance(found, Problem)
    assert (found.field, found.hint) == (name, "install ion-relay[otel], or unset the variable")


async def test_spans_reach_the_collector_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "relay-in-test"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        outcomes: list[str | None] = []
        traces = open_traces(environment, outcomes.append)
        assert isinstance(traces, Traces)
        assert await traces.post_in_span(MESSAGE, taken) == Reply(202)
        await traces.close(10)
        assert [path for path, _ in receiver.requests] == ["/v1/traces"]
        assert [span.name for span in receiver.spans] == ["ion.send"]
        assert receiver.services == {"relay-in-test"}
        assert outcomes == [None]


async def test_a_collector_that_refuses_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as receiver:
        receiver.status = 400
        environment = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.url}/v1/traces"}
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        outcomes: list[str | None] = []
        traces = open_traces(environment, outcomes.append)
        assert isinstance(traces, Traces)
        await traces.post_in_span(MESSAGE, taken)
        await traces.close(10)
        (why,) = outcomes
        assert why is not None
        assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT names refused spans" in why


async def test_a_stalled_collector_is_not_waited_for() -> None:
    let_go = threading.Event()

    class Stuck(SimpleSpanProcessor):
        def shutdown(self) -> None:
            let_go.wait()

    began = time.monotonic()
    await Traces(Stuck(InMemorySpanExporter())).close(0.05)
    assert time.monotonic() - began < 5
    let_go.set()
