"""The pictures of the operator's page in the documentation: six tenants on an ordinary bad day.

They are taken where `RELAY_TEST_SCREENSHOTS` names a folder: `make screenshots`.
"""

import asyncio
import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from relay.core.activity import EVERYONE, Activity, ActivityKey, bucket_of
from relay.core.model import TenantId
from relay.outbox import open_outbox
from relay.reports.activity import HOUR
from relay.sandbox import Sandbox, SandboxTenant
from tests.e2e.test_page import CHROMIUM, FLAGS
from tests.support.application import ORDER, SHIPMENT, order
from tests.support.process import RelayProcess, Station

FOLDER = os.environ.get("RELAY_TEST_SCREENSHOTS")
WATCHED_SECONDS = 30.0
"""So long the relay is watched: it records every ten seconds what it delivers."""

ACME, GLOBEX, INITECH, NORTHWIND = "ACME_PRD", "GLOBEX_PRD", "INITECH_TST", "NORTHWIND_PRD"
TENANTS = (ACME, "CONTOSO_PRD", GLOBEX, INITECH, NORTHWIND, "UMBRELLA_PRD")


def day(sandbox: Sandbox) -> None:
    """What is wrong at ION."""
    refused = "the supplier S-0815 is blocked"
    sandbox.faults(tenant="CONTOSO_PRD", call="post", status=400, text="order-13", error=refused)
    sandbox.faults(tenant=GLOBEX, call="post", status=503, error="ION is being maintained")
    sandbox.faults(tenant=GLOBEX, call="ping", status=503, error="ION is being maintained")
    sandbox.faults(tenant="UMBRELLA_PRD", call="ping", status=401, error="the consumer key is not valid")


async def enqueue(station: Station, sizes: tuple[int, ...] = (30, 45, 25, 60, 80, 50, 35)) -> None:
    """Orders as they come; more at times."""
    number = 0
    while True:
        for size in sizes:
            for _ in range(size):
                station.application.insert(ACME, order(number), key=f"customer-{number % 20}")
                number += 1
                await asyncio.sleep(5 / size)


async def record_past(station: Station) -> None:
    """What an earlier relay recorded in the hour before."""
    now = time.time()
    chance = random.Random(7)  # a picture that is the same each time
    outbox = await open_outbox(f"sqlite:///{station.application.path}")
    for back in range(1, 60):
        start, was_away = HOUR.span.start(now) - 60 * back, 20 <= back < 26
        delivered = 0 if was_away else chance.randint(380, 520)
        failed = chance.randint(1, 3) if was_away else 0
        durations = {bucket_of(0.02 * 1.5**step): 40 >> step for step in range(6)}
        for tenant in (EVERYONE, TenantId(ACME)):
            one = Activity(delivered, failed, int(back == 25), None, durations, durations)
            await outbox.record_activity({ActivityKey("earlier", HOUR.span, start, tenant): one})
            with closing(sqlite3.connect(station.application.path)) as connection, connection:
                values = (HOUR.span.seconds, start, tenant, 60 * (27 - back) if was_away else 0)
                connection.execute(
                    "INSERT INTO relay_activity (span, start, tenant_id, source, waiting) VALUES (?, ?, ?, '', ?)",
                    values,
                )
    await outbox.close()


async def fill(station: Station) -> None:
    """What waits when the pictures are taken."""
    for number in range(20):
        station.application.insert("CONTOSO_PRD", order(number), key=f"customer-{number}")
        station.application.insert(NORTHWIND, order(number))
    for number in range(7):
        station.application.insert(GLOBEX, order(number), key=f"customer-{number % 3}")
        station.application.insert(NORTHWIND, order(number), SHIPMENT)
        station.application.insert("UMBRELLA_PRD", order(number))
    station.application.insert(GLOBEX, order(8), SHIPMENT)
    station.application.insert(INITECH, order(1))
    await station.command(
        "tenants", "pause", INITECH, "--reason", "its connection point moves to another tenant"
    )


async def take(page: Page, address: str, name: str, path: str) -> None:
    """One picture, of the page as long as it is."""
    assert FOLDER is not None
    await page.goto(f"http://{address}{path}")
    await page.get_by_text("Live updates are on.").wait_for()
    file = Path(FOLDER) / f"{name}.png"
    await page.screenshot(path=file, full_page=True)
    assert file.stat().st_size > 0


@pytest.mark.skipif(not FOLDER or CHROMIUM is None, reason="no pictures were asked for")
async def test_pictures_for_the_documentation(tmp_path: Path) -> None:
    tenants = [
        SandboxTenant(one, f"lid://{one.split('_')[0].lower()}.orders.1", [ORDER], auth="oauth2")
        if one == NORTHWIND
        else SandboxTenant(
            one, f"lid://{one.split('_')[0].lower()}.orders.1", [ORDER, SHIPMENT], auth="oauth2"
        )
        for one in TENANTS
    ]
    async with Sandbox(tenants) as sandbox:
        station = Station(tmp_path, {"RELAY_WEB__LISTEN": "127.0.0.1:0"})
        quick = ("RELAY_RETRY__INITIAL_SECONDS", "RELAY_RETRY__MAX_SECONDS")
        station.environment = {k: v for k, v in station.environment.items() if k not in quick}
        station.environment |= sandbox.environment(tmp_path)
        day(sandbox)
        await fill(station)
        await record_past(station)
        async with station.relay() as relay:
            handing = asyncio.create_task(enqueue(station))
            await photograph(relay, (await station.event(relay, "web.opened"))["address"])
            handing.cancel()
            await asyncio.gather(handing, return_exceptions=True)


async def photograph(relay: RelayProcess, address: str) -> None:
    """All pictures."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page(viewport={"width": 1200, "height": 480})
        await page.goto(f"http://{address}/")
        await asyncio.sleep(WATCHED_SECONDS)
        await take(page, address, "page-overview", "/")
        await take(page, address, "page-tenant", f"/tenants/{GLOBEX}")
        assert relay.running
        await browser.close()
