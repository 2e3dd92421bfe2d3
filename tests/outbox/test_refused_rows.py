"""Rows that triggers, constraints and foreign keys of an application refuse, in each store's own ways."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from relay.core.model import (
    Delivered,
    Message,
    MessageKey,
    Parked,
    Released,
    RowId,
    Settlement,
    SettlementId,
)
from relay.core.ports import NotSettled, RowRefusedError, StoreError
from relay.outbox import StoredOutbox, retention
from relay.outbox.isolation import isolate
from relay.outbox.retention import Place, RetentionWalk
from tests.contract.stores import until
from tests.outbox.conftest import Opener
from tests.support.cutting_proxy import CuttingProxy
from tests.support.pgstore import ACME, ORDER, Open, draft, in_the_end
from tests.support.postgres import connected
from tests.support.virtual import run


async def due(outbox: StoredOutbox) -> Sequence[Message]:
    return await outbox.due(ACME, {ORDER}, frozenset(), frozenset(), 1000, 1_000_000)


async def fill(outbox: StoredOutbox, count: int) -> list[MessageKey]:
    await outbox.add([draft(f"{number}") for number in range(count)])
    return [message.key for message in await due(outbox)]


# --- the splitting itself -----------------------------------------------------------------------------


def test_refused_items_are_found_in_few_calls_and_the_others_are_written_once() -> None:
    calls: list[Sequence[int]] = []
    written: list[int] = []

    async def write(items: Sequence[int]) -> int:
        calls.append(items)
        if {13, 77} & set(items):
            raise RowRefusedError(f"no {len(items)}")
        written.extend(items)
        return len(items)

    async def scene() -> None:
        counts, refused = await isolate(range(128), write, 10.0)
        assert refused == [(13, "no 1"), (77, "no 1")]
        assert sum(counts) == len(written) == 126
        assert written == sorted(set(range(128)) - {13, 77})
        assert len(calls) <= 2 * (2 * 7 + 1)

    run(scene())


def test_what_is_left_when_the_time_is_up_counts_as_refused() -> None:
    async def write(items: Sequence[int]) -> None:
        await asyncio.sleep(1.0)
        raise RowRefusedError("no")

    async def scene() -> None:
        began = asyncio.get_running_loop().time()
        _, refused = await isolate(range(128), write, 10.0)
        assert sorted(item for item, _ in refused) == list(range(128))
        assert asyncio.get_running_loop().time() - began <= 11.0

    run(scene())


def test_an_error_of_the_store_is_raised_and_nothing_is_split() -> None:
    calls: list[Sequence[int]] = []

    async def write(items: Sequence[int]) -> None:
        calls.append(items)
        raise StoreError("the disk is full")

    async def scene() -> None:
        with pytest.raises(StoreError, match="disk is full"):
            await isolate(range(128), write, 10.0)
        assert calls == [range(128)]

    run(scene())


def test_a_walk_passes_refused_rows_by_and_tries_them_again_an_hour_later() -> None:
    rows, bad = list(range(1, 11)), {2, 3}

    async def page(after: Place | None, older_than: float, limit: int) -> Sequence[Place]:
        return [(0, RowId(row)) for row in rows if after is None or row > after[1]][:limit]

    async def delete(ids: Sequence[RowId]) -> int:
        if bad & set(ids):
            raise RowRefusedError("a foreign key")
        for row in ids:
            rows.remove(row)
        return len(ids)

    async def scene() -> None:
        walk = RetentionWalk(page, delete, removes=True)
        assert [await walk.step(1.0, 4) for _ in range(4)] == [4, 4, 2, 0]
        assert rows == [2, 3]
        assert walk.refused is not None
        assert (walk.refused.count, walk.refused.row, walk.refused.reason) == (2, 2, "a foreign key")
        bad.clear()
        assert await walk.step(1.0, 4) == 0, "not again at once"
        await asyncio.sleep(3600.0)
        assert await walk.step(1.0, 4) == 2
        assert rows == []
        assert walk.refused is None

    run(scene())


def test_a_walk_among_many_refused_rows_leaves_the_rest_for_later() -> None:
    """An application refers to every row: each step costs a second at most."""

    async def page(after: Place | None, older_than: float, limit: int) -> Sequence[Place]:
        first = 1 if after is None else after[1] + 1
        return [(0, RowId(row)) for row in range(first, first + limit)]

    async def delete(ids: Sequence[RowId]) -> int:
        await asyncio.sleep(0.05)
        raise RowRefusedError("a foreign key")

    async def scene() -> None:
        walk, clock = RetentionWalk(page, delete, removes=True), asyncio.get_running_loop().time
        began = clock()
        assert await walk.step(1.0, 500) < 500
        assert clock() - began < retention._ISOLATING_SECONDS + 0.1
        assert walk.refused is not None
        assert walk.refused.count == 500

    run(scene())


# --- SQLite -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "RAISE(ABORT, 'no')", "RAISE(FAIL, 'no')", "RAISE(ROLLBACK, 'no')",
        "json_extract('{', '$.a')", "abs(-9223372036854775807 - 1)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
async def test_whatever_a_trigger_of_a_file_does_for_one_row_the_others_are_settled(
    tmp_path: Path, opened: Opener, body: str, when: str
) -> None:
    outbox = await opened(tmp_path / "relay.db")
    keys = await fill(outbox, 10)
    with contextlib.closing(sqlite3.connect(tmp_path / "relay.db")) as connection, connection:
        connection.execute(
            f"CREATE TRIGGER app {when} UPDATE ON relay_outbox WHEN OLD.id = {keys[6].row} "
            f"BEGIN SELECT {body}; END"
        )
    fates: list[Settlement] = [Delivered(), Released("HTTP 500", True), Parked("HTTP 400")]
    left = await outbox.settle([(key, fates[key.row % 3]) for key in keys])
    assert left.refused.keys() == {keys[6]}
    assert [message.attempts for message in await due(outbox) if message.key != keys[6]] == [1] * 3


async def test_a_message_id_that_is_not_utf_8_is_settled_all_the_same(tmp_path: Path, opened: Opener) -> None:
    """An earlier version let it in; as the relay reads it, it is another text than the row has."""
    outbox = await opened(tmp_path / "relay.db")
    await outbox.add([draft("first"), draft("last")])
    with contextlib.closing(sqlite3.connect(tmp_path / "relay.db")) as connection, connection:
        connection.execute("DROP TRIGGER relay_outbox_inserted_limits")
        for row in (2, 3, 4):
            connection.execute(
                "INSERT INTO relay_outbox (tenant_id, document_name, message_id, payload) "
                "VALUES (?, ?, CAST(? AS TEXT), x'00')",
                (ACME, ORDER, b"caf\xe9" + bytes([0xE0 + row])),
            )
    fates: list[Settlement] = [
        Delivered(),
        Delivered(),
        Delivered(),
        Released("HTTP 500", True, 60.0),
        Parked("HTTP 400"),
    ]
    messages = await due(outbox)
    assert len(messages) == 5
    assert await outbox.settle(list(zip([m.key for m in messages], fates, strict=True))) == NotSettled()
    (waiting,) = await due(outbox)
    assert (waiting.key, waiting.attempts) == (messages[3].key, 1)


# --- PostgreSQL -------------------------------------------------------------------------------------------

TRIGGER = """
CREATE FUNCTION app() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;
CREATE {kind} app {when} UPDATE ON relay_outbox {deferred} FOR EACH ROW WHEN (OLD.id = {row}) EXECUTE FUNCTION app();
"""


@pytest.mark.parametrize(
    "body",
    [
        "RAISE 'no';", "RAISE SQLSTATE '23505';", "RAISE SQLSTATE '42501';", "RAISE SQLSTATE 'APP01';",
        "PERFORM 1 / 0;", "PERFORM * FROM no_such_table;", "PERFORM 2147483647 + 1;",
    ],
)  # fmt: skip
@pytest.mark.parametrize("when", ["before", "after", "deferred"])
async def test_whatever_a_trigger_of_a_database_raises_for_one_row_the_others_are_settled(
    url: str, opened_there: Open, body: str, when: str
) -> None:
    outbox = await opened_there(url)
    keys = await fill(outbox, 10)
    is_deferred = when == "deferred"
    async with connected(url) as connection:
        await connection.execute(
            TRIGGER.format(
                body=body,
                row=keys[6].row,
                kind="CONSTRAINT TRIGGER" if is_deferred else "TRIGGER",
                when="AFTER" if is_deferred else when,
                deferred="DEFERRABLE INITIALLY DEFERRED" if is_deferred else "",
            )
        )
    fates: list[Settlement] = [Delivered(), Released("HTTP 500", True), Parked("HTTP 400")]
    left = await outbox.settle([(key, fates[key.row % 3]) for key in keys])
    assert left.refused.keys() == {keys[6]}
    assert [message.attempts for message in await due(outbox) if message.key != keys[6]] == [1] * 3
    left = await outbox.settle([(key, Delivered()) for key in keys])
    assert left.refused.keys() == {keys[6]}


@pytest.mark.parametrize("sqlstate", ["53100", "57014", "55P03", "58030"])
async def test_an_error_of_the_server_is_not_taken_for_a_row_s(
    url: str, opened_there: Open, sqlstate: str
) -> None:
    """Whoever raises it: it concerns everything."""
    outbox = await opened_there(url)
    keys = await fill(outbox, 3)
    async with connected(url) as connection:
        body = f"RAISE SQLSTATE '{sqlstate}';"
        await connection.execute(
            TRIGGER.format(body=body, row=keys[1].row, kind="TRIGGER", when="BEFORE", deferred="")
        )
    with pytest.raises(StoreError) as caught:
        await outbox.settle([(key, Delivered()) for key in keys])
    assert not isinstance(caught.value, RowRefusedError)
    assert len(await due(outbox)) == 3


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"])
async def test_a_foreign_key_to_old_messages_keeps_only_these(
    url: str, opened_there: Open, deferred: str
) -> None:
    outbox = await opened_there(url)
    keys = await fill(outbox, 50)
    await outbox.settle([(key, Delivered()) for key in keys])
    async with connected(url) as connection:
        await connection.execute(
            f"CREATE TABLE invoice (message bigint CONSTRAINT to_message REFERENCES relay_outbox {deferred})"
        )
        await connection.execute("INSERT INTO invoice VALUES ($1), ($2)", keys[0].row, keys[30].row)
        await until(lambda: outbox.prune(0.0, 500), lambda dealt_with: dealt_with == 50)
        left = await connection.fetch("SELECT id FROM relay_outbox ORDER BY id")
        assert [row for (row,) in left] == [keys[0].row, keys[30].row]
        (found,) = outbox.refused_rows
        assert found.count == 2
        assert found.row in (keys[0].row, keys[30].row)
        assert "to_message" in found.reason
        assert await outbox.prune(0.0, 500) == 0


async def test_a_purge_that_a_trigger_refuses_passes_the_row_by(url: str, opened_there: Open) -> None:
    outbox = await opened_there(url)
    keys = await fill(outbox, 10)
    await outbox.settle([(key, Delivered()) for key in keys])
    async with connected(url) as connection:
        await connection.execute(
            TRIGGER.format(body="RAISE 'no';", row=keys[4].row, kind="TRIGGER", when="BEFORE", deferred="")
        )
        assert await outbox.purge_payloads(-1.0, 500) == 10
        count = "SELECT count(*) FROM relay_outbox WHERE payload_size IS NULL"
        assert await connection.fetchval(count) == 1
    assert [(one.count, one.row) for one in outbox.refused_rows] == [(1, keys[4].row)]


async def test_commits_whose_answers_are_lost_count_once(url: str, opened_there: Open) -> None:
    """The connection ends after the COMMIT, twice for each of three failed posts."""
    (key,) = await fill(await opened_there(url), 1)
    for number in range(3):
        released = Released("HTTP 500", True, 0.0, SettlementId(f"process-{number}"))
        with CuttingProxy(url, cut_after=b"COMMIT", cuts=2, refusing=False).running() as proxy:
            outbox = await opened_there(proxy.url)
            assert await in_the_end(partial(outbox.settle, [(key, released)])) == NotSettled()
            (found,) = await outbox.show(key.message_id, ACME)
            await outbox.close()
            assert proxy.cut == 2
        assert (found.attempts, [what for _, what, _ in found.history]) == (
            number + 1,
            ["counted"] * (number + 1),
        )
