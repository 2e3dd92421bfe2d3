"""Credentials of the database that rotate, are not there yet, or are refused: on a real server that asks for them."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from relay.core.ports import StoreError
from relay.outbox import OutboxLocation, open_outbox, upgrade
from relay.outbox.postgres import PostgresOutbox, logins
from tests.contract.stores import until
from tests.outbox.test_postgres_roles import grants
from tests.support.pgstore import PATIENCE, TERMINATE, Open, draft, in_the_end, listening, messages, texts
from tests.support.postgres import Server, connected, own_server

ROTATIONS = 100

HBA = """
local all postgres trust
host all postgres 127.0.0.1/32 trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""

HELD = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One that asks each role but its superuser for a password."""
    with own_server(password_encryption="scram-sha-256") as one:
        (one.data / "pg_hba.conf").write_text(HBA)
        asyncio.run(execute(one, "SELECT pg_reload_conf()"))
        upgrade(one.url)
        yield one


async def execute(server: Server, *statements: str) -> None:
    async with connected(server.url) as connection:
        for statement in statements:
            await connection.execute(statement)


class Site:
    """A role of this test's own on the server, and the file with the relay's URL."""

    def __init__(self, server: Server, file: Path) -> None:
        self.server, self.file = server, file
        self.role = ""
        self.made: list[str] = []

    async def make_role(self, name: str, password: str = "first") -> None:
        """With the rights of the guide. From now on it is the one that is meant."""
        self.role = name
        self.made.append(name)
        rights = [grant.replace("TO ion_relay", f"TO {name}") for grant in grants("ion_relay")]
        await execute(self.server, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'", *rights)

    async def drop_role(self, name: str) -> None:
        """As a vault revokes one: its sessions are ended, its rights taken, and it is dropped."""
        self.made.remove(name)
        ended = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{name}'"
        await execute(
            self.server, f"ALTER ROLE {name} NOLOGIN", ended, f"DROP OWNED BY {name}", f"DROP ROLE {name}"
        )

    async def set_password(self, password: str) -> None:
        await execute(self.server, f"ALTER ROLE {self.role} PASSWORD '{password}'")

    def url(self, password: str | None, host: str = "") -> str:
        login = self.role if password is None else f"{self.role}:{password}"
        return f"postgresql://{login}@{host or f'127.0.0.1:{self.server.port}'}/postgres"

    def write(self, password: str) -> None:
        """Put the file in place of the one before, as is proper."""
        new = self.file.with_suffix(".new")
        new.write_text(self.url(password) + "\n")
        new.rename(self.file)

    @property
    def location(self) -> OutboxLocation:
        return OutboxLocation(self.file.read_text().strip(), url_file=self.file)


@pytest.fixture
async def site(server: Server, tmp_path: Path) -> AsyncIterator[Site]:
    one = Site(server, tmp_path / "url")
    await one.make_role("ion_relay")
    one.write("first")
    yield one
    for name in list(one.made):
        await one.drop_role(name)
    await execute(server, "TRUNCATE relay_outbox")


async def busy(outbox: PostgresOutbox, number: int) -> None:
    """Work on all of its connections at once."""
    await asyncio.gather(*(outbox.add([draft(f"{number}-{i}")]) for i in range(8)), messages(outbox, 1))


async def until_refused(outbox: PostgresOutbox, text: str) -> None:
    """Until a call fails for that; the first ones find that their connections are gone."""

    async def failure() -> StoreError | None:
        try:
            await messages(outbox)
        except StoreError as error:
            return error
        return None

    error = await until(failure, lambda found: text in str(found), PATIENCE)
    assert error is not None
    assert not error.lasting


# --- rotation -------------------------------------------------------------------------------------


async def test_over_100_rotations_nothing_fails_and_every_connection_has_the_new_password(
    site: Site, opened_there: Open
) -> None:
    """As short-lived passwords do in a day; now and then connections end, and with them the one that listens."""
    outbox = await opened_there(site.location)
    for number in range(ROTATIONS):
        password = f"password-{number}"
        if number % 2:
            await site.set_password(password)
            site.write(password)
        else:
            site.write(password)
            await site.set_password(password)
        await busy(outbox, number)
        if number % 10 == 5:
            await execute(site.server, TERMINATE)
            await in_the_end(lambda: messages(outbox, 1))
    await listening(outbox)
    found = await messages(outbox, 10_000)
    assert len(found) == len({message.payload for message in found}) == 8 * ROTATIONS


async def test_connections_of_before_continue_where_only_the_servers_password_changed(
    site: Site, opened_there: Open
) -> None:
    outbox = await opened_there(site.location)
    await busy(outbox, 0)
    await listening(outbox)
    await site.set_password("second")
    await busy(outbox, 1)
    assert outbox.mode == "notify"
    await execute(site.server, TERMINATE)
    await until_refused(outbox, "it refused the password")
    site.write("second")
    await in_the_end(lambda: messages(outbox))
    await busy(outbox, 2)
    await listening(outbox)


async def test_connections_of_before_continue_while_the_new_password_in_the_file_does_not_work_yet(
    site: Site, opened_there: Open
) -> None:
    outbox = await opened_there(site.location)
    await busy(outbox, 0)
    site.write("second")
    await busy(outbox, 1)
    await site.set_password("second")
    await busy(outbox, 2)


async def test_a_role_that_replaces_another_one_is_used_before_that_is_revoked(
    site: Site, opened_there: Open
) -> None:
    """As vaults rotate: a new role each time. No call fails, since no connection of the old one is used then."""
    outbox = await opened_there(site.location)
    await busy(outbox, 0)
    for number in range(1, 6):
        before = site.role
        await site.make_role(f"ion_relay_{number}", f"p-{number}")
        site.write(f"p-{number}")
        await busy(outbox, number)
        async with connected(site.server.url) as connection:
            await until(lambda: connection.fetchval(HELD, before), lambda held: held <= 1, PATIENCE)  # noqa: B023
        await site.drop_role(before)
        await busy(outbox, number + 100)
    assert len(await messages(outbox, 1000)) == 8 * 11


async def test_a_role_that_lost_its_rights_is_not_used_for_the_next_call(
    site: Site, opened_there: Open
) -> None:
    """The rights belong to another role by now, and the file names it."""
    outbox = await opened_there(site.location)
    await busy(outbox, 0)
    before = site.role
    await execute(site.server, f"DROP OWNED BY {before}")
    with pytest.raises(StoreError, match="lacks a right"):
        await messages(outbox)
    async with connected(site.server.url) as connection:
        await until(lambda: connection.fetchval(HELD, before), lambda held: held == 0, PATIENCE)
    await site.make_role("ion_relay_2")
    site.write("first")
    assert len(await texts(outbox)) == 8


async def test_a_password_file_is_read_at_each_login(
    site: Site, opened_there: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = tmp_path / "passwords"

    def write(password: str) -> None:
        passwords.write_text(f"*:*:*:{site.role}:{password}\n")
        passwords.chmod(0o600)

    write("first")
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    outbox = await opened_there(site.url(None))
    await busy(outbox, 0)
    for number in range(1, 5):
        write(f"p-{number}")
        await site.set_password(f"p-{number}")
        await execute(site.server, TERMINATE)
        await in_the_end(lambda: messages(outbox))
        await busy(outbox, number)


async def test_a_file_that_is_away_or_half_written_is_waited_for(
    site: Site, opened_there: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "ROTATION_SECONDS", (0.05,))
    outbox = await opened_there(site.location)
    for content in (None, b"", b"postgre", b"\xff\xfe"):
        if content is None:
            site.file.unlink()
        else:
            site.file.write_bytes(content)
        await execute(site.server, TERMINATE)
        await until_refused(outbox, "RELAY_OUTBOX__URL_FILE")
        site.write("first")
        await in_the_end(lambda: messages(outbox))


async def test_a_file_is_read_later_as_it_was_at_the_start(site: Site, opened_there: Open) -> None:
    """With a byte order mark, as some editors write; a pipe in its place is refused, not waited for."""
    outbox = await opened_there(site.location)
    site.file.write_text(site.url("first"), "utf-8-sig")
    assert await texts(outbox) == []
    await execute(site.server, TERMINATE)
    await in_the_end(lambda: messages(outbox))
    site.file.unlink()
    os.mkfifo(site.file)
    await execute(site.server, TERMINATE)
    await until_refused(outbox, "not a regular file")


# --- refused --------------------------------------------------------------------------------------


async def test_what_may_be_corrected_on_the_server_is_no_lasting_error(site: Site) -> None:
    """No password of these is in a text."""
    location = OutboxLocation(site.url("wrong"))
    with pytest.raises(
        StoreError, match="it refused the password; correct it in RELAY_OUTBOX__URL"
    ) as caught:
        await open_outbox(location)
    assert not caught.value.lasting
    assert "wrong" not in str(caught.value)
    with pytest.raises(StoreError, match=r"refused|password"):
        await open_outbox(site.url(None))
    for statement, back, text in (
        ("ALTER ROLE {} NOLOGIN", "ALTER ROLE {} LOGIN", "it refused the role"),
        (
            "ALTER ROLE {} VALID UNTIL '2001-01-01'",
            "ALTER ROLE {} VALID UNTIL 'infinity'",
            "it refused the password",
        ),
        (
            "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC",
            "GRANT CONNECT ON DATABASE postgres TO PUBLIC",
            "CONNECT",
        ),
        (
            "ALTER ROLE {} RENAME TO nobody_yet",
            "ALTER ROLE nobody_yet RENAME TO {}",
            "it refused the password",
        ),
    ):
        await execute(site.server, statement.format(site.role))
        with pytest.raises(StoreError, match=text) as caught:
            await open_outbox(site.location)
        assert not caught.value.lasting
        await execute(site.server, back.format(site.role), f"ALTER ROLE {site.role} PASSWORD 'first'")
        await (await open_outbox(site.location)).close()
    with pytest.raises(StoreError, match="no such database") as caught:
        await open_outbox(site.url("first").removesuffix("/postgres") + "/nowhere")
    assert not caught.value.lasting


async def test_a_refusal_of_the_first_host_does_not_end_the_search(site: Site, unused_tcp_port: int) -> None:
    """The same server under two addresses; it takes the password of one of them only."""
    host, port = str(site.server.folder), site.server.port
    options = f"?host=127.0.0.1,{host}&port={port}"
    hba = site.server.data / "pg_hba.conf"
    hba.write_text(HBA.replace("local all all scram-sha-256", "local all all trust"))
    try:
        await execute(site.server, "SELECT pg_reload_conf()")
        outbox = await open_outbox(f"postgresql:///postgres{options}&user={site.role}&password=wrong")
        await outbox.close()
        hosts = f"127.0.0.1:{port},127.0.0.1:{unused_tcp_port}"
        with pytest.raises(
            StoreError, match=r"refused the password.*; .*(cannot be reached|lost or refused)"
        ) as caught:
            await open_outbox(site.url("wrong", hosts))
        assert not caught.value.lasting
    finally:
        hba.write_text(HBA)
        await execute(site.server, "SELECT pg_reload_conf()")


async def test_a_refused_relay_does_not_try_all_the_time(site: Site, opened_there: Open) -> None:
    """Its components ask again and again; the server sees a few logins."""
    outbox = await opened_there(site.location)
    await site.set_password("second")
    await execute(site.server, TERMINATE)
    before = site.server.log.count("password authentication failed")
    refusals = 0
    async with asyncio.timeout(PATIENCE):
        while refusals < 300:
            try:
                await messages(outbox)
            except StoreError as error:
                refusals += "refused the password" in str(error)
            await asyncio.sleep(0)
    assert site.server.log.count("password authentication failed") - before <= 10


async def test_a_connection_of_before_is_not_lost_with_a_call_that_ends_while_a_new_one_is_opened(
    site: Site, opened_there: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = await opened_there(site.location)
    os.utime(site.file)
    opening = asyncio.Event()
    connect = asyncpg.connect

    async def slowly(*_: object, **__: object) -> None:
        opening.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncpg, "connect", slowly)
    call = asyncio.create_task(messages(outbox))
    await opening.wait()
    call.cancel()
    await asyncio.wait([call])
    monkeypatch.setattr(asyncpg, "connect", connect)
    async with connected(site.server.url) as connection:
        await until(lambda: connection.fetchval(HELD, site.role), lambda held: held == 0, PATIENCE)
    assert await texts(outbox) == []
