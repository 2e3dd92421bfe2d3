"""The queue of notifications: a session that listens and does not read must not fail an application's INSERT."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.contract.stores import until
from tests.support.pgstore import PATIENCE, Open, draft, listening
from tests.support.postgres import Server, connected, server_with_small_queue

INSERTS = 20_000

INSERT_EACH_IN_A_TRANSACTION = """
DO $$ BEGIN
    FOR n IN 1..{} LOOP
        INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('ACME_PRD', 'Sync.SalesOrder', 'x');
        COMMIT;
    END LOOP;
END $$
"""

FLOOD = """
DO $$ BEGIN
    FOR n IN 1..2000 LOOP
        PERFORM pg_notify('relay_outbox', repeat('x', 7000));
        COMMIT;
    END LOOP;
END $$
"""

USED = "SELECT pg_notification_queue_usage()"
RELAYS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ion-relay' AND query ILIKE 'LISTEN%'"
)

LISTENER = """
import asyncio, sys
from relay.outbox import open_outbox
from relay.outbox.postgres import change_watch

change_watch.UNREAD_SECONDS = float(sys.argv[2])

async def main():
    outbox = await open_outbox(sys.argv[1])
    while True:
        await outbox.arrivals(0.05)
        print(outbox.mode, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with server_with_small_queue() as one:
        yield one


@contextlib.contextmanager
def frozen_relay(url: str, unread_seconds: float = 30.0) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens as a relay does, and then is stopped as by a debugger or a full host."""
    code = [sys.executable, "-c", LISTENER, url, str(unread_seconds)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        try:
            assert process.stdout is not None
            assert b"notify\n" in iter(process.stdout.readline, b"")
            process.send_signal(signal.SIGSTOP)
            yield process
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def busy_listener(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Another program's session that listens, and keeps a transaction open: it reads nothing meanwhile."""
    async with connected(url) as connection:
        await connection.execute("LISTEN anything")
        await connection.execute("BEGIN")
        yield connection


async def test_20_000_inserts_go_through_while_a_relay_is_frozen(server: Server) -> None:
    """Through a socket of the machine: there the server cannot end the session by the network's means."""
    with frozen_relay(f"postgresql://postgres@/postgres?host={server.folder}&port={server.port}"):
        async with connected(server.url) as connection:
            await connection.execute(INSERT_EACH_IN_A_TRANSACTION.format(INSERTS))
            assert await connection.fetchval("SELECT count(*) FROM relay_outbox") == INSERTS
            assert await connection.fetchval(USED) >= 0.4  # so it was the guard that let them through


async def test_a_full_queue_fails_no_insert_nor_what_operators_do(server: Server, opened_there: Open) -> None:
    """Filled by others; what others notify fails then, as PostgreSQL documents."""
    outbox = await opened_there(server.url)
    async with busy_listener(server.url) as busy, connected(server.url) as connection:
        with pytest.raises(asyncpg.PostgresError, match="too many notifications"):
            await connection.execute(FLOOD)
        await connection.execute(INSERT_EACH_IN_A_TRANSACTION.format(10))
        await outbox.add([draft()])
        await outbox.pause(draft().tenant_id, "holidays")
        (incident,) = await outbox.incidents()
        assert incident.kind == "notifications"
        assert "the server's queue of notifications is 100% full" in incident.detail
        assert await outbox.notification_queue() == 1
        await busy.execute("COMMIT")
        await until(outbox.incidents, lambda found: not found, PATIENCE)
        assert await outbox.notification_queue() == 0


async def test_a_relay_that_cannot_be_notified_polls_and_is_notified_again_afterwards(
    server: Server, opened_there: Open
) -> None:
    outbox = await opened_there(server.url)
    async with busy_listener(server.url) as busy, connected(server.url) as connection:
        with pytest.raises(asyncpg.PostgresError, match="too many notifications"):
            await connection.execute(FLOOD)
        await connection.execute(INSERT_EACH_IN_A_TRANSACTION.format(1))
        assert (await outbox.arrivals(PATIENCE)).pending
        assert outbox.mode == "poll"
        await busy.execute("COMMIT")
        await listening(outbox)


async def test_the_server_ends_a_listening_session_whose_relay_does_not_read(
    url: str, opened_there: Open
) -> None:
    """Over the network: its buffers are full, and the other end takes nothing for the given time."""
    with frozen_relay(url, unread_seconds=1.0) as frozen:
        async with connected(url) as connection:
            assert await connection.fetchval(RELAYS) == 1
            await connection.execute(FLOOD)
            await until(lambda: connection.fetchval(RELAYS), lambda found: found == 0, PATIENCE)
            await until(lambda: connection.fetchval(USED), lambda used: used == 0, PATIENCE)
            frozen.send_signal(signal.SIGCONT)  # it listens anew
            await until(lambda: connection.fetchval(RELAYS), lambda found: found == 1, PATIENCE)


async def test_the_switch_in_the_database_sends_none(url: str, opened_there: Open) -> None:
    async with connected(url) as connection:
        heard: list[object] = []
        await connection.add_listener("relay_outbox", lambda *said: heard.append(said))
        for switch, count in (("on", 1), ("off", 1), ("on", 2)):
            await connection.execute(f"SET relay.notify = {switch}")
            await connection.execute(INSERT_EACH_IN_A_TRANSACTION.format(1))
            await connection.execute("SELECT 1")
            assert len(heard) == count


async def test_the_function_that_writes_with_its_owners_rights_finds_its_tables_in_their_schema(
    url: str,
) -> None:
    """What replaces a function takes away its settings; they are given again."""
    async with connected(url) as connection:
        settings = await connection.fetch(
            "SELECT proname, proconfig FROM pg_proc WHERE prosecdef AND proname LIKE 'relay_outbox_%'"
        )
    assert {name for name, _ in settings} == {
        f"relay_outbox_{what}" for what in ("inserted", "updated", "deleted", "truncated")
    }
    for _, options in settings:
        assert options == ["search_path=pg_catalog, public, pg_temp"]
