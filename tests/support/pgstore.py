"""What tests of the outbox on PostgreSQL share: fill it, read it, wait for a fact."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from relay.core.model import DocumentName, Draft, Message, OrderingKey, TenantId
from relay.core.ports import StoreError
from relay.outbox.postgres import PostgresOutbox
from relay.outbox.postgres.leases import PostgresLeases
from tests.contract.stores import until

T = TypeVar("T")
Open = Callable[..., Awaitable[PostgresOutbox]]

ACME = TenantId("ACME_PRD")
ORDER = DocumentName("Sync.SalesOrder")
PATIENCE = 20.0


TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def draft(text: str = "x", key: str | None = None) -> Draft:
    return Draft(ACME, ORDER, text.encode(), ordering_key=None if key is None else OrderingKey(key))


async def messages(outbox: PostgresOutbox, limit: int = 100) -> list[Message]:
    return list(await outbox.due(ACME, {ORDER}, frozenset(), frozenset(), limit, 1_000_000))


async def texts(outbox: PostgresOutbox) -> list[str]:
    return [message.payload.decode() for message in await messages(outbox)]


async def in_the_end(call: Callable[[], Awaitable[T]]) -> T:
    """Try again until it works; a lasting error is none that waiting may help."""

    async def tried() -> T | StoreError:
        try:
            return await call()
        except StoreError as error:
            return error

    found = await until(tried, lambda found: not isinstance(found, StoreError) or found.lasting, PATIENCE)
    assert not isinstance(found, StoreError)
    return found


def leases_of(outbox: PostgresOutbox) -> PostgresLeases:
    assert outbox.leases is not None
    return outbox.leases


async def listening(outbox: PostgresOutbox) -> None:
    async with asyncio.timeout(PATIENCE):
        while outbox.mode != "notify":
            await outbox.arrivals(0.01)


def mode_of(outbox: PostgresOutbox) -> Callable[[], Awaitable[str]]:
    async def mode() -> str:
        return outbox.mode

    return mode


WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def waiting_are(connection: "asyncpg.Connection[asyncpg.Record]", many: int) -> None:
    """Until so many backends wait for a lock."""
    await until(lambda: connection.fetchval(WAITING), lambda found: found == many, PATIENCE)
