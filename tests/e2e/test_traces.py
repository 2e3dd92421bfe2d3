"""A trace from the application's row through the relay to ION, as ION and a collector see it."""

import json

from relay.sandbox import Sandbox
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import Parcel, order
from tests.support.collector import collector
from tests.support.process import Station

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = json.dumps({"traceparent": f"00-{TRACE}-{SPAN}-01", "documentId": "SO-1"})


async def test_the_applications_trace_goes_through_to_ion(sandbox: Sandbox, station: Station) -> None:
    """With each authentication: the post carries the span that the collector has, below the row's own."""
    with collector() as receiver:
        traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "NO_PROXY": "127.0.0.1"}
        station.application.insert_all(
            Parcel(tenant, order(1), parameters=GIVEN) for tenant in (ACME, GLOBEX)
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
    station.application.insert_all([Parcel(ACME, order(1), parameters=GIVEN)])
    async with station.relay():
        await station.until_delivered(ACME)
    assert {request.traceparent for request in sandbox.requests(ACME)} == {None}
