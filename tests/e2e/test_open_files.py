"""Under a low limit of open files everything is delivered and settled, and the limit is named."""

import asyncio
import os
import resource
import urllib.request
from pathlib import Path

from relay.sandbox import Sandbox, SandboxTenant
from tests.support.application import ORDER, OutboxRow, order
from tests.support.process import RelayProcess, Station

LIMIT, TENANTS, EACH = 64, 60, 10


def asks(address: str, path: str) -> int:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as answer:  # loopback
        return int(answer.status)


def limited(station: Station, limit: int = LIMIT) -> None:
    station.prefix = ("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh")


def in_use(relay: RelayProcess) -> int:
    return len(os.listdir(f"/proc/{relay.pid}/fd"))  # noqa: PTH208


async def test_with_64_open_files_60_tenants_deliver_and_the_page_answers(tmp_path: Path) -> None:
    station = Station(tmp_path, {"RELAY_WEB__LISTEN": "127.0.0.1:0"})
    limited(station)
    tenants = [SandboxTenant(f"T{n:02}", accepted=[ORDER], auth="oauth1") for n in range(TENANTS)]
    async with Sandbox(tenants) as sandbox:
        station.environment |= sandbox.environment(tmp_path)
        station.environment |= {f"RELAY_HTTP__{name}_SECONDS": "60" for name in ("CONNECT", "READ", "TOTAL")}
        rows = [OutboxRow(f"T{n % TENANTS:02}", order(n), key=f"k{n % 7}") for n in range(TENANTS * EACH)]
        station.application.insert_all(rows)
        async with station.relay() as relay:
            address = (await station.event(relay, "web.opened"))["address"]
            limit = await station.event(relay, "connections.limited")
            assert (limit["code"], "64 open files" in limit["reason"]) == ("RELAY-167", True)
            await station.until(lambda: sandbox.record.count() > TENANTS, "deliveries")
            assert await asyncio.to_thread(asks, address, "/livez") == 200
            most = 0

            def is_done() -> bool:
                nonlocal most
                most = max(most, in_use(relay))
                return station.application.is_all_delivered("%")

            await station.until(is_done, "all messages delivered and settled", 60.0)
            assert most < LIMIT
            assert await asyncio.to_thread(asks, address, "/livez") == 200
            assert not relay.said("incident.opened"), relay.said("incident.opened")
        assert sandbox.violations == []
        assert sandbox.record.sent_twice() == []


async def test_a_soft_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    station = Station(tmp_path, {"RELAY_TENANTS__ACME__LOGICAL_ID": "lid://acme.orders.1"})
    station.environment |= {
        "RELAY_TENANTS__ACME__ION_URL": "http://127.0.0.1:9/service",
        "RELAY_TENANTS__ACME__OAUTH1__CONSUMER_KEY": "key",
        "RELAY_TENANTS__ACME__OAUTH1__CONSUMER_SECRET": "secret",
    }
    station.prefix = ("sh", "-c", 'ulimit -Sn 40; ulimit -Hn 512; exec "$@"', "sh")
    async with station.relay() as relay:
        assert resource.prlimit(relay.pid, resource.RLIMIT_NOFILE) == (512, 512)
        assert not relay.said("connections.limited")


async def test_relay_check_names_the_limit(tmp_path: Path) -> None:
    station = Station(tmp_path)
    tenants = [SandboxTenant(f"T{n:02}", accepted=[ORDER], auth="oauth1") for n in range(4)]
    async with Sandbox(tenants) as sandbox:
        station.environment |= sandbox.environment(tmp_path)
        limited(station)
        finished = await station.command("check")
        assert "limit of 64 open files leaves 20 connections to ION, not 32" in finished.out, finished
        assert finished.code == 0
