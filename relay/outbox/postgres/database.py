"""This file is a PostgreSQL database in use: a few connections that nothing is expected of between two calls.

A connection that failed is let go; the next call opens a new one, so that the relay goes on by itself once
the cause is mended.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from relay.core.ports import CALL_SECONDS, StoreError
from relay.outbox.postgres import errors
from relay.outbox.postgres.connection import Connection, StoreConnection
from relay.outbox.postgres.errors import DRIVER_ERRORS
from relay.outbox.postgres.hosts import each_host
from relay.outbox.postgres.table_names import TableNames

CONNECTIONS = 4
"""At most so many a relay, and one more that listens."""

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 2.0

_TRIES = 3  # of a transaction that met what passes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Which database, and what the tables are called there. `where`: the URL as it may be shown."""

    url: str
    where: str
    names: TableNames

    async def connect(self) -> Connection:
        """A bare connection that can write, to the first host that grants one. Raises StoreError.

        Each host has its share of the time: a primary that fell silent must not hide what took its place.
        """
        try:
            urls = each_host(self.url)
        except ValueError:
            raise errors.unreadable_url(self.where) from None
        failed: list[StoreError] = []
        for url in urls:
            try:
                return await self._connect(url, CONNECT_SECONDS / len(urls))
            except StoreError as error:
                if error.lasting:
                    raise
                failed.append(error)
        raise next((error for error in failed if not errors.is_of_a_standby(error)), failed[0])

    async def _connect(self, url: str, seconds: float) -> Connection:
        try:
            async with asyncio.timeout(seconds):
                return await asyncpg.connect(
                    url,
                    statement_cache_size=0,  # what may be kept is found out once it stands: session.py
                    server_settings={"application_name": "ion-relay"},
                    target_session_attrs=SessionAttribute.read_write,
                )
        except TimeoutError as error:
            raise errors.silent(self.where, seconds) from error
        except (ValueError, KeyError, AttributeError):
            raise errors.unreadable_url(self.where) from None
        except (OSError, *DRIVER_ERRORS) as error:
            raise errors.explain(error, self.where) from error


Work: TypeAlias = Callable[[StoreConnection], Awaitable[T]]


class Database:
    """Some connections. Every call is bounded; every failure is a StoreError."""

    def __init__(self, place: Place, verify: Callable[[StoreConnection], Awaitable[None]]) -> None:
        self.place = place
        self._verify = verify
        self._free: dict[StoreConnection, float] = {}
        """Since when, in the loop's time."""
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._partings: set[asyncio.Task[None]] = set()
        self._calls = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closed = False

    async def read(self, work: Work[T]) -> T:
        """Without a transaction around: each statement sees what is committed when it begins."""
        return await self._call(work)

    async def write(self, work: Work[T]) -> T:
        """One transaction, tried again where it collided with another one."""

        async def transacted(session: StoreConnection) -> T:
            async with session.transaction():
                return await work(session)

        return await self._call(transacted)

    async def close(self) -> None:
        """After the calls under way."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALL_SECONDS + CLOSE_SECONDS):
                await self._quiet.wait()
        self._part_from_idle()
        if self._partings:
            await asyncio.wait(self._partings)

    async def _call(self, work: Work[T]) -> T:
        if self._closed:
            raise errors.closed(self.place.where)
        self._calls += 1
        self._quiet.clear()
        began = self._now()
        try:
            async with asyncio.timeout(CALL_SECONDS), self._room:
                return await self._tried(work)
        except TimeoutError as error:
            self._part_from_idle(
                before=began
            )  # the server may have fallen silent on all that were not heard since
            raise errors.explain(error, self.place.where) from error
        finally:
            self._calls -= 1
            if not self._calls:
                self._quiet.set()

    async def _tried(self, work: Work[T]) -> T:
        for last in (False,) * (_TRIES - 1) + (True,):
            try:
                async with self._session() as session:
                    return await work(session)
            except (OSError, *DRIVER_ERRORS) as error:
                if last or not errors.is_passing(error):
                    raise errors.explain(error, self.place.where) from error
        raise AssertionError

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[StoreConnection]:
        session = self._idle() or await self._opened()
        try:
            yield session
        except BaseException as error:
            if errors.is_lost_statement(error):
                session.keep_nothing()
            if errors.spares_connection(error):
                self._back(session)
            else:
                self._part(session)
                if isinstance(error, Exception):
                    self._part_from_idle()  # what ended one connection has mostly ended all
            raise
        self._back(session)

    def _idle(self) -> StoreConnection | None:
        while self._free:
            session, _ = self._free.popitem()
            if not session.connection.is_closed():
                return session
        return None

    async def _opened(self) -> StoreConnection:
        session = StoreConnection(await self.place.connect(), self.place.names)
        try:
            await self._verify(session)
            await session.keep_statements()
        except BaseException:
            self._part(session)
            raise
        return session

    def _back(self, session: StoreConnection) -> None:
        if session.connection.is_closed() or session.connection.is_in_transaction():
            self._part(session)
        else:
            self._free[session] = self._now()

    def _part_from_idle(self, before: float = math.inf) -> None:
        """From those that are idle since before that."""
        for session in [one for one, since in self._free.items() if since < before]:
            del self._free[session]
            self._part(session)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _part(self, session: StoreConnection) -> None:
        """Let go of it beside everything else: a server that does not answer holds up nobody."""
        parting = asyncio.get_running_loop().create_task(farewell(session.connection))
        self._partings.add(parting)
        parting.add_done_callback(self._partings.discard)


async def farewell(connection: Connection) -> None:
    """Let go of it. A statement under way is cancelled on the server, lest it holds locks there."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()
    except (OSError, *DRIVER_ERRORS):
        connection.terminate()
