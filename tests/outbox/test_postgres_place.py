"""This file is which PostgreSQL database is meant, what the tables there must be, and how they come to be."""

import asyncio

import pytest

from relay.core.model import Parked
from relay.core.ports import StoreError
from relay.outbox import OutboxLocation, open_outbox, schema, shown, upgrade
from relay.outbox.postgres.hosts import each_host
from tests.support.pgstore import (
    ACME,
    Open,
    draft,
    messages,
    texts,
)
from tests.support.postgres import Cluster, connected

# --- which database -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("postgresql://relay:canary@db:5432/shop", "postgresql://db:5432/shop"),
        (
            "postgresql://relay:can@ary@db1,db2/shop?sslmode=require",
            "postgresql://db1,db2/shop?sslmode=require",
        ),
        ("postgresql:///shop?host=/run/pg&password=canary&user=relay", "postgresql:///shop?host=/run/pg"),
        ("postgres://relay:ca/na?ry@db/shop", "postgres://db/shop"),
        ("sqlite:////var/lib/a@b.db", "sqlite:////var/lib/a@b.db"),
    ],
)
def test_a_url_is_shown_without_what_may_be_a_password(url: str, safe: str) -> None:
    assert shown(url) == safe


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://relay:can/ary@127.0.0.1/shop",
        "postgresql://relay:canary@127.0.0.1:port/shop",
        "postgresql://relay:canary@127.0.0.1/shop?sslmode=canary",
    ],
)
async def test_a_url_that_cannot_be_understood_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreError, match=r"use postgresql://role@host") as caught:
        await open_outbox(url)
    assert caught.value.lasting
    assert "can" not in str(caught.value).replace("cannot", "").replace("sslmode=canary", "")
    assert caught.value.__cause__ is None


async def test_where_nobody_answers_waiting_may_help(unused_tcp_port: int) -> None:
    with pytest.raises(StoreError, match="resumes automatically") as caught:
        await open_outbox(f"postgresql://relay:canary@127.0.0.1:{unused_tcp_port}/shop")
    assert not caught.value.lasting
    assert "canary" not in str(caught.value)


async def test_of_several_hosts_the_one_that_answers_is_used(
    postgres: Cluster, url: str, opened_there: Open, unused_tcp_port: int
) -> None:
    place = url.partition("@")[2]
    outbox = await opened_there(url.replace(place, f"127.0.0.1:{unused_tcp_port},{place}"))
    assert await texts(outbox) == []


@pytest.mark.parametrize(
    ("url", "each"),
    [
        ("postgresql://db/shop", ["postgresql://db/shop"]),
        ("postgresql:///shop", ["postgresql:///shop"]),
        (
            "postgresql://u:p%2Cw@db1,db2:5433/shop?sslmode=require",
            [
                "postgresql://u:p%2Cw@db1/shop?sslmode=require",
                "postgresql://u:p%2Cw@db2:5433/shop?sslmode=require",
            ],
        ),
        ("postgresql://[::1]:5,[::2]/shop", ["postgresql://[::1]:5/shop", "postgresql://[::2]/shop"]),
        (
            "postgresql://u@/shop?host=db1,db2&port=5,6",
            ["postgresql://u@/shop?host=db1&port=5", "postgresql://u@/shop?host=db2&port=6"],
        ),
        (
            "postgresql:///shop?host=a,b&port=7",
            ["postgresql:///shop?host=a&port=7", "postgresql:///shop?host=b&port=7"],
        ),
        ("postgresql:///shop?host=a,b", ["postgresql:///shop?host=a", "postgresql:///shop?host=b"]),
        ("postgresql:///shop?host=/run/pg&user=u", ["postgresql:///shop?host=/run/pg&user=u"]),
        ("postgresql:///shop?host=a,b,c&port=5,6", ["postgresql:///shop?host=a,b,c&port=5,6"]),
    ],
)
def test_each_host_of_a_url_is_asked_with_all_else_that_the_url_says(url: str, each: list[str]) -> None:
    """What does not fit together is left to the driver, which refuses it."""
    assert each_host(url) == each


async def test_a_missing_driver_is_said_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "asyncpg", None)
    with pytest.raises(StoreError, match=r"pip install ion-relay\[postgres\]") as caught:
        await open_outbox("postgresql://relay:canary@db/shop")
    assert caught.value.lasting


async def test_a_database_that_is_not_there_is_a_lasting_error(postgres: Cluster) -> None:
    with pytest.raises(StoreError, match="no such database") as caught:
        await open_outbox(postgres.url_of("relay_missing"))
    assert caught.value.lasting


# --- the schema -----------------------------------------------------------------------------------


async def test_a_database_without_an_outbox_is_refused_with_the_mend(postgres: Cluster) -> None:
    name = await postgres.create()
    try:
        with pytest.raises(StoreError, match="relay outbox upgrade") as caught:
            await open_outbox(postgres.url_of(name))
        assert caught.value.lasting
    finally:
        await postgres.drop(name)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("DELETE FROM relay_schema", "has schema version 0, this relay needs"),
        ("INSERT INTO relay_schema VALUES (99, 99)", "made by a newer relay"),
    ],
)
async def test_an_older_or_newer_schema_is_refused_with_the_mend(url: str, statement: str, text: str) -> None:
    async with connected(url) as connection:
        await connection.execute(statement)
    with pytest.raises(StoreError, match=text) as caught:
        await open_outbox(url)
    assert caught.value.lasting
    assert "relay outbox upgrade" in str(caught.value)


async def test_a_newer_schema_that_says_it_works_with_this_relay_is_used(
    url: str, opened_there: Open
) -> None:
    """So that the tables are upgraded first, and the relays one after the other."""
    async with connected(url) as connection:
        await connection.execute("INSERT INTO relay_schema VALUES (99, 1)")
    assert await texts(await opened_there(url)) == []


async def test_the_printed_schema_may_be_run_twice_and_is_what_upgrade_makes(
    postgres: Cluster, opened_there: Open
) -> None:
    name = await postgres.create()
    url = postgres.url_of(name)
    try:
        async with connected(url) as connection:
            await connection.execute(schema(url))
            await connection.execute(schema(url))
        await asyncio.to_thread(upgrade, url)
        outbox = await opened_there(url)
        await outbox.add([draft()])
        assert await texts(outbox) == ["x"]
    finally:
        await postgres.drop(name)


async def test_upgrading_again_changes_nothing_and_two_at_once_are_one(url: str, opened_there: Open) -> None:
    outbox = await opened_there(url)
    await outbox.add([draft()])
    await asyncio.gather(*(asyncio.to_thread(upgrade, url) for _ in range(3)))
    assert await texts(outbox) == ["x"]


async def test_two_outboxes_of_other_names_in_one_database_know_nothing_of_each_other(
    url: str, opened_there: Open
) -> None:
    here = OutboxLocation(url, 'The "odd" one', "ion_")
    await asyncio.to_thread(upgrade, here)
    plain, other = await opened_there(url), await opened_there(here)
    await other.add([draft("other", "k")])
    assert (await texts(plain), await texts(other)) == ([], ["other"])
    assert (await other.counts())[ACME].pending == 1
    (message,) = await messages(other)
    await other.settle([(message.row, Parked("no"))])
    assert (await other.counts())[ACME].parked == 1
    assert await plain.counts() == {}


@pytest.mark.parametrize(
    "options", [{"prefix": "relay-"}, {"prefix": ""}, {"schema": ""}, {"schema": "x" * 64}]
)
async def test_a_name_that_cannot_be_one_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(StoreError) as caught:
        await open_outbox(OutboxLocation("postgresql://db/shop", **options))
    assert caught.value.lasting
