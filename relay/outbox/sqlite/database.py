"""A SQLite file in use: one thread that writes, one that reads, each with its own connection.

A connection whose error may last is closed; the next call opens a new one, so that the relay resumes
automatically once the cause is fixed.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import update_wrapper
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from relay.core.ports import CALL_SECONDS, StoreError
from relay.outbox.payload_digest import sha256
from relay.outbox.sqlite import errors, schema
from relay.outbox.sqlite.file_lock import FileId, FileLock, file_id
from relay.outbox.sqlite.identity import StoreIdentity

_MODE = 0o660
_CLOSE_SECONDS = errors.LOCK_SECONDS + 1
_JOURNAL_BYTES = 64 * 1024 * 1024  # a write-ahead log that grew in a burst shrinks to this

P = ParamSpec("P")
T = TypeVar("T")
Connect = Callable[[Path], sqlite3.Connection]
Transaction = Callable[[sqlite3.Connection], AbstractContextManager[None]]


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """A connection as the relay uses it everywhere: durable, patient, without hidden transactions.

    A new file is for its owner and its group, as far as the umask admits; SQLite would make it readable for
    all, and gives the files beside it the rights of the first.
    """
    if create:
        with contextlib.suppress(
            OSError
        ):  # it is there already; or what is wrong is reported when it is opened
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
    return prepare(path, f"mode={'rwc' if create else 'rw'}")


def prepare(path: Path, options: str) -> sqlite3.Connection:
    """The same with these options in SQLite's URI."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=errors.LOCK_SECONDS,
        isolation_level=None,
    )
    try:
        _set_up(connection)
    except BaseException:
        connection.close()  # at once: it has locks on the file
        raise
    return connection


def _set_up(connection: sqlite3.Connection) -> None:
    # Text that is not UTF-8 (a producer in C can write it) must not make a tenant's rows unreadable.
    connection.text_factory = _as_read
    connection.create_function("as_read", 1, _as_read, deterministic=True)
    connection.create_function("sha256", 1, sha256, deterministic=True)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")  # a purged payload leaves the file too
    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")


def _as_read(data: bytes) -> str:
    return str(data, "utf-8", "replace")


class Channel:
    """One thread and its connection. Every call is one transaction, in the order of the calls."""

    def __init__(
        self, path: Path, name: str, transaction: Transaction, connect: Connect, lock: FileLock | None
    ) -> None:
        self._path, self._connect, self._lock = path, connect, lock
        self._transaction = transaction
        self._executor = ThreadPoolExecutor(1, name)
        self._connection: sqlite3.Connection | None = None
        self._opened: FileId | None = None
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it in the channel's thread, in a transaction. Raises StoreError; then nothing was stored."""
        return await self._within(lambda: self._transact(work))

    async def outside(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same outside of a transaction, for the few statements that need that."""
        return await self._within(lambda: self._perform(work))

    async def close(self) -> None:
        """After the running calls. A statement that does not end is interrupted, as in a trigger of others.

        A thread that a hanging disk holds is left behind.
        """
        if self._closed:
            return
        self._closed = True
        patience = asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self._interrupt)
        try:
            await self._within(self._disconnect)
        except StoreError:
            self._executor.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            patience.cancel()
        self._executor.shutdown()

    def _interrupt(self) -> None:
        """End the running statement; nothing of its transaction is stored."""
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # it was closed at this very moment
                connection.interrupt()

    async def _within(self, job: Callable[[], T]) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._executor, job)
        except RuntimeError as error:
            raise StoreError(f"the outbox {self._path} is closed", lasting=True) from error
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await future
        except TimeoutError as error:
            self._interrupt()
            raise StoreError(
                f"the outbox {self._path} did not answer within {CALL_SECONDS:g} s; check the file system "
                "under it, and triggers that applications added; what was being written may be stored",
                answer_lost=True,
            ) from error

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._get_connection()
            with self._transaction(connection):
                result = work(connection)
        except sqlite3.Error as error:
            self._roll_back(reconnect=errors.ends_connection(error))
            raise errors.explain(error, self._path) from error
        except UnicodeEncodeError as error:
            self._roll_back(reconnect=False)
            raise errors.no_text(self._path) from error
        except BaseException:
            self._roll_back(reconnect=False)
            raise
        self._require_same_file()  # it may have gone between the check before and the commit
        return result

    def _perform(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._get_connection())
        except sqlite3.Error as error:
            self._roll_back(reconnect=errors.ends_connection(error))
            raise errors.explain(error, self._path) from error

    def _get_connection(self) -> sqlite3.Connection:
        if self._connection is not None:
            self._require_same_file()
            return self._connection
        opened = file_id(self._path)
        if opened is None and os.path.isdir(self._path.parent):  # noqa: PTH112  # raises nothing
            raise errors.missing_file(self._path)
        if self._lock is not None:
            self._lock.follow()  # the lock goes with the file, if that was replaced
        connection = self._connect(self._path)
        try:
            schema.verify(connection, self._path)
        except BaseException:
            connection.close()
            raise
        self._connection, self._opened = connection, opened
        return connection

    def _require_same_file(self) -> None:
        if file_id(self._path) != self._opened:
            self._disconnect()
            raise errors.replaced(self._path)

    def _roll_back(self, *, reconnect: bool) -> None:
        if self._connection is None:
            return
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            reconnect = True
        if reconnect:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # the last one of a file also writes the log back and removes it


class Database:
    """The file's two channels."""

    def __init__(
        self,
        path: Path,
        identity: StoreIdentity,
        connect: Connect = connect,
        lock: FileLock | None = None,
    ) -> None:
        self.path = path
        self._writer = Channel(path, "outbox-writer", identity.writing, connect, lock)
        self._reader = Channel(path, "outbox-reader", identity.reading, connect, lock)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """One durable transaction."""
        return await self._writer.run(work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """One snapshot."""
        return await self._reader.run(work)

    async def outside(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """A statement that must not be within a transaction."""
        return await self._writer.outside(work)

    async def close(self) -> None:
        """The reader first, so that the writer can write the log back."""
        try:
            await self._reader.close()
        finally:
            await self._writer.close()


class HasDatabase(Protocol):
    """A store: its methods are transactions on this database."""

    _database: Database


Query = Callable[Concatenate[sqlite3.Connection, P], T]
Method = Callable[Concatenate[HasDatabase, P], Coroutine[Any, Any, T]]


def reading(query: Query[P, T]) -> Method[P, T]:
    """The query as a method of a store: one snapshot."""

    async def method(store: HasDatabase, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store._database.read(lambda connection: query(connection, *args, **kwargs))  # noqa: SLF001

    update_wrapper(method, query)
    return method


def writing(query: Query[P, T]) -> Method[P, T]:
    """The same for a query that writes: one durable transaction."""

    async def method(store: HasDatabase, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store._database.write(lambda connection: query(connection, *args, **kwargs))  # noqa: SLF001

    update_wrapper(method, query)
    return method
