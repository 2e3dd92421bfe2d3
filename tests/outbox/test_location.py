"""Which outbox a URL and the names of tables stand for, and how a wrong one is refused: never with a password."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from relay.core.model import Parked
from relay.core.ports import StoreError
from relay.outbox import OutboxLocation, open_outbox, shown, upgrade
from relay.outbox.postgres.hosts import each_host
from tests.outbox.conftest import Opener
from tests.support.pgstore import ACME, Open, draft, messages, texts
from tests.support.postgres import Cluster


@pytest.mark.parametrize(
    "url",
    ["relay.db", "sqlite://relay.db", "sqlite:///", "sqlite:///:memory:", "sqlite:///folder/", ""],
)
async def test_a_url_that_names_no_file_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(StoreError, match=r"use sqlite:///relay\.db") as caught:
        await open_outbox(url)
    assert caught.value.lasting


async def test_a_url_of_another_kind_is_refused_without_its_password() -> None:
    with pytest.raises(StoreError, match=r"mysql://db/outbox names no outbox") as caught:
        await open_outbox("mysql://relay:canary@db/outbox")
    assert "canary" not in str(caught.value)


async def test_three_slashes_are_relative_four_absolute(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await opened(Path("here #1?.db"))
    await opened(tmp_path / "there%20.db")
    assert {"here #1?.db", "there%20.db"} <= set(os.listdir(tmp_path))  # noqa: PTH208


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
        ("postgresql://h/d?user=u&password=a@canary", "postgresql://h/d"),
        ("postgresql://u:p@h/d?PASSWORD=a@canary&sslmode=require", "postgresql://h/d?sslmode=require"),
        ("postgresql://h/d?sslpassword=canary&passfile=/a@canary", "postgresql://h/d"),
        ("postgresql://u:canary?x=y@h/d", "postgresql://h/d"),
        ("postgresql://u:canary?x@h/d", "postgresql://h/d"),
        ("postgresql://u:p@[::1]:5432/d?password=a@canary", "postgresql://[::1]:5432/d"),
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
async def test_a_url_that_cannot_be_parsed_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreError, match=r"use postgresql://role@host") as caught:
        await open_outbox(url)
    assert caught.value.lasting
    assert "can" not in str(caught.value).replace("cannot", "").replace("sslmode=canary", "")
    assert caught.value.__cause__ is None


async def test_an_error_of_a_server_that_does_not_answer_is_not_lasting(unused_tcp_port: int) -> None:
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
def test_each_host_of_a_url_gets_a_url_with_everything_else_in_it(url: str, each: list[str]) -> None:
    """What does not fit together is left to the driver, which refuses it."""
    assert each_host(url) == each


async def test_a_missing_driver_is_reported_with_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "asyncpg", None)
    with pytest.raises(StoreError, match=r"pip install ion-relay\[postgres\]") as caught:
        await open_outbox("postgresql://relay:canary@db/shop")
    assert caught.value.lasting


async def test_a_database_that_is_not_there_may_come(postgres: Cluster) -> None:
    with pytest.raises(StoreError, match="no such database") as caught:
        await open_outbox(postgres.url_of("relay_missing"))
    assert not caught.value.lasting


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
    await other.settle([(message.key, Parked("no"))])
    assert (await other.counts())[ACME].parked == 1
    assert await plain.counts() == {}
    assert await other.size() > await plain.size() > 0


@pytest.mark.parametrize(
    "options", [{"prefix": "relay-"}, {"prefix": ""}, {"schema": ""}, {"schema": "x" * 64}]
)
async def test_a_name_that_cannot_be_one_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(StoreError) as caught:
        await open_outbox(OutboxLocation("postgresql://db/shop", **options))
    assert caught.value.lasting
