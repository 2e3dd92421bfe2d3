"""A trace from the application's row through the relay to ION, as ION and a collector see it."""

import json
from pathlib import Path

from relay.sandbox import Sandbox
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import OutboxRow, order
from tests.support.collector import collector
from tests.support.process import Station

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = json.dumps({"traceparent": f"00-{TRACE}-{SPAN}-01", "documentId": "SO-1"})


async def test_the_applications_trace_goes_through_to_ion(sandbox: Sandbox, station: Station) -> None:
    """With each authentication: the post's header names the span that the collector received, a child of the row's own."""
    with collector() as receiver:
        traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "NO_PROXY": "127.0.0.1"}
        station.application.insert_all(
            OutboxRow(tenant, order(1), parameters=GIVEN) for tenant in (ACME, GLOBEX)
        )
        async with station.relay(environment=traces):
            await station.until_delivered(ACME)
            await station.until_delivered(GLOBEX)
        spans = receiver.spans
    assert [(span.trace_id.hex(), span.parent_span_id.hex()) for span in spans] == 2 * [(TRACE, SPAN)]
    posts = [request for tenant in (ACME, GLOBEX) for request in sandbox.requests(tenant)]
    headers = {request.traceparent for request in posts if request.call == "post"}
    assert headers == {f"00-{TRACE}-{span.span_id.hex()}-01" for span in spans}
    assert {request.traceparent for request in posts if request.call != "post"} == {None}
    for taken in (*sandbox.messages(ACME), *sandbox.messages(GLOBEX)):
        content = sandbox.record.content(taken.tenant_id, taken.message_id)
        assert content is not None
        assert content.parameters["documentId"] == "SO-1"
        assert "traceparent" not in content.parameters


async def test_without_a_collector_the_row_goes_as_ever(sandbox: Sandbox, station: Station) -> None:
    """Nothing of the trace is sent."""
    station.application.insert_all([OutboxRow(ACME, order(1), parameters=GIVEN)])
    async with station.relay():
        await station.until_delivered(ACME)
    assert {request.traceparent for request in sandbox.requests(ACME)} == {None}


async def test_a_collector_that_refuses_is_one_incident_and_no_obstacle(
    sandbox: Sandbox, station: Station
) -> None:
    """It is reported once, with its code and without the library's own lines, and resolved when spans are accepted."""
    with collector() as receiver:
        receiver.status = 400
        traces = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "NO_PROXY": "127.0.0.1",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        async with station.relay(environment=traces) as relay:
            for _ in range(2):
                station.application.insert_all([OutboxRow(ACME, order(1), parameters=GIVEN)])
                await station.until_delivered(ACME)
                await station.until(
                    lambda: relay.said("incident.opened", kind="traces") != [], "the incident"
                )
            receiver.status = 200
            station.application.insert_all([OutboxRow(ACME, order(1), parameters=GIVEN)])
            await station.until(lambda: relay.said("incident.resolved") != [], "its end")
            assert [line["code"] for line in relay.said("incident.opened")] == ["RELAY-164"]
            assert "logger" not in relay.text
    assert {request.status for request in sandbox.requests(ACME) if request.call == "post"} == {202}


async def test_without_the_extra_one_warning_says_so_and_messages_go(
    sandbox: Sandbox, station: Station, tmp_path: Path
) -> None:
    """As where `ion-relay` was installed without `[otel]`."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "opentelemetry.py").write_text("raise ImportError('not installed')\n")
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(hidden)}
    station.application.insert_all([OutboxRow(ACME, order(1), parameters=GIVEN)])
    async with station.relay(environment=traces) as relay:
        await station.until_delivered(ACME)
        (line,) = relay.said("setting.ignored")
    assert (line["setting"], line["code"]) == ("OTEL_EXPORTER_OTLP_ENDPOINT", "RELAY-161")
    assert "ion-relay[otel]" in line["hint"]
    assert {request.traceparent for request in sandbox.requests(ACME)} == {None}
