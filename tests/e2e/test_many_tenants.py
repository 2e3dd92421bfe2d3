"""An incident of one tenant does not affect another: black holes, unreadable credentials, unconfigured tenants."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

from relay.sandbox import Sandbox, SandboxTenant
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import ORDER, OutboxRow, order
from tests.support.process import Station

TENANTS, HOLES, EACH = 50, 3, 8


@asynccontextmanager
async def black_hole() -> AsyncIterator[tuple[int, list[float]]]:
    """A port that accepts and never answers; its number, and when each connection came."""
    came: list[float] = []
    writers: list[asyncio.StreamWriter] = []

    def swallow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(time.monotonic())
        writers.append(writer)

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], came
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


async def test_47_deliver_while_3_are_black_holes(tmp_path: Path) -> None:
    """The 47 are done before the first black hole has even been given up; the 3 wait, and go when it is over."""
    tenants = [SandboxTenant(f"T{n:02}", accepted=[ORDER], auth="oauth1") for n in range(TENANTS)]
    holes = {f"T{n:02}" for n in range(HOLES)}
    station = Station(tmp_path)
    async with Sandbox(tenants) as sandbox, black_hole() as (port, came):
        right = sandbox.environment(tmp_path)
        wrong = {f"RELAY_TENANTS__{t}__ION_URL": f"http://127.0.0.1:{port}/service" for t in holes}
        (tmp_path / ".env").write_text(
            "".join(f"{name}={value}\n" for name, value in {**right, **wrong}.items())
        )
        station.environment |= {"RELAY_HTTP__TOTAL_SECONDS": "60", "RELAY_HTTP__READ_SECONDS": "60"}
        parcels = [OutboxRow(f"T{n % TENANTS:02}", order(n), key=f"k{n % 3}") for n in range(TENANTS * EACH)]
        station.application.insert_all(parcels)
        async with station.relay() as relay:
            others = (TENANTS - HOLES) * EACH
            await station.until(
                lambda: sandbox.record.count() == others, f"the {others} of the other tenants"
            )
            assert not relay.said("incident.opened"), "no black hole was given up yet: nobody waited for one"
            await station.until(lambda: len(came) == HOLES, "each black hole to be tried")
            await station.until(lambda: station.application.delivered() == others, "all of them settled")
            assert {t: station.application.states(t) for t in holes} == {t: {"pending": EACH} for t in holes}
            (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in right.items()))

            relay.send(signal.SIGHUP)
            await station.until_delivered()
        assert sandbox.violations == []
        assert sandbox.record.sent_twice() == []


async def test_a_black_hole_times_out_and_is_reported_while_others_deliver(
    sandbox: Sandbox, station: Station
) -> None:
    """Connected, never answered: one opening line, growing pauses, and no effect on the tenant beside it."""
    async with black_hole() as (port, came):
        station.environment |= {
            f"RELAY_TENANTS__{GLOBEX}__ION_URL": f"http://127.0.0.1:{port}/service",
            "RELAY_HTTP__TOTAL_SECONDS": "0.5",
            "RELAY_HTTP__READ_SECONDS": "0.5",
        }
        station.application.insert(GLOBEX)
        async with station.relay() as relay:
            await station.until(lambda: len(came) >= 4, "four tries")
            station.application.insert_all(OutboxRow(ACME, order(n)) for n in range(20))
            await station.until_delivered(ACME)
            (opened,) = relay.said("incident.opened", tenant=GLOBEX)
            assert (opened["kind"], opened["level"]) == ("silent", "warning")
            assert "0.5 s" in opened["detail"]
            seen = await station.until_status(GLOBEX, "backing-off")
            assert "no answer" in seen["reason"]
        gaps = [after - before for before, after in pairwise(came)]
        assert all(gap >= 0.5 for gap in gaps), "the time-out itself, and a pause"
        assert station.application.states(GLOBEX) == {"pending": 1}


async def test_unreadable_credentials_halt_that_tenant_alone(sandbox: Sandbox, station: Station) -> None:
    """Missing, a folder, or nonsense: the log names the file, others deliver; a good file ends it."""
    file = station.folder / f"{ACME}.ionapi"
    right = file.read_bytes()
    file.write_bytes(b"\x00 this is no ionapi file")
    station.application.insert_all([OutboxRow(ACME, b"1"), OutboxRow(GLOBEX, b"2")])
    async with station.relay() as relay:
        await station.until_delivered(GLOBEX)
        opened = await station.event(relay, "incident.opened", tenant=ACME)
        assert str(file) in opened["detail"]
        await station.until_status(ACME, "halted", file.name)
        file.unlink()
        station.application.insert(GLOBEX)
        await station.until_delivered(GLOBEX)
        assert station.application.states(ACME) == {"pending": 1}
        file.write_bytes(right)
        await station.until_delivered(ACME)
    assert sandbox.tokens.issued[ACME] == 1


async def test_messages_of_an_unconfigured_tenant_wait(sandbox: Sandbox, station: Station) -> None:
    """Reported once in the log and by the status; never lost, and no obstacle to others."""
    station.application.insert_all(OutboxRow("NOBODY_1", order(n)) for n in range(300))
    async with station.relay() as relay:
        station.application.insert(GLOBEX)
        await station.until_delivered(GLOBEX)
        station.application.insert_all([OutboxRow("NOBODY_1", b"more"), OutboxRow(GLOBEX, b"more")])
        await station.until_delivered(GLOBEX)
        (missed,) = await station.until(
            lambda: relay.said("tenant.missed"), "the line about the unknown tenant"
        )
        assert (missed["tenant"], missed["level"]) == ("NOBODY_1", "warning")
        seen = await station.status("NOBODY_1")
        assert (seen["state"], seen["pending"], seen["configured"]) == ("unconfigured", 301, False)
    assert sandbox.record.count() == 2
