"""This file is what the SQLite outbox adds to the contract: bounded stories, and looks that cost a small share of time."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from sqlite3 import Connection, OperationalError, connect
from typing import Any

import pytest

from relay.core.admin import Filter
from relay.core.model import Delivered, DocumentName, Draft, MessageId, Released
from relay.core.ports import Notification
from relay.outbox import bulk as bulk_rules
from relay.outbox.sqlite import bulk, selection, tenants
from relay.outbox.sqlite.instants import parse_instant
from relay.outbox.values import HISTORY_KEPT
from tests.contract.stores import ACME, insert_plainly, park
from tests.outbox.conftest import Opener

DRAFT = Draft(ACME, DocumentName("Sync.SalesOrder"), b"x", MessageId("m"))


async def test_a_message_that_waits_for_weeks_keeps_the_latest_of_its_story(
    opened: Opener, tmp_path: Path
) -> None:
    outbox = await opened(tmp_path / "relay.db")
    await outbox.add([DRAFT])
    (record,) = await outbox.show(MessageId("m"), None)
    await outbox.settle([(record.row, Released(f"{i}")) for i in range(HISTORY_KEPT + 20)])
    (record,) = await outbox.show(MessageId("m"), None)
    assert [detail for _, _, detail in record.history] == [f"{i}" for i in range(20, HISTORY_KEPT + 20)]


async def test_a_pruned_messages_story_goes_with_it(opened: Opener, tmp_path: Path) -> None:
    outbox = await opened(tmp_path / "relay.db")
    await outbox.add([DRAFT])
    (record,) = await outbox.show(MessageId("m"), None)
    await outbox.settle([(record.row, Released("HTTP 503"))])
    await outbox.settle([(record.row, Delivered())])
    async with asyncio.timeout(5):
        while not await outbox.prune(0, 10):
            pass
    assert await outbox._database.read(lambda connection: count(connection, "relay_history")) == 0


def count(connection: Connection, table: str) -> int:
    (found,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found)


async def test_looking_for_work_takes_a_small_share_of_the_time(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With thousands of tenants a look is much work; the next one then comes later: here 20 times 20 ms."""
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    monkeypatch.setattr(tenants, "notification", after(partial(toil, 0.02), tenants.notification))
    await outbox.arrivals(60)
    began = asyncio.get_running_loop().time()
    insert_plainly(path, DRAFT)
    assert (await outbox.arrivals(60)).pending == {ACME}
    assert asyncio.get_running_loop().time() - began > 0.2


async def test_one_look_that_had_to_wait_does_not_put_off_the_next_one(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load a look waits for the interpreter; only where looks are much work they get rarer."""
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    await outbox.arrivals(60)
    monkeypatch.setattr(tenants, "notification", after(partial(time.sleep, 1.0), tenants.notification))
    insert_plainly(path, DRAFT)
    await outbox.arrivals(60)
    began = asyncio.get_running_loop().time()
    insert_plainly(path, replace(DRAFT, message_id=MessageId("another")))
    await outbox.arrivals(60)
    assert asyncio.get_running_loop().time() - began < 10, "not the 20 s that a slow look would ask for"


async def test_a_slow_look_does_not_put_off_the_next_one_for_longer_than_asked(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = await opened(tmp_path / "relay.db")
    monkeypatch.setattr(
        tenants, "notification", after(partial(toil, 1.0), tenants.notification)
    )  # then 20 s of rest
    await outbox.arrivals(0)
    async with asyncio.timeout(15):
        await outbox.arrivals(0.01)


async def test_a_decision_means_the_messages_that_are_there_when_it_is_taken(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many arrive while it is carried out, a chunk at a time."""
    outbox = await opened(tmp_path / "relay.db")
    await outbox.add([Draft(ACME, DRAFT.document_name, b"x") for _ in range(3)])
    monkeypatch.setattr(bulk, "CHUNK", 1)
    monkeypatch.setattr(bulk, "apply_chunk", with_an_arrival(bulk.apply_chunk))
    async with asyncio.timeout(10):
        assert await park(outbox, Filter(tenant=ACME), "x") == 3
    count = (await outbox.counts())[ACME]
    assert (count.parked, count.pending > 0) == (3, True)


async def test_whatever_comes_after_a_moment_has_a_later_instant(opened: Opener, tmp_path: Path) -> None:
    """Though the clock has only milliseconds."""
    outbox = await opened(tmp_path / "relay.db")

    def look(connection: Connection) -> tuple[datetime, datetime]:
        then = selection.moment(connection)
        (now,) = connection.execute("SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')").fetchone()
        return then.at, parse_instant(now)

    for _ in range(20):
        then, now = await outbox._database.read(look)
        assert then < now


def with_an_arrival(chunk: Callable[..., bulk_rules.ChunkResult]) -> Callable[..., bulk_rules.ChunkResult]:
    def chunk_then_insert(connection: Connection, *asked: Any) -> bulk_rules.ChunkResult:
        done = chunk(connection, *asked)
        connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('ACME_PRD', 'A', 'x')"
        )
        return done

    return chunk_then_insert


async def test_a_writer_holds_the_lock_from_its_first_look(opened: Opener, tmp_path: Path) -> None:
    """Who reads and only then asks for the lock fails at once if another wrote between: no patience helps there."""
    path = tmp_path / "relay.db"
    outbox = await opened(path)

    def look_then_write(connection: Connection) -> None:
        count(connection, "relay_outbox")
        with (
            contextlib.closing(connect(path, timeout=0)) as other,
            pytest.raises(OperationalError, match="locked"),
        ):
            other.execute("DELETE FROM relay_outbox")

    await outbox._database.write(look_then_write)


def toil(seconds: float) -> None:
    """Not a sleep: so much of a processor's time is spent."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def after(
    first: Callable[[], None], notification: Callable[[Connection], Notification]
) -> Callable[[Connection], Notification]:
    def look(connection: Connection) -> Notification:
        first()
        return notification(connection)

    return look
