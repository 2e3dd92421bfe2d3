"""An outbox on PostgreSQL whose server fails, restarts, hangs or refuses: it resumes automatically."""

import asyncio
import contextlib
import signal
from typing import Self
from urllib.parse import urlsplit

import asyncpg
import pytest

from relay.core.model import Delivered, Parked
from relay.core.ports import StoreError
from relay.outbox import open_outbox, upgrade
from relay.outbox.postgres import PostgresOutbox, database, errors
from relay.outbox.postgres.connection import StoreConnection
from tests.contract.stores import until
from tests.support.pgstore import (
    PATIENCE,
    TERMINATE,
    Open,
    draft,
    in_the_end,
    listening,
    messages,
    texts,
    waiting_are,
)
from tests.support.postgres import Cluster, connected, own_server

# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        asyncpg.PostgresConnectionError,
        asyncpg.ClientCannotConnectError,
        asyncpg.ConnectionDoesNotExistError,
        asyncpg.ConnectionRejectionError,
        asyncpg.ConnectionFailureError,
        asyncpg.TransactionResolutionUnknownError,
        asyncpg.ProtocolViolationError,
    ],
)
def test_every_error_of_a_connection_is_said_to_be_one(kind: type[asyncpg.PostgresError]) -> None:
    """Class 08: the driver's own (08003, when the server went away in the middle), and a pooler's (08P01)."""
    told = errors.explain(kind("server closed the connection"), "db.example/app")
    assert str(told).startswith("the connection to the outbox db.example/app was lost or refused; check that")
    assert "resumes automatically (server closed the connection)" in str(told)
    assert not told.lasting


async def test_ids_that_are_used_up_are_said_to_be(url: str, opened_there: Open) -> None:
    outbox = await opened_there(url)
    async with connected(url) as connection:
        await connection.execute("SELECT setval('relay_outbox_id_seq', 9223372036854775807)")
    with pytest.raises(StoreError, match=r"its ids are used up: .* RESTART WITH"):
        await outbox.add([draft()])
    async with connected(url) as connection:
        await connection.execute("ALTER TABLE relay_outbox ALTER COLUMN id RESTART WITH 1")
    await outbox.add([draft()])


@pytest.mark.parametrize("mode", ["ACCESS EXCLUSIVE", "EXCLUSIVE", "SHARE"])
async def test_a_lock_that_keeps_writers_from_the_messages_is_no_outbox_that_may_be_written(
    url: str, opened_there: Open, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(database, "CALL_SECONDS", 0.3)
    outbox = await opened_there(url)
    await outbox.may_write()
    async with connected(url) as connection, connection.transaction():
        await connection.execute(f"LOCK TABLE relay_outbox IN {mode} MODE")
        with pytest.raises(StoreError, match="did not answer"):
            await outbox.may_write()
    await in_the_end(outbox.may_write)


# --- failures -------------------------------------------------------------------------------------


async def test_after_all_backends_were_ended_the_next_calls_work(url: str, opened_there: Open) -> None:
    outbox = await opened_there(url)
    await asyncio.gather(*(outbox.add([draft(f"{i}")]) for i in range(8)))
    async with connected(url) as connection:
        await connection.execute(TERMINATE)
    assert len(await in_the_end(lambda: messages(outbox))) == 8
    assert len(await messages(outbox)) == 8


async def test_a_backend_killed_in_the_middle_of_a_settlement_settles_nothing_of_it(
    url: str, opened_there: Open
) -> None:
    outbox = await opened_there(url)
    await outbox.add([draft("a"), draft("b")])
    first, second = await messages(outbox)
    async with connected(url) as connection, connection.transaction():
        await connection.execute("SELECT FROM relay_outbox WHERE id = $1 FOR UPDATE", second.row)
        settling = asyncio.create_task(outbox.settle([(first.key, Delivered()), (second.key, Parked("no"))]))
        await waiting_are(connection, 1)
        await connection.execute(TERMINATE)
        with pytest.raises(StoreError) as caught:
            await settling
        assert not caught.value.lasting
    assert await texts(outbox) == ["a", "b"]
    await outbox.settle([(first.key, Delivered()), (second.key, Parked("no"))])
    assert await texts(outbox) == []


async def test_a_row_locked_by_an_application_ends_the_call_in_time_and_leaves_nobody_waiting(
    url: str, opened_there: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CALL_SECONDS", 0.3)
    outbox = await opened_there(url)
    await outbox.add([draft()])
    (message,) = await messages(outbox)
    async with connected(url) as connection:
        async with connection.transaction():
            await connection.execute("SELECT FROM relay_outbox FOR UPDATE")
            with pytest.raises(StoreError, match="holds locks") as caught:
                await outbox.settle([(message.key, Delivered())])
            assert not caught.value.lasting
            await waiting_are(connection, 0)
        assert await texts(outbox) == ["x"]
    monkeypatch.setattr(database, "CALL_SECONDS", 30.0)
    await outbox.settle([(message.key, Delivered())])
    assert await texts(outbox) == []


async def test_transactions_that_lock_each_other_out_are_retried(url: str, opened_there: Open) -> None:
    outbox = await opened_there(url)
    await outbox.add([draft("a"), draft("b")])
    first, second = await messages(outbox)
    lock = "SELECT FROM relay_outbox WHERE id = $1 FOR UPDATE"
    async with connected(url) as connection:
        await connection.execute(
            "SET deadlock_timeout = '60s'"
        )  # so that the relay's side is the one to give way
        async with connection.transaction():
            await connection.execute(lock, second.row)
            settling = asyncio.create_task(
                outbox.settle([(first.key, Delivered()), (second.key, Delivered())])
            )
            await waiting_are(connection, 1)
            await connection.execute(lock, first.row)
    await settling
    assert await texts(outbox) == []


async def test_a_failed_statement_costs_no_connection(url: str, opened_there: Open) -> None:
    outbox = await opened_there(url)

    async def wrong(session: StoreConnection) -> None:
        await session.execute("SELECT 1 / 0")

    async with connected(url) as connection:
        count = (
            "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE application_name = 'ion-relay'"
        )
        before = await connection.fetchval(count)
        for work in (outbox._database.read, outbox._database.write):
            with pytest.raises(StoreError, match="division by zero"):
                await work(wrong)
        assert await connection.fetchval(count) == before


async def test_never_more_connections_than_documented(url: str, opened_there: Open) -> None:
    outbox = await opened_there(url)
    await asyncio.gather(*(outbox.add([draft()]) for _ in range(40)))
    async with connected(url) as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ion-relay' AND datname = current_database()"
        assert 1 <= await connection.fetchval(count) <= database.CONNECTIONS


async def test_a_role_that_lacks_a_right_is_reported(postgres: Cluster, url: str) -> None:
    name = await postgres.role("nothing")
    base = url.rpartition("/")[2]
    try:
        with pytest.raises(StoreError, match=r"docs/postgres\.md") as caught:
            await open_outbox(postgres.url_of(base, name))
        assert caught.value.lasting
    finally:
        await postgres.drop_role(name, base)


async def test_over_crashes_restarts_and_a_read_only_time_it_resumes_automatically(
    opened_there: Open,
) -> None:
    """A server of its own: killed hard, stopped in good order, full, made read-only, and back."""
    with own_server() as server:
        await asyncio.to_thread(upgrade, server.url)
        outbox = await opened_there(server.url)
        await outbox.add([draft()])
        await listening(outbox)
        for how in (signal.SIGQUIT, signal.SIGINT):
            await asyncio.to_thread(server.stop, how)
            with pytest.raises(StoreError) as caught:
                await messages(outbox)
            assert not caught.value.lasting
            await asyncio.to_thread(server.start)
            assert len(await in_the_end(lambda: messages(outbox))) == 1
        (message,) = await messages(outbox)
        async with connected(server.url) as connection:
            await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            await connection.execute("SELECT pg_reload_conf()")
            with pytest.raises(StoreError, match="name the primary") as caught:
                await until(lambda: outbox.settle([(message.key, Parked("no"))]), lambda _: False, PATIENCE)
            assert not caught.value.lasting
            with pytest.raises(StoreError, match="name the primary"):
                await open_outbox(server.url)
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute("ALTER SYSTEM RESET ALL")
            await connection.execute("SELECT pg_reload_conf()")
        await in_the_end(lambda: outbox.settle([(message.key, Delivered())]))
        await outbox.close()


async def test_too_many_connections_are_waited_out(opened_there: Open) -> None:
    with own_server(max_connections="5", superuser_reserved_connections="0") as server:
        await asyncio.to_thread(upgrade, server.url)
        taken = [await asyncpg.connect(server.url) for _ in range(5)]
        with pytest.raises(StoreError, match="max_connections") as caught:
            await open_outbox(server.url)
        assert not caught.value.lasting
        for connection in taken:
            await connection.close()
        outbox = await in_the_end(lambda: opened_there(server.url))
        assert await texts(outbox) == []
        await outbox.close()


async def test_close_ends_in_time_with_the_database_hanging(
    url: str, opened_there: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CALL_SECONDS", 0.2)
    outbox = await opened_there(url)
    await outbox.add([draft()])
    (message,) = await messages(outbox)
    async with connected(url) as connection, connection.transaction():
        await connection.execute("SELECT FROM relay_outbox FOR UPDATE")
        settling = asyncio.create_task(outbox.settle([(message.key, Delivered())]))
        await waiting_are(connection, 1)
        async with asyncio.timeout(PATIENCE):
            await outbox.close()
        with pytest.raises(StoreError):
            await settling


class Silence:
    """A way to the server that goes silent on order: nothing is refused, nothing is answered."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._open.set()
        for writer in self._writers:
            writer.transport.abort()

    def begin(self) -> None:
        self._open.clear()

    def end(self) -> None:
        self._open.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, there}
        await asyncio.gather(self._one_way(reader, there), self._one_way(there_reader, writer))

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
        writer.close()


async def test_a_network_that_goes_silent_ends_every_call_in_time_and_close_too(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"CALL_SECONDS": 0.3, "CONNECT_SECONDS": 0.3, "CLOSE_SECONDS": 0.1}.items():
        monkeypatch.setattr(database, name, seconds)
    place = urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    async with Silence(place.hostname, place.port) as way:
        outbox = await open_outbox(url.replace(f":{place.port}", f":{way.port}"))
        assert isinstance(outbox, PostgresOutbox)
        await outbox.add([draft()])
        await listening(outbox)
        way.begin()
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):  # on the connection that was there, and on a new one
                with pytest.raises(StoreError, match="did not answer") as caught:
                    await texts(outbox)
                assert not caught.value.lasting
        way.end()
        assert await in_the_end(lambda: texts(outbox)) == ["x"]
        way.begin()
        async with asyncio.timeout(PATIENCE):
            await outbox.close()
