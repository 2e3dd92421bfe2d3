"""How changes are found: by polling, at most a given share of the time, and on PostgreSQL by notifications."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from sqlite3 import Connection

import pytest

from relay.core.model import DocumentName, Draft, MessageId
from relay.core.ports import Notification
from relay.outbox.postgres import change_watch
from relay.outbox.postgres import tenants as postgres_tenants
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.sqlite import tenants
from tests.contract.stores import insert_plainly, until
from tests.outbox.conftest import Opener
from tests.support.pgstore import ACME, PATIENCE, TERMINATE, Open, in_the_end, listening, mode_of
from tests.support.postgres import Cluster, connected

DRAFT = Draft(ACME, DocumentName("Sync.SalesOrder"), b"x", MessageId("m"))

# --- SQLite ---------------------------------------------------------------------------------------


async def test_polling_takes_a_small_share_of_the_time(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With thousands of tenants a poll is expensive; the next one then comes later: here 20 times 20 ms."""
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    monkeypatch.setattr(tenants, "notification", after(partial(toil, 0.02), tenants.notification))
    await outbox.arrivals(60)
    began = asyncio.get_running_loop().time()
    insert_plainly(path, DRAFT)
    assert (await outbox.arrivals(60)).pending == {ACME}
    assert asyncio.get_running_loop().time() - began > 0.2


async def test_one_poll_that_had_to_wait_does_not_delay_the_next_one(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load a poll waits for the interpreter; only where polls are expensive they become rarer."""
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    await outbox.arrivals(60)
    monkeypatch.setattr(tenants, "notification", after(partial(time.sleep, 1.0), tenants.notification))
    insert_plainly(path, DRAFT)
    await outbox.arrivals(60)
    began = asyncio.get_running_loop().time()
    insert_plainly(path, replace(DRAFT, message_id=MessageId("another")))
    await outbox.arrivals(60)
    assert asyncio.get_running_loop().time() - began < 10, "not the 20 s that follow an expensive poll"


async def test_an_expensive_poll_does_not_delay_the_next_one_beyond_the_callers_limit(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = await opened(tmp_path / "relay.db")
    monkeypatch.setattr(
        tenants, "notification", after(partial(toil, 1.0), tenants.notification)
    )  # then 20 s of rest
    await outbox.arrivals(0)
    async with asyncio.timeout(15):
        await outbox.arrivals(0.01)


def toil(seconds: float) -> None:
    """Not a sleep: CPU time is spent."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def after(
    first: Callable[[], None], notification: Callable[[Connection], Notification]
) -> Callable[[Connection], Notification]:
    def poll(connection: Connection) -> Notification:
        first()
        return notification(connection)

    return poll


# --- PostgreSQL -----------------------------------------------------------------------------------


async def test_an_insert_notifies_once_a_transaction_and_not_at_all_where_it_is_switched_off(
    postgres: Cluster, url: str
) -> None:
    heard: list[str] = []
    statement = "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('ACME_PRD', 'D', 'x'), ('B', 'D', 'x')"
    async with connected(url) as listener, connected(url) as producer:
        await listener.add_listener("relay_outbox", lambda *about: heard.append(about[3]))
        async with producer.transaction():
            await producer.execute("SET LOCAL relay.notify = off")
            await producer.execute(statement)
        async with producer.transaction():
            await producer.execute(statement)
            await producer.execute(statement)
        await producer.execute("NOTIFY relay_outbox, 'end'")
        async with asyncio.timeout(PATIENCE):
            while "end" not in heard:
                await listener.execute("SELECT 1")
    assert heard == ["", "end"]


async def test_without_notify_it_polls(url: str, opened_there: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_watch, "POLL_SECONDS", 0.02)
    outbox = await opened_there(url, notify=False)
    await outbox.arrivals(0)
    async with connected(url) as connection:
        await connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('ACME_PRD', 'D', 'x')"
        )
    async with asyncio.timeout(PATIENCE):
        assert (await outbox.arrivals(3600)).pending == {ACME}
    assert outbox.mode == "poll"


async def test_where_notifications_are_switched_off_in_the_database_it_does_not_wait_for_any(
    url: str, opened_there: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It listens, does not even receive its own notification, and continues to poll often."""
    monkeypatch.setattr(change_watch, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(change_watch, "_REST_SECONDS", 0.01)
    async with connected(url) as connection:
        name = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"ALTER DATABASE {name} SET relay.notify = off")
        outbox = await opened_there(url)
        await outbox.arrivals(0.5)
        assert outbox.mode == "poll"
        await connection.execute(f"ALTER DATABASE {name} RESET relay.notify")
        await connection.execute(TERMINATE)
    await in_the_end(lambda: listening(outbox))


@pytest.mark.parametrize(("slow", "rests"), [("one", False), ("all", True)])
async def test_after_a_poll_none_follows_for_a_few_times_as_long_as_the_quickest_poll_took(
    url: str, opened_there: Open, monkeypatch: pytest.MonkeyPatch, slow: str, rests: bool
) -> None:
    """One that waited for this process' own loop delays nothing; where all take 0.2 s, it rests for a second."""
    outbox, now = await opened_there(url), asyncio.get_running_loop().time
    usual = postgres_tenants.notification

    async def slowly(session: StoreConnection) -> Notification:
        await asyncio.sleep(0.2)
        return await usual(session)

    if slow == "one":
        await outbox.notification()
    monkeypatch.setattr(postgres_tenants, "notification", slowly)
    await outbox.notification()
    monkeypatch.setattr(postgres_tenants, "notification", usual)
    began = now()
    await outbox.arrivals(30)  # the first one returns as soon as it may poll
    assert (now() - began >= 0.9) == rests


async def test_after_the_listening_connection_was_lost_it_listens_again_and_polls_first(
    url: str, opened_there: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watch, "_REST_SECONDS", 0.01)
    outbox = await opened_there(url)
    await listening(outbox)
    async with connected(url) as connection:
        await connection.execute(TERMINATE)
    await until(mode_of(outbox), lambda mode: mode == "poll", PATIENCE)
    await in_the_end(lambda: listening(outbox))
