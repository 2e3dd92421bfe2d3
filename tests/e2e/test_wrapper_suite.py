"""A suite of the customer's that wraps ION and forwards posts alone: what the check says, and that it works."""

from relay.sandbox import Sandbox
from tests.e2e.conftest import ACME
from tests.support.application import ORDER
from tests.support.process import Station

CALLS = ("ping", "versions", "acceptedDocuments")


async def test_a_suite_that_forwards_posts_alone(sandbox: Sandbox, station: Station) -> None:
    sandbox.faults(tenant=ACME, wrapper=True)
    checked = await station.command("check", "--json")
    steps = {step["step"]: step for step in checked.json["steps"] if step["tenant"] == ACME}
    assert checked.code == 1
    for call in CALLS:
        assert not steps[call]["ok"]
        assert "404" in steps[call]["detail"]
        assert "SKIPPED_CALLS" in steps[call]["hint"]

    start = f"RELAY_TENANTS__{ACME}__"
    station.environment |= {f"{start}SKIPPED_CALLS": ",".join(CALLS), f"{start}DOCUMENTS": ORDER}
    checked = await station.command("check", "--json")
    steps = {step["step"]: step for step in checked.json["steps"] if step["tenant"] == ACME}
    assert checked.code == 0
    for call in CALLS:
        assert steps[call]["detail"].startswith("skipped (SKIPPED_CALLS)")
        assert steps[call]["hint"].startswith("without it "), "what is lost"
    sandbox.clear_record()
    async with station.relay():
        station.application.insert(ACME)
        await station.until_delivered(ACME)
    assert {request.call for request in sandbox.requests(ACME)} == {"token", "post"}
