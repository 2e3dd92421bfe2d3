"""An outbox is copied to another store whole, never mixed with another one; an interrupted copy is resumed."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from relay.core.admin import AuditEntry, BulkAction, Filter
from relay.core.model import (
    Delivered,
    DocumentName,
    Draft,
    MessageId,
    OrderingKey,
    Parked,
    Released,
    TenantId,
)
from relay.core.ports import RowRefusedError, StoreError
from relay.outbox import open_outbox, transfer
from relay.outbox.transfer import Copied, CopySide, RefusedError
from relay.outbox.transfer_rows import StoredMessage, Transfer
from relay.outbox.values import MAX_ATTEMPTS
from tests.contract.stores import drop, retry, until
from tests.support.keys import key_of
from tests.support.postgres import Cluster, connected

ACME, GLOBEX = TenantId("ACME_PRD"), TenantId("GLOBEX_TST")
ORDER = DocumentName("Sync.SalesOrder")

Opened = Callable[[str], Awaitable[Any]]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Open an outbox by its URL; closed at the end of the test."""
    made: list[Any] = []

    async def open_(url: str) -> Any:
        made.append(await open_outbox(url))
        return made[-1]

    yield open_
    for outbox in made:
        await outbox.close()


async def copied(source: Any, target: Any, *, forced: bool = False) -> Copied:
    sides = (CopySide("FROM", source.transfer, source), CopySide("TO", target.transfer, target))
    return await transfer.copy(*sides, forced=forced, progress=lambda _seen, _all: None)


async def every_row(rows: Transfer) -> list[StoredMessage]:
    return [row async for batch in transfer._batches(rows) for row in batch]


async def same(source: Any, target: Any) -> bool:
    """All rows are, to what both stores can keep."""
    here, there = await every_row(source.transfer), await every_row(target.transfer)
    return len(here) == len(there) and all(a.whole == b.whole for a, b in zip(here, there, strict=True))


def draft(name: str, tenant: TenantId = ACME) -> Draft:
    return Draft(
        tenant, ORDER, name.encode() + bytes(range(256)), MessageId(name), ordering_key=OrderingKey("k")
    )


async def fill(outbox: Any) -> None:
    """Something of everything that can become of a message, a pause, and a row that is gone."""
    names = ("delivered", "parked", "dropped", "counted", "waiting", "retried", "gone")
    await outbox.add([*map(draft, names), draft("waiting", GLOBEX)])
    key = {record.message_id: key_of(record) for record in await outbox.find(Filter(tenant=ACME), 100)}
    await outbox.settle([(key[MessageId("counted")], Released("HTTP 500: späť", counted=True, wait=1000.5))])
    await outbox.settle([(key[MessageId("retried")], Parked("HTTP 413: too large"))])
    await retry(outbox, Filter(ids=(MessageId("retried"),)))
    await outbox.settle([(key[MessageId("parked")], Parked("HTTP 400: no such order"))])
    await outbox.settle([(key[MessageId("gone")], Delivered())])
    await until(lambda: outbox.prune(0, 100), lambda pruned: pruned > 0)
    await drop(outbox, Filter(ids=(MessageId("dropped"),)), "not wanted")
    await outbox.settle([(key[MessageId("delivered")], Delivered())])
    await outbox.pause(GLOBEX, "moving house")


@pytest.fixture(params=["sqlite to postgres", "postgres to sqlite", "sqlite to sqlite"])
async def ends(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The URLs of FROM, with nothing in it yet, and of an empty TO."""
    async with AsyncExitStack() as made:
        urls = [f"sqlite:///{tmp_path / 'from.db'}", f"sqlite:///{tmp_path / 'to.db'}"]
        for place, kind in enumerate(request.param.split(" to ")):
            if kind == "postgres":
                cluster: Cluster = request.getfixturevalue("postgres")
                urls[place] = await made.enter_async_context(cluster.outbox())
        yield urls[0], urls[1]


@pytest.fixture
async def pair(ends: tuple[str, str], opened: Opened) -> tuple[Any, Any]:
    """FROM and TO, open."""
    return await opened(ends[0]), await opened(ends[1])


# --- what is copied -------------------------------------------------------------------------------


async def test_everything_is_there_afterwards_as_it_was(pair: tuple[Any, Any]) -> None:
    """Ids, message ids, order, states, attempts, reasons, times, history."""
    source, target = pair
    await fill(source)
    done = await copied(source, target)
    assert (done.written, done.complete) == (len(await every_row(source.transfer)), True)
    assert await same(source, target)
    shown = {record.state for record in await target.find(Filter(), 100)}
    assert shown == {"pending", "delivered", "parked", "dropped"}


async def test_what_operators_see_is_the_same(pair: tuple[Any, Any]) -> None:
    source, target = pair
    await fill(source)
    await copied(source, target)
    for name in ("counted", "retried", "dropped"):
        (here,), (there,) = [await outbox.show(MessageId(name), ACME) for outbox in pair]
        assert [what for _, what, _ in there.history] == [what for _, what, _ in here.history]
        assert (there.reason, there.attempts, there.size) == (here.reason, here.attempts, here.size)
    counts = [
        {tenant: replace(count, oldest_due_seconds=None) for tenant, count in (await outbox.counts()).items()}
        for outbox in pair
    ]
    assert counts[0] == counts[1]


async def test_pauses_move_along(pair: tuple[Any, Any]) -> None:
    source, target = pair
    await fill(source)
    await copied(source, target)
    controls = (await target.notification()).controls
    assert controls[GLOBEX].paused == "moving house"
    assert controls == (await source.notification()).controls


async def test_the_audit_moves_along(pair: tuple[Any, Any]) -> None:
    """Also of a decision that is not over, which may be gone on with there."""
    source, target = pair
    await fill(source)
    audit_id = await source.begin(BulkAction("park", Filter(), "ann@desk", "späť"))
    await copied(source, target)

    def comparable(entry: AuditEntry) -> tuple[object, ...]:
        at = entry.at.replace(microsecond=entry.at.microsecond // 1000 * 1000)
        return (
            at,
            entry.id,
            entry.who,
            entry.what,
            entry.tenant,
            entry.selection,
            entry.messages,
            entry.outcome,
        )

    entries = await source.audit(100)
    assert {entry.what for entry in entries} == {"park", "retry", "drop", "pause"}
    assert [comparable(entry) for entry in await target.audit(100)] == [
        comparable(entry) for entry in entries
    ]
    assert (await target.advance(audit_id)).messages == 4
    await target.note("bob@desk", "show", None, "m")
    assert (await target.audit(1))[0].id == audit_id + 1


async def test_an_audit_of_its_own_in_to_is_not_overwritten(pair: tuple[Any, Any]) -> None:
    source, target = pair
    await source.note("ann@desk", "show", ACME, "m")
    await target.note("bob@desk", "show", ACME, "m")
    with pytest.raises(RefusedError, match=r"audit of TO has an entry that FROM does not have .*by bob@desk"):
        await copied(source, target)
    assert [entry.who for entry in await target.audit(10)] == ["bob@desk"]


async def test_a_payload_that_went_in_from_goes_in_to(pair: tuple[Any, Any]) -> None:
    """And it is the same message still."""
    source, target = pair
    await fill(source)
    await copied(source, target)
    await until(lambda: source.purge_payloads(0, 100), lambda looked_at: looked_at > 0)
    done = await copied(source, target)
    assert (done.written, done.complete) == (1, True)
    assert await same(source, target)
    (gone,) = await target.show(MessageId("delivered"), ACME)
    assert await target.payload(gone.row, 10) is None
    assert gone.size == len(draft("delivered").payload)
    assert await target.add([draft("delivered")]) == ["delivered"]


async def test_a_new_row_gets_an_id_that_no_message_ever_had(pair: tuple[Any, Any]) -> None:
    """Also none of a deleted one: a late settlement must not hit it."""
    source, target = pair
    await source.add([draft("a"), draft("b")])
    (record,) = await source.find(Filter(ids=(MessageId("b"),)), 1)
    await source.settle([(key_of(record), Delivered())])
    await until(lambda: source.prune(0, 100), lambda pruned: pruned > 0)
    await copied(source, target)
    await target.add([draft("c")])
    (new,) = await target.find(Filter(ids=(MessageId("c"),)), 1)
    assert new.row > record.row


async def test_an_empty_outbox_is_copied_too(pair: tuple[Any, Any]) -> None:
    source, target = pair
    assert (await copied(source, target)).complete
    await target.add([draft("first")])


async def test_batches_are_bounded_in_rows_and_bytes(
    pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document larger than a batch goes alone."""
    source, target = pair
    monkeypatch.setattr(transfer, "BATCH_BYTES", 3 * len(draft("1").payload))
    monkeypatch.setattr(transfer, "BATCH", 4)
    await source.add([draft(f"{i}") for i in range(8)])
    await source.add([Draft(ACME, ORDER, b"x" * 5000, MessageId("large")), draft("9")])
    sizes = [len(batch) async for batch in transfer._batches(source.transfer)]
    assert sizes == [3, 3, 2, 1, 1]
    await copied(source, target)
    assert await same(source, target)


# --- run again ------------------------------------------------------------------------------------


async def test_a_second_run_writes_nothing(pair: tuple[Any, Any]) -> None:
    source, target = pair
    await fill(source)
    await copied(source, target)
    assert (await copied(source, target)).written == 0


async def test_what_changed_in_between_is_brought_over(pair: tuple[Any, Any]) -> None:
    """FROM went on working after a copy: what it delivered, added, retried is so in TO as well."""
    source, target = pair
    await fill(source)
    await copied(source, target)
    (waiting,) = await source.show(MessageId("waiting"), ACME)
    await source.settle([(key_of(waiting), Delivered())])
    await retry(source, Filter(ids=(MessageId("parked"),)))
    await source.add([draft("new")])
    done = await copied(source, target)
    assert (done.written, done.complete) == (3, True)
    assert await same(source, target)


async def test_a_row_that_committed_late_is_brought_over(pair: tuple[Any, Any]) -> None:
    """Its id is lower than the last that was copied."""
    source, target = pair
    await fill(source)
    rows = await every_row(source.transfer)
    await target.transfer.write_rows(rows[1:4])
    assert (await copied(source, target)).written == len(rows) - 3
    assert await same(source, target)


async def test_attempts_beyond_what_the_other_store_holds_are_its_most(
    ends: tuple[str, str], pair: tuple[Any, Any]
) -> None:
    source, target = pair
    await source.add([draft("many")])
    beyond = MAX_ATTEMPTS + (1 if ends[0].startswith("sqlite") else 0)
    await change(ends[0], f"UPDATE relay_outbox SET attempts = {beyond}")
    await copied(source, target)
    (there,) = await target.find(Filter(), 10)
    assert there.attempts == MAX_ATTEMPTS
    assert (await copied(source, target)).written == 0


async def test_a_row_that_to_refuses_is_named_and_the_others_are_there(
    ends: tuple[str, str], pair: tuple[Any, Any]
) -> None:
    """A trigger of an application; a second run continues once it is gone."""
    source, target = pair
    await source.add([draft(f"m{number}") for number in range(40)])
    await change(ends[1], *(REFUSE_IN_A_DATABASE if ends[1].startswith("postgres") else REFUSE_IN_A_FILE))
    with pytest.raises(
        RowRefusedError, match=r"message 'm7' of tenant ACME_PRD \(row 8\).* into TO.* not m7"
    ):
        await copied(source, target)
    assert len(await target.find(Filter(), 100)) == 39
    await change(ends[1], "DROP TRIGGER app" + (" ON relay_outbox" if ends[1].startswith("postgres") else ""))
    assert (await copied(source, target)).written == 1
    assert await same(source, target)


REFUSE_IN_A_FILE = (
    (
        "CREATE TRIGGER app BEFORE INSERT ON relay_outbox WHEN NEW.message_id = 'm7' "
        "BEGIN SELECT RAISE(ABORT, 'not m7'); END"
    ),
)
REFUSE_IN_A_DATABASE = (
    "CREATE FUNCTION app() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not m7'; END $$",
    (
        "CREATE TRIGGER app BEFORE INSERT ON relay_outbox FOR EACH ROW WHEN (NEW.message_id = 'm7') "
        "EXECUTE FUNCTION app()"
    ),
)


async def change(url: str, *statements: str) -> None:
    """As an application does it."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            for statement in statements:
                file.execute(statement)
    else:
        async with connected(url) as connection:
            for statement in statements:
                await connection.execute(statement)


# --- refusals -------------------------------------------------------------------------------------


async def test_another_outbox_is_not_written_into(pair: tuple[Any, Any]) -> None:
    source, target = pair
    await source.add([draft("mine")])
    await target.add([draft("theirs")])
    before = await every_row(target.transfer)
    with pytest.raises(
        RefusedError, match=r"TO holds message 'theirs' of tenant ACME_PRD \(row 1\), which FROM"
    ):
        await copied(source, target)
    assert await every_row(target.transfer) == before


async def test_a_message_that_only_looks_the_same_is_another(pair: tuple[Any, Any]) -> None:
    """The same id, message id and size, another document."""
    source, target = pair
    await source.add([draft("a")])
    (row,) = await every_row(source.transfer)
    await target.transfer.write_rows([replace(row, payload=row.payload[::-1])])
    with pytest.raises(RefusedError, match="'a'"):
        await copied(source, target)


async def test_what_was_enqueued_in_to_meanwhile_is_not_overwritten(pair: tuple[Any, Any]) -> None:
    source, target = pair
    await fill(source)
    await copied(source, target)
    await target.add([draft("later")])
    await source.add([draft("other")])
    with pytest.raises(RefusedError, match="'later'"):
        await copied(source, target)


async def test_a_delivery_in_to_is_never_undone(pair: tuple[Any, Any]) -> None:
    """It would be sent twice."""
    source, target = pair
    await fill(source)
    await copied(source, target)
    (waiting,) = await target.show(MessageId("waiting"), ACME)
    await target.settle([(key_of(waiting), Delivered())])
    with pytest.raises(RefusedError, match=r"'waiting' .* is delivered in TO and pending in FROM"):
        await copied(source, target)


async def test_a_running_relay_on_from_is_refused_unless_forced(pair: tuple[Any, Any]) -> None:
    source, target = pair
    await fill(source)
    await source.beat("relay-1", {})
    with pytest.raises(RefusedError, match=r"a relay runs on FROM \(relay-1\)"):
        await copied(source, target)
    assert await every_row(target.transfer) == []
    assert (await copied(source, target, forced=True)).complete


async def test_a_relays_own_role_cannot_copy_and_the_error_names_the_one_that_can(
    tmp_path: Path, postgres: Cluster, opened: Opened
) -> None:
    role = await postgres.role("relay")
    async with postgres.outbox() as url:
        database = urlsplit(url).path[1:]
        await postgres.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
            database=database,
        )
        target = await open_outbox(postgres.url_of(database, role))
        try:
            source = await opened(f"sqlite:///{tmp_path / 'from.db'}")
            await source.add([draft("a")])
            empty = await opened(f"sqlite:///{tmp_path / 'empty.db'}")
            for pair in ((source, target), (target, empty)):
                with pytest.raises(StoreError, match="copy as the role that owns the tables"):
                    await copied(*pair)
        finally:
            await target.close()
        await postgres.drop_role(role, database)


async def test_a_running_relay_on_to_is_refused_always(pair: tuple[Any, Any]) -> None:
    source, target = pair
    await target.beat("relay-1", {})
    with pytest.raises(RefusedError, match="a relay runs on TO"):
        await copied(source, target, forced=True)
