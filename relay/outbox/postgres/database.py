"""A PostgreSQL database in use: a few connections that keep no state between two calls.

A connection that failed is closed; the next call opens a new one, so that the relay resumes automatically
once the cause is fixed.
"""

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from relay.core.ports import CALL_SECONDS, StoreError
from relay.outbox.database_url import database_url_problem
from relay.outbox.location import shown
from relay.outbox.postgres import errors
from relay.outbox.postgres.connection import Connection, StoreConnection
from relay.outbox.postgres.errors import DRIVER_ERRORS
from relay.outbox.postgres.hosts import each_host
from relay.outbox.postgres.instants import decode_all_instants
from relay.outbox.postgres.logins import Logins
from relay.outbox.postgres.table_names import TableNames

CONNECTIONS = 4
"""Of a relay, at most; and one more that listens."""

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 2.0

_TRIES = 3  # of a transaction that fails with a passing error

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PostgresLocation:
    """Which database, and what the tables are called there. `where`: the URL as it may be shown.

    `accept`: raises StoreError where this server is not to be used.
    """

    url: str
    where: str
    names: TableNames
    logins: Logins = field(default_factory=Logins, compare=False, repr=False)
    accept: Callable[[Connection], Awaitable[None]] | None = None

    async def connect(self) -> Connection:
        """A bare connection that can write, with the credentials as they are now. Raises StoreError."""
        return await self.logins.attempt(self._connect_to_any)

    async def _connect_to_any(self) -> Connection:
        """To the first host that grants one.

        Each host has its share of the time: a primary that fell silent must not hide what took its place.
        """
        url = self.logins.read_url() or self.url
        problem = database_url_problem(url, os.environ)
        if problem is not None:
            raise errors.unreadable_url(self.where, problem)
        try:
            urls = each_host(url)
        except ValueError:
            raise errors.unreadable_url(self.where) from None
        failed: list[StoreError] = []
        for url in urls:
            try:
                return await self._accepted(await self._connect(url, CONNECT_SECONDS / len(urls)))
            except StoreError as error:
                failed.append(error)
        raise errors.of_all_hosts(failed)

    async def _accepted(self, connection: Connection) -> Connection:
        if self.accept is not None:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self.accept(connection)
            except BaseException as error:
                await close_connection(connection)
                if isinstance(error, (OSError, *DRIVER_ERRORS)):
                    raise errors.explain(error, self.where) from error
                raise
        return connection

    async def _connect(self, url: str, seconds: float) -> Connection:
        try:
            async with asyncio.timeout(seconds):
                return await asyncpg.connect(
                    url,
                    statement_cache_size=0,  # what may be kept is found out once it is open: connection.py
                    server_settings={"application_name": "ion-relay"},
                    target_session_attrs=SessionAttribute.read_write,
                )
        except TimeoutError as error:
            raise errors.silent(shown(url), seconds) from error
        except (ValueError, KeyError, AttributeError):
            raise errors.unreadable_url(shown(url)) from None
        except (OSError, *DRIVER_ERRORS) as error:
            raise errors.explain_login(error, shown(url)) from error


Work: TypeAlias = Callable[[StoreConnection], Awaitable[T]]


class Database:
    """Some connections. Every call is bounded; every failure is a StoreError."""

    def __init__(
        self, location: PostgresLocation, verify: Callable[[StoreConnection], Awaitable[None]]
    ) -> None:
        self.location = location
        self._verify = verify
        self._free: dict[StoreConnection, float] = {}
        """Since when, in the loop's time."""
        self._generation = 0
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._closing: set[asyncio.Task[None]] = set()
        self._calls = 0
        self._no_calls = asyncio.Event()
        self._no_calls.set()
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
        """After the running calls."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALL_SECONDS + CLOSE_SECONDS):
                await self._no_calls.wait()
        self._close_idle()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _call(self, work: Work[T]) -> T:
        if self._closed:
            raise errors.closed(self.location.where)
        self._calls += 1
        self._no_calls.clear()
        began = self._now()
        try:
            async with asyncio.timeout(CALL_SECONDS), self._room:
                return await self._run_with_retries(work)
        except TimeoutError as error:
            # The server may have fallen silent on all connections that were idle since then.
            self._close_idle(before=began)
            raise errors.explain_call(error, self.location.where) from error
        finally:
            self._calls -= 1
            if not self._calls:
                self._no_calls.set()

    async def _run_with_retries(self, work: Work[T]) -> T:
        for last in (False,) * (_TRIES - 1) + (True,):
            try:
                async with self._session() as session:
                    return await work(session)
            except (OSError, *DRIVER_ERRORS) as error:
                if last or not errors.is_passing(error):
                    raise errors.explain_call(error, self.location.where) from error
        raise AssertionError

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[StoreConnection]:
        session = await self._obtain()
        generation = self._generation
        try:
            yield session
        except BaseException as error:
            if errors.is_lost_statement(error):
                session.keep_nothing()
            if errors.spares_connection(error):
                self._put_back(session, generation)
            else:
                self._close_later(session)
                if isinstance(error, Exception):
                    self._close_idle()  # what ended one connection has mostly ended all
            raise
        self._put_back(session, generation)

    async def _obtain(self) -> StoreConnection:
        """An idle one, or a new one. What it was opened with may be revoked once it was replaced.

        So an older one is replaced by one with the new credentials, and continues only until those work.
        """
        idle, credentials = self._take_idle(), self.location.logins.credentials
        if idle is None:
            return await self._open(credentials)
        if idle.credentials == credentials:
            return idle
        try:
            opened = await self._open(credentials)
        except (StoreError, OSError, *DRIVER_ERRORS):
            idle.credentials = credentials  # not tried again before they are replaced once more
            return idle
        except BaseException:
            self._close_later(idle)
            raise
        self._close_later(idle)
        return opened

    def _take_idle(self) -> StoreConnection | None:
        while self._free:
            session, _ = self._free.popitem()
            if not session.connection.is_closed():
                return session
        return None

    async def _open(self, credentials: Hashable) -> StoreConnection:
        location = self.location
        session = StoreConnection(await location.connect(), location.names, location.where, credentials)
        try:
            await decode_all_instants(session.connection)
            await self._verify(session)
            await session.keep_statements()
        except BaseException:
            self._close_later(session)
            raise
        return session

    def reconnect(self) -> None:
        """Use none of the connections that are open now for a further call."""
        self._generation += 1
        self._close_idle()

    def _put_back(self, session: StoreConnection, generation: int) -> None:
        is_outdated = generation != self._generation
        if is_outdated or session.connection.is_closed() or session.connection.is_in_transaction():
            self._close_later(session)
        else:
            self._free[session] = self._now()

    def _close_idle(self, before: float = math.inf) -> None:
        """From those that are idle since before that."""
        for session in [one for one, since in self._free.items() if since < before]:
            del self._free[session]
            self._close_later(session)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _close_later(self, session: StoreConnection) -> None:
        """In the background: a server that does not answer holds up nobody."""
        closing = asyncio.get_running_loop().create_task(close_connection(session.connection))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def close_connection(connection: Connection) -> None:
    """A running statement is cancelled on the server, lest it holds locks there."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()
    except (OSError, *DRIVER_ERRORS):
        connection.terminate()


class HasDatabase(Protocol):
    """A store: its methods are transactions on this database."""

    _database: Database


Query = Callable[Concatenate[StoreConnection, P], Awaitable[T]]
Method = Callable[Concatenate[HasDatabase, P], Coroutine[Any, Any, T]]


def reading(query: Query[P, T]) -> Method[P, T]:
    """The query as a method of a store, without a transaction around."""

    async def method(store: HasDatabase, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store._database.read(lambda session: query(session, *args, **kwargs))  # noqa: SLF001

    update_wrapper(method, query)
    return method


def writing(query: Query[P, T]) -> Method[P, T]:
    """The same for a query that writes: one transaction."""

    async def method(store: HasDatabase, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store._database.write(lambda session: query(session, *args, **kwargs))  # noqa: SLF001

    update_wrapper(method, query)
    return method
