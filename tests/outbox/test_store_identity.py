"""A store is its incarnation: a restored copy, another file, a promoted standby or new tables are noticed at once.

And nothing else is: neither commits of applications, nor restarts, nor a file that was moved away and back.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.core.model import Draft
from relay.core.ports import Store, StoreError
from relay.outbox import SqliteOutbox, upgrade
from relay.outbox.postgres import PostgresOutbox
from tests.contract.stores import insert_plainly, until
from tests.outbox.conftest import Opener
from tests.support.pgstore import ACME, ORDER, Open, draft, in_the_end, leases_of, texts
from tests.support.postgres import Cluster, Server, connected, followed, own_server, promote, standby


def reported(store: Store) -> list[str]:
    """The reasons of the changes from now on."""
    reasons: list[str] = []
    store.when_changed(reasons.append)
    return reasons


# --- SQLite -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def plain(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def back_up(path: Path, to: Path) -> None:
    """As the shell's `.backup`."""
    with plain(path) as source, plain(to) as target:
        source.backup(target)


def restore(path: Path, copy: Path) -> None:
    """As the shell's `.restore`: into the same file, while others have it open."""
    back_up(copy, path)


def put_in_its_place(path: Path, copy: Path) -> None:
    """Another file of the same name, without the two beside the old one."""
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    copy.replace(path)


async def waiting(outbox: SqliteOutbox) -> list[str]:
    found = await outbox.due(ACME, {ORDER}, frozenset(), frozenset(), 100, 1_000_000)
    return [message.payload.decode() for message in found]


@pytest.mark.parametrize("put_back", [restore, put_in_its_place])
async def test_a_copy_that_is_put_back_is_noticed_once(tmp_path: Path, opened: Opener, put_back) -> None:
    """By the next call that succeeds, whether it reads or writes; the new store is used from then on."""
    path, copy = tmp_path / "relay.db", tmp_path / "copy.db"
    outbox = await opened(path, exclusive=True)
    reasons = reported(outbox)
    await outbox.add([draft("before")])
    back_up(path, copy)
    await outbox.add([draft("after")])
    put_back(path, copy)
    assert await in_the_end(lambda: waiting(outbox)) == ["before"]
    assert reasons == ["the file holds another outbox, or an earlier copy of this one"]
    await in_the_end(lambda: outbox.add([draft("new")]))
    assert await waiting(outbox) == ["before", "new"]
    assert len(reasons) == 1


async def test_a_copy_that_is_put_back_is_noticed_by_a_write_too(tmp_path: Path, opened: Opener) -> None:
    """A settlement may be the first call; and what was noticed once is noticed again, with another copy."""
    path, copy = tmp_path / "relay.db", tmp_path / "copy.db"
    outbox = await opened(path, exclusive=True)
    reasons = reported(outbox)
    await outbox.may_write()
    back_up(path, copy)
    for times in (1, 2):
        await outbox.may_write()
        restore(path, copy)
        await outbox.may_write()
        assert len(reasons) == times


async def test_an_outbox_of_the_same_age_that_another_relay_used_is_another_store(
    tmp_path: Path, opened: Opener
) -> None:
    """As many writes, by other processes: the number alone would not show it."""
    path, other = tmp_path / "relay.db", tmp_path / "other.db"
    outbox, twin = await opened(path, exclusive=True), await opened(other, exclusive=True)
    reasons = reported(outbox)
    await outbox.may_write()
    await twin.may_write()
    await twin.close()
    restore(path, other)
    await waiting(outbox)
    assert len(reasons) == 1


async def test_what_applications_and_commands_do_is_no_change_of_the_store(
    tmp_path: Path, opened: Opener
) -> None:
    """Reads and writes at the same time, commits of others, a checkpoint, a file that is moved away and back."""
    path, away = tmp_path / "relay.db", tmp_path / "away.db"
    outbox, command = await opened(path, exclusive=True), await opened(path)
    reasons = reported(outbox)
    for number in range(50):
        insert_plainly(path, Draft(ACME, ORDER, f"{number}".encode()))
        await asyncio.gather(outbox.add([draft()]), waiting(outbox), command.add([draft()]), waiting(outbox))
    with plain(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.rename(away)
    with pytest.raises(StoreError, match="moved, deleted or replaced"):
        await outbox.may_write()
    away.rename(path)
    await in_the_end(outbox.may_write)
    await waiting(outbox)
    with pytest.raises(ZeroDivisionError):
        await outbox._database.write(lambda _: 1 / 0)  # rolled back: its number is not in the file
    await waiting(outbox)
    assert reasons == []


async def test_a_copy_from_before_an_upgrade_is_refused_by_its_version(
    tmp_path: Path, opened: Opener
) -> None:
    """Not with "lacks a table" for as long as the relay runs."""
    path, copy = tmp_path / "relay.db", tmp_path / "copy.db"
    outbox = await opened(path, exclusive=True)
    back_up(path, copy)
    with plain(copy) as connection:
        connection.executescript("DROP TABLE relay_identity; DELETE FROM relay_schema WHERE version > 3")
    restore(path, copy)
    with pytest.raises(StoreError):
        await outbox.may_write()
    with pytest.raises(StoreError, match="has schema version 3"):
        await outbox.may_write()


# --- PostgreSQL -------------------------------------------------------------------------------------


async def shared(outbox: PostgresOutbox) -> list[str]:
    """Its reasons, once it holds the tenant's lease."""
    await leases_of(outbox).renew()
    await leases_of(outbox).acquire([ACME])
    return reported(outbox)


async def test_a_promoted_standby_is_noticed_and_its_replaced_primary_refused(opened_there: Open) -> None:
    """The old primary comes back and accepts writes, and stands first in the URL: the newer one is used."""
    with own_server() as first:
        await asyncio.to_thread(upgrade, first.url)
        with standby(first) as second:
            hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
            outbox = await opened_there(f"postgresql://postgres@{hosts}/postgres")
            reasons = await shared(outbox)
            await outbox.add([draft("both have it")])
            await followed(first)
            await asyncio.to_thread(first.stop, signal.SIGQUIT)
            await promote(second)
            assert await in_the_end(lambda: texts(outbox)) == ["both have it"]
            assert len(reasons) == 1
            assert "on timeline 2, it was on 1" in reasons[0]
            await asyncio.to_thread(first.start)
            async with connected(second.url) as connection:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ion-relay'"
                )
            await in_the_end(lambda: outbox.add([draft("the new one has it")]))
            assert await texts(outbox) == ["both have it", "the new one has it"]
            await asyncio.to_thread(second.stop)
            with pytest.raises(StoreError, match="a primary that was replaced"):
                await in_the_end_of_connections(outbox)
            assert len(reasons) == 1


async def in_the_end_of_connections(outbox: PostgresOutbox) -> None:
    """Call until no connection is left that broke with the server; the next error is that of a new one."""
    for _ in range(6):
        with contextlib.suppress(StoreError):
            await outbox.may_write()
    await outbox.may_write()


async def test_a_restart_is_no_change_and_a_restored_copy_of_the_servers_files_is_one(
    tmp_path: Path, opened_there: Open
) -> None:
    """The copy continues on the same timeline, with the same tables: its position is earlier."""
    with own_server() as server:
        await asyncio.to_thread(upgrade, server.url)
        outbox = await opened_there(server.url)
        reasons = await shared(outbox)
        await outbox.add([draft("kept")])
        await asyncio.to_thread(server.restart, signal.SIGQUIT)
        assert await in_the_end(lambda: texts(outbox)) == ["kept"]
        assert reasons == []
        await asyncio.to_thread(server.stop)
        shutil.copytree(server.data, tmp_path / "copy", symlinks=True)
        await asyncio.to_thread(server.start)
        await in_the_end(lambda: leases_of(outbox).renew())
        await outbox.add([draft("lost")])
        await asyncio.to_thread(server.stop)
        put_back(server, tmp_path / "copy")
        await asyncio.to_thread(server.start)
        assert await in_the_end(lambda: texts(outbox)) == ["kept"]
        assert reasons == ["the outbox is an earlier copy of itself"]


def put_back(server: Server, copy: Path) -> None:
    """The files of the server, as they were."""
    owner = server.data.stat()
    shutil.rmtree(server.data)
    shutil.copytree(copy, server.data, symlinks=True)
    for path in [server.data, *server.data.rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)


async def test_tables_that_are_made_anew_are_another_store(
    postgres: Cluster, url: str, opened_there: Open
) -> None:
    """The database is dropped and created under the same name."""
    name = url.rpartition("/")[2]
    outbox = await opened_there(url)
    reasons = await shared(outbox)
    await postgres.drop(name)
    await postgres.execute(f"CREATE DATABASE {name}")
    await asyncio.to_thread(upgrade, url)
    await in_the_end(lambda: leases_of(outbox).renew())
    assert reasons == ["the tables of the outbox were made anew"]


async def test_rows_that_were_put_back_under_open_connections_are_noticed_by_the_next_heartbeat(
    url: str, opened_there: Open
) -> None:
    """Nothing breaks then, as behind a pooler: each renewal of the leases looks."""
    outbox = await opened_there(url)
    reasons = await shared(outbox)
    async with connected(url) as connection:
        await connection.execute("UPDATE relay_identity SET position = 1")
    await leases_of(outbox).renew()
    assert reasons == ["the outbox is an earlier copy of itself"]
    async with connected(url) as connection:
        await connection.execute("DELETE FROM relay_identity")
    await leases_of(outbox).renew()
    assert reasons[1:] == ["the tables of the outbox were made anew"]
    await leases_of(outbox).renew()
    assert len(reasons) == 2


async def test_a_server_that_tells_its_role_nothing_is_used_all_the_same(
    postgres: Cluster, url: str, opened_there: Open
) -> None:
    """As managed services do: what it does tell is compared."""
    name = url.rpartition("/")[2]
    role = await postgres.role("ion_relay")
    try:
        await postgres.execute(
            "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
            "REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC",
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
            database=name,
        )
        outbox = await opened_there(postgres.url_of(name, role))
        reasons = await shared(outbox)
        await outbox.add([draft("x")])
        await leases_of(outbox).renew()
        assert reasons == []
        await postgres.execute("UPDATE relay_identity SET position = 1", database=name)
        await leases_of(outbox).renew()
        assert reasons == ["the outbox is an earlier copy of itself"]
        await outbox.close()
    finally:
        await postgres.drop_role(role, name)


async def test_after_a_change_a_lease_is_kept_and_none_is_taken_for_as_long_as_one_lasts(
    url: str, opened_there: Open
) -> None:
    """A lagging copy does not know who took a lease last: whoever did has stopped by the end of that time."""
    holder, other = await opened_there(url, lease_seconds=1.0), await opened_there(url, lease_seconds=1.0)
    await shared(holder)
    await leases_of(other).renew()
    async with connected(url) as connection:
        await connection.execute("UPDATE relay_identity SET position = 1")
        assert (await leases_of(holder).renew()).held == {ACME}
        await leases_of(other).renew()
        await connection.execute("DELETE FROM relay_leases")  # as in a copy from before it was taken
        assert (await leases_of(holder).renew()).held == frozenset()
        assert await leases_of(other).acquire([ACME]) == frozenset()
        assert await leases_of(holder).acquire([ACME]) == frozenset()
        since = await connection.fetchval("SELECT clock_timestamp() - changed_at FROM relay_identity")
        assert since.total_seconds() < 1.0, "this machine was too slow for the test"

    async def taken() -> frozenset[str]:
        await leases_of(other).renew()
        return await leases_of(other).acquire([ACME])

    await until(taken, lambda found: found == {ACME}, 10)


async def test_a_change_in_the_future_of_the_databases_clock_holds_up_no_lease(
    url: str, opened_there: Open
) -> None:
    """The clock went back an hour since: leases are not refused for that hour."""
    outbox = await opened_there(url)
    await leases_of(outbox).renew()
    async with connected(url) as connection:
        await connection.execute("UPDATE relay_identity SET changed_at = now() + interval '1 hour'")
    assert await leases_of(outbox).acquire([ACME]) == {ACME}
