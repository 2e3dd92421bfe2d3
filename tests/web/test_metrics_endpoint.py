"""`/metrics`: what the outbox holds and what the relay did, in text that Prometheus reads, without a table scan."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Literal

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from relay.core.model import (
    Delivered,
    DocumentName,
    Draft,
    MessageId,
    Parked,
    StateName,
    TenantId,
    TenantState,
)
from relay.core.ports import Mode, StoreError
from relay.ion.oauth import Secret
from relay.observability import logs
from relay.observability.incidents import Incidents
from relay.observability.metrics import OTHER, Meters
from relay.reports import overview
from relay.web.access_control import Access, AccessTokens
from relay.web.login_reports import LoginReports
from relay.web.metrics_endpoint import MetricsEndpoint, OutboxGauges, OwnedTenants, routes
from tests.support.keys import settle_rows
from tests.support.memory import MemoryOutbox

ACME, GLOBEX = TenantId("ACME_PRD"), TenantId("GLOBEX_TST")
ORDER = DocumentName("Sync.SalesOrder")
Labels = tuple[str, ...]


class Away(MemoryOutbox):
    """An outbox that can be away."""

    away = False
    mode: Mode = "poll"
    log_size: int | None = None

    async def counts(self):
        if self.away:
            raise StoreError("away")
        return await super().counts()

    async def log_bytes(self) -> int | None:
        return self.log_size


@pytest.fixture
def store() -> Away:
    return Away(time.time)


def carrying(*tenants: TenantId) -> OwnedTenants:
    return OwnedTenants(lambda: tenants, lambda tenant: tenant == ACME, lambda: "notify")


def no_incidents() -> Incidents:
    return Incidents(logs.logger(), None, time.monotonic, 60.0, asyncio.get_running_loop().call_later)


def reach(store: Away):
    async def opened() -> Away:
        return store

    return opened


def see(store: Away):
    async def seen() -> overview.Overview:
        return await overview.read_overview(store, {}, datetime.now(UTC))

    return seen


async def fill(store: Away) -> None:
    """ACME: two pending, one delivered, one parked; GLOBEX: one pending."""
    await store.add([Draft(ACME, ORDER, b"<doc/>", MessageId(name)) for name in "abcd"])
    await store.add([Draft(GLOBEX, ORDER, b"<doc/>")])
    rows = {row.message_id: row.row for row in store.rows}
    await settle_rows(
        store, [(rows[MessageId("a")], Delivered()), (rows[MessageId("b")], Parked("HTTP 400"))]
    )


async def tell(
    store: Away,
    tenant: TenantId,
    state: StateName,
    reason: str = "",
    documents: tuple[DocumentName, ...] = (),
) -> None:
    await store.beat("relay", {})
    await store.report([TenantState(tenant, state, reason, datetime.now(UTC), documents=documents)])


async def look(store: Away, meters: Meters, *tenants: TenantId) -> OutboxGauges:
    made = OutboxGauges(see(store), reach(store), meters, carrying(*(tenants or (ACME, GLOBEX))))
    await made.update()
    return made


def read(meters: Meters, name: str) -> dict[Labels, float]:
    """The samples of this name by their label values."""
    families = read_text(meters.text(openmetrics=False))
    return {
        tuple(s.labels.values()): s.value for family in families for s in family.samples if s.name == name
    }


# --- the gauges of the outbox -------------------------------------------------------------------------


async def test_messages_are_shown_by_tenant_and_state(store: Away) -> None:
    await fill(store)
    meters = Meters()
    await look(store, meters)
    found = read(meters, "relay_outbox_messages")
    assert [found[ACME, state] for state in ("pending", "delivered", "parked", "dropped")] == [2, 1, 1, 0]
    assert found[GLOBEX, "pending"] == 1
    assert read(meters, "relay_outbox_bytes")[()] > 0
    assert read(meters, "relay_lease_held") == {(ACME,): 1}
    assert read(meters, "relay_outbox_mode") == {("notify",): 1}, "the relay's own, not the web thread's"
    assert abs(read(meters, "relay_outbox_seen_timestamp_seconds")[()] - time.time()) < 60


@pytest.mark.parametrize("size", [None, 0, 4_152])
async def test_the_write_ahead_log_of_a_file_has_a_series(store: Away, size: int | None) -> None:
    """A database has none."""
    store.log_size = size
    meters = Meters()
    await look(store, meters)
    assert read(meters, "relay_outbox_log_bytes") == ({} if size is None else {(): size})


async def test_the_queue_of_notifications_is_shown_where_the_store_has_one(
    store: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def used() -> float:
        return 0.25

    meters = Meters()
    await look(store, meters)
    assert read(meters, "relay_notification_queue_ratio") == {}
    monkeypatch.setattr(store, "notification_queue", used)
    await look(store, meters)
    assert read(meters, "relay_notification_queue_ratio") == {(): 0.25}


async def test_the_oldest_due_is_the_outbox_own_figure_and_zero_where_nothing_is_due(store: Away) -> None:
    await fill(store)
    store.shelf.clock = lambda: time.time() + 1000
    meters = Meters()
    await look(store, meters)
    assert 1000 <= read(meters, "relay_oldest_due_seconds")[(ACME,)] < 1060
    await settle_rows(store, [(row.row, Delivered()) for row in store.rows if row.tenant_id == GLOBEX])
    await look(store, meters)
    assert read(meters, "relay_oldest_due_seconds")[(GLOBEX,)] == 0


async def test_what_comes_into_the_outbox_after_the_first_look_was_handed_over(store: Away) -> None:
    await fill(store)
    meters = Meters()
    watching = await look(store, meters)
    assert read(meters, "relay_messages_enqueued_total") == {(ACME,): 0, (GLOBEX,): 0}
    await store.add([Draft(ACME, ORDER, b"<doc/>") for _ in range(3)])
    await watching.update()
    await store.prune(-1, 100)  # what goes is no negative hand-over
    await watching.update()
    assert read(meters, "relay_messages_enqueued_total") == {(ACME,): 3, (GLOBEX,): 0}


@pytest.mark.parametrize(
    ("state", "reason", "shown"),
    [
        ("paused", "maintenance", "paused"),
        ("halted", "HTTP 401", "halted"),
        ("backing-off", "HTTP 503", "backing-off"),
        ("sending", "", "its-turn"),
        ("idle", (ORDER,), "not-accepted"),
        (None, "", "its-turn"),
    ],
)
async def test_what_waits_is_shown_by_its_reason(
    store: Away, state: StateName | None, reason: str | tuple[DocumentName, ...], shown: str
) -> None:
    await fill(store)
    if state is not None:
        documents = reason if isinstance(reason, tuple) else ()
        await tell(store, ACME, state, "" if documents else str(reason), documents)
    meters = Meters()
    await look(store, meters)
    assert read(meters, "relay_waiting_messages")[ACME, shown] == 2
    assert read(meters, "relay_tenant_state") == ({} if state is None else {(ACME, state): 1})


async def test_messages_of_a_tenant_that_no_relay_carries_wait_for_a_relay(store: Away) -> None:
    await fill(store)
    meters = Meters()
    await look(store, meters, ACME)
    assert read(meters, "relay_waiting_messages")[GLOBEX, "no-relay"] == 1


async def test_tenants_beyond_the_bound_are_added_up_and_their_oldest_counts(store: Away) -> None:
    await fill(store)
    meters = Meters(bound=0)
    await look(store, meters)
    assert read(meters, "relay_outbox_messages")[OTHER, "pending"] == 3
    assert set(read(meters, "relay_oldest_due_seconds")) == {(OTHER,)}


async def test_an_outbox_that_is_away_leaves_the_gauges_and_their_time_as_they_were(store: Away) -> None:
    await fill(store)
    meters = Meters()
    watching = await look(store, meters)
    before = meters.text(openmetrics=False)
    store.away = True
    with pytest.raises(StoreError):
        await watching.update()
    assert meters.text(openmetrics=False) == before


# --- the page -----------------------------------------------------------------------------------------

OPEN = AccessTokens()
Get = Callable[..., Awaitable[aiohttp.ClientResponse]]


@asynccontextmanager
async def served(store: Away, meters: Meters, tokens: AccessTokens = OPEN) -> AsyncIterator[Get]:
    """A bare application with the page."""
    app = web.Application()
    look = OutboxGauges(see(store), reach(store), meters, carrying(ACME, GLOBEX))
    routes(
        app,
        look,
        MetricsEndpoint(meters),
        Access(lambda: tokens, LoginReports(reach(store), no_incidents), local=True),
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:

        async def get(accept: str, **headers: str) -> aiohttp.ClientResponse:
            sent = {"Accept": accept, **headers}
            answer = await session.get(f"http://127.0.0.1:{port}/metrics", headers=sent)
            await answer.read()
            return answer

        yield get
    await runner.cleanup()


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "openmetrics",
        ),
        ("text/plain;version=0.0.4", "text"),
        ("*/*", "text"),
        ("text/plain;version=nonsense;;;=", "text"),
    ],
)
async def test_the_page_comes_in_the_form_that_is_asked_for(
    store: Away, accept: str, form: Literal["openmetrics", "text"]
) -> None:
    await fill(store)
    meters = Meters()
    async with served(store, meters) as get:
        answer = await get(accept)
        text = await answer.text()
    assert answer.status == 200
    kinds = {"openmetrics": "application/openmetrics-text", "text": "text/plain"}
    assert answer.content_type == kinds[form]
    families = list(read_openmetrics(text) if form == "openmetrics" else read_text(text))
    names = {family.name for family in families}
    assert {"relay_info", "process_resident_memory_bytes", "python_info"} <= names
    assert len(families) == len(names), "no family twice"


async def test_a_page_is_written_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    meters, now = Meters(), [100.0]
    monkeypatch.setattr("relay.web.metrics_endpoint.time.monotonic", lambda: now[0])
    page = MetricsEndpoint(meters)
    first = page.body(is_open=False)
    meters.of(ACME).delivered(1)
    assert page.body(is_open=False) == first
    now[0] += 1.1
    assert b'relay_messages_delivered_total{tenant="ACME_PRD"} 1' in page.body(is_open=False)


async def test_the_look_ends_with_the_application_and_outlives_an_outbox_that_is_away(store: Away) -> None:
    store.away = True
    meters = Meters()
    async with served(store, meters) as get:
        assert (await get("*/*")).status == 200


async def test_where_a_token_is_needed_a_readers_suffices_and_a_wrong_one_does_not(store: Away) -> None:
    tokens = AccessTokens(Secret("the operator's token"), Secret("the reader's token"))
    async with served(store, Meters(), tokens) as get:
        assert (await get("*/*")).status == 401
        assert (await get("*/*", Authorization="Bearer wrong")).status == 401
        assert (await get("*/*", Authorization="Bearer the reader's token")).status == 200
