"""ION calls a real relay: who is let in, over which settings, and what it is answered while the relay stops."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.sandbox import Sandbox
from relay.sandbox.activation import Application, visit
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import OutboxRow
from tests.support.process import RelayProcess, Station

INBOUND = {
    "RELAY_INBOUND__LISTEN": "127.0.0.1:0",
    f"RELAY_TENANTS__{ACME}__INBOUND__CONSUMER_KEY": "ion-acme",
    f"RELAY_TENANTS__{ACME}__INBOUND__CONSUMER_SECRET_FILE": "acme.secret",
    f"RELAY_TENANTS__{GLOBEX}__INBOUND__CONSUMER_KEY": "ion-globex",
    f"RELAY_TENANTS__{GLOBEX}__INBOUND__CONSUMER_SECRET": "globex-secret",
}


@pytest.fixture
async def relay(sandbox: Sandbox, station: Station) -> AsyncIterator[RelayProcess]:
    """A relay that ION may call; nothing else is served."""
    (station.folder / "acme.secret").write_text("acme-secret")
    async with station.relay(environment=INBOUND) as running:
        yield running


async def address(station: Station, relay: RelayProcess) -> str:
    """The endpoint's address, once the relay accepts work: until then it answers 503."""
    line = await station.event(relay, "web.opened", setting="RELAY_INBOUND__LISTEN")
    at = str(line["address"])
    for _ in range(400):
        if await asked(at, GLOBEX, "ion-globex", "globex-secret") != [503]:
            return at
        await asyncio.sleep(0.05)
    raise AssertionError("the relay never accepted work")


async def asked(at: str, tenant: str, key: str, secret: str) -> list[int | None]:
    """The statuses that a caller such as ION is answered."""
    visits = await visit(Application(f"http://{at}/{tenant}", key, secret))
    return [one.status for one in visits]


async def test_ion_is_let_in_with_its_tenants_key_and_with_no_other(
    station: Station, relay: RelayProcess
) -> None:
    at = await address(station, relay)
    assert await asked(at, ACME, "ion-acme", "acme-secret") == [200, 200, 200]
    assert await asked(at, GLOBEX, "ion-globex", "globex-secret") == [200, 200, 200]
    assert await asked(at, ACME, "ion-globex", "globex-secret") == [403]
    assert await asked(at, ACME, "ion-acme", "guessed") == [401]
    refused = await station.event(relay, "incident.opened", kind="inbound")
    assert refused["code"] == "RELAY-116"


async def test_a_secret_that_is_replaced_on_disk_counts_within_seconds(
    station: Station, relay: RelayProcess
) -> None:
    at = await address(station, relay)
    (station.folder / "acme.secret").write_text("another-secret")
    for _ in range(100):
        if await asked(at, ACME, "ion-acme", "another-secret") == [200, 200, 200]:
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError("the new secret never counted")
    assert await asked(at, ACME, "ion-acme", "acme-secret") == [401]


async def test_while_the_relay_stops_it_takes_no_more_work(
    sandbox: Sandbox, station: Station, relay: RelayProcess
) -> None:
    at = await address(station, relay)
    slow = sandbox.faults(tenant=ACME, call="post", late=3)
    station.application.insert_all([OutboxRow(ACME, b"1")])
    await station.until(lambda: slow.applied, "a post in flight")
    relay.send(signal.SIGTERM)
    seen: list[Any] = []
    while relay.running and seen[:1] != [503]:  # one round may have begun before the signal was handled
        seen = await asked(at, ACME, "ion-acme", "acme-secret")
    assert seen == [503]
    assert await station.ended(relay) == 0
    assert station.application.states(ACME) == {"delivered": 1}


async def test_check_calls_as_ion_would(station: Station, relay: RelayProcess, tmp_path: Path) -> None:
    at = await address(station, relay)
    station.environment |= {**INBOUND, "RELAY_INBOUND__LISTEN": at}
    done = await station.command("check", "--json")
    steps = {(step["tenant"], step["step"]): step for step in done.json["steps"]}
    assert steps[ACME, "inbound"]["ok"] is True
    assert steps[GLOBEX, "inbound"]["ok"] is True
    (station.folder / "acme.secret").write_text("not what the relay has read")
    station.environment["RELAY_INBOUND__LISTEN"] = "127.0.0.1:9"
    done = await station.command("check", "--json")
    step = next(step for step in done.json["steps"] if step["step"] == "inbound")
    assert done.code == 1
    assert step["ok"] is False
    assert "is a relay running there?" in step["detail"]
    assert step["hint"]


async def test_without_an_address_nothing_listens(sandbox: Sandbox, station: Station) -> None:
    async with station.relay(environment={**INBOUND, "RELAY_INBOUND__LISTEN": "off"}) as relay:
        assert relay.said("web.opened") == []  # ports are opened before relay.started, which was waited for
