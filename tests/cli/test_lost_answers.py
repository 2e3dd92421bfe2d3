"""Changes whose answer is lost: they are made once, and the command says so, or how to repeat it."""

import asyncio
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from relay.cli import lost_answers
from relay.core.admin import Filter
from relay.core.model import MessageId
from relay.core.ports import Store, StoreError
from relay.outbox import SqliteOutbox, open_outbox
from relay.outbox.postgres.errors import explain_call
from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres import Cluster

if TYPE_CHECKING:
    from tests.cli.conftest import Operator

LIKE = ("--tenant", "ACME", "--document", "Sync.SalesOrder")
LOST = "the answer of the outbox was lost"


@pytest.fixture
def url(postgres: Cluster) -> Iterator[str]:
    """An empty outbox on PostgreSQL."""
    name = asyncio.run(postgres.create(asyncio.run(postgres.template())))
    yield postgres.url_of(name)
    asyncio.run(postgres.drop(name))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outbox that stays away is given up at once."""
    monkeypatch.setattr(lost_answers, "LOOK_SECONDS", 0.5)


def stored(url: str) -> list[str]:
    """The message ids in the outbox, in its order."""

    async def read() -> list[str]:
        outbox = await open_outbox(url, notify=False)
        try:
            return [record.message_id for record in await outbox.find(Filter(), 10_000)]
        finally:
            await outbox.close()

    return asyncio.run(read())


def audited(url: str) -> list[tuple[str, str | None, int]]:
    async def read() -> list[tuple[str, str | None, int]]:
        outbox = await open_outbox(url, notify=False)
        try:
            return [(entry.what, entry.tenant, entry.messages) for entry in await outbox.audit(100)]
        finally:
            await outbox.close()

    return asyncio.run(read())


def cutting(url: str, *, cuts: int = 1, refusing: bool = False) -> CuttingProxy:
    """It cuts each connection over which a transaction is committed."""
    return CuttingProxy(url, cut_after=b"COMMIT;", cuts=cuts, refusing=refusing)


# --- relay enqueue ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_message_whose_commit_is_not_answered_is_stored_once(
    operator: "Operator", url: str, cuts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_answers, "LOOK_SECONDS", 30.0)
    with cutting(url, cuts=cuts).running() as proxy:
        operator.set({"RELAY_OUTBOX__URL": proxy.url})
        ran = operator.run("enqueue", *LIKE, "-", given=b"<x/>")
    assert proxy.cut == cuts
    assert (ran.code, ran.out.split()) == (0, stored(url))
    assert LOST in ran.err
    assert len(stored(url)) == 1


def test_a_batch_whose_commit_is_not_answered_is_stored_once_in_its_order(
    operator: "Operator", url: str
) -> None:
    lines = "".join(
        json.dumps({"tenant_id": "ACME", "document_name": "D", "payload": str(n)}) + "\n" for n in range(500)
    )
    with cutting(url).running() as proxy:
        operator.set({"RELAY_OUTBOX__URL": proxy.url})
        ran = operator.run("enqueue", "--ndjson", "-", given=lines.encode())
    assert (ran.code, ran.out.split()) == (0, stored(url))
    assert len(set(stored(url))) == 500


def test_an_outbox_that_stays_away_leaves_the_ids_to_repeat_with(operator: "Operator", url: str) -> None:
    (operator.folder / "a.xml").write_text("<a/>")
    (operator.folder / "b.xml").write_text("<b/>")
    with cutting(url, refusing=True).running() as proxy:
        operator.set({"RELAY_OUTBOX__URL": proxy.url})
        ran = operator.run("enqueue", *LIKE, "a.xml", "b.xml")
    assert (ran.code, ran.out) == (1, "")
    assert "it is not known whether the 2 messages were all stored" in ran.err
    named = dict(line.strip().split(": ") for line in ran.err.splitlines() if line.strip()[1:5] == ".xml")
    assert list(named) == ["a.xml", "b.xml"]
    assert list(named.values()) == stored(url)
    operator.set({"RELAY_OUTBOX__URL": url})
    for file, message_id in named.items():
        again = operator.run("enqueue", *LIKE, "--message-id", message_id, file)
        assert (again.code, again.out.strip()) == (0, message_id)
    assert list(named.values()) == stored(url)


def test_a_message_with_an_id_is_repeated_by_the_same_command(operator: "Operator", url: str) -> None:
    with cutting(url, refusing=True).running() as proxy:
        operator.set({"RELAY_OUTBOX__URL": proxy.url})
        ran = operator.run("enqueue", *LIKE, "--message-id", "m1", "-", given=b"<x/>")
        assert ran.code == 1
        assert "repeat the command as it was" in ran.err
    operator.set({"RELAY_OUTBOX__URL": url})
    assert operator.run("enqueue", *LIKE, "--message-id", "m1", "-", given=b"<x/>").out == "m1\n"
    assert stored(url) == ["m1"]


def test_what_the_server_refused_is_said_at_once(operator: "Operator", url: str) -> None:
    """Its answer is known: nothing is stored, and nothing is looked for."""
    operator.set({"RELAY_OUTBOX__URL": url})
    statement = "ALTER TABLE relay_outbox ADD CONSTRAINT no_x CHECK (document_name <> 'Sync.SalesOrder')"
    asyncio.run(_execute(url, statement))
    ran = operator.run("enqueue", *LIKE, "-", given=b"<x/>")
    assert (ran.code, ran.out, stored(url)) == (1, "", [])
    assert "no_x" in ran.err
    assert LOST not in ran.err
    assert "not known" not in ran.err


async def _execute(url: str, statement: str) -> None:
    from tests.support.postgres import connected

    async with connected(url) as connection:
        await connection.execute(statement)


# --- on a file ----------------------------------------------------------------------------------------------


def lose_answers(monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> None:
    """The first calls of a method are done, and then fail as if the disk had not answered in time."""
    method = getattr(SqliteOutbox, name)
    left = [times]

    async def losing(self: SqliteOutbox, *args: Any, **kwargs: Any) -> Any:
        done = await method(self, *args, **kwargs)
        if left[0]:
            left[0] -= 1
            raise StoreError("the disk did not answer", answer_lost=True)
        return done

    monkeypatch.setattr(SqliteOutbox, name, losing)


def test_a_disk_that_answers_too_late_stores_a_message_once(
    operator: "Operator", monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.enqueue("first")
    lose_answers(monkeypatch, "add", 1)
    ran = operator.run("enqueue", *LIKE, "-", given=b"<x/>")
    assert ran.code == 0
    assert [one["message_id"] for one in operator.list_messages()] == ["first", ran.out.strip()]


def test_ctrl_c_while_a_message_is_stored_leaves_its_id(
    operator: "Operator", monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.enqueue("first")
    add = SqliteOutbox.add

    async def interrupted(self: SqliteOutbox, drafts: Any) -> Any:
        await add(self, drafts)
        raise asyncio.CancelledError

    monkeypatch.setattr(SqliteOutbox, "add", interrupted)
    ran = operator.run("enqueue", *LIKE, "-", given=b"<x/>")
    assert (ran.code, ran.out) == (130, "")
    assert f"standard input: {operator.list_messages()[1]['message_id']}" in ran.err


def test_a_close_that_fails_does_not_make_a_stored_message_a_failure(
    operator: "Operator", monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.enqueue("first")
    lose_answers(monkeypatch, "close", 1)
    ran = operator.run("enqueue", *LIKE, "--message-id", "m1", "-", given=b"<x/>")
    assert (ran.code, ran.out) == (0, "m1\n")


# --- what operators change ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["pause", "resume", "ask"])
def test_a_tenant_is_changed_once(operator: "Operator", url: str, what: str) -> None:
    with cutting(url).running() as proxy:
        operator.set({"RELAY_OUTBOX__URL": proxy.url})
        ran = operator.run("tenants", what, "ACME")
        assert proxy.cut == 1
    assert ran.code == 0
    assert audited(url) == [(what, "ACME", 0)]


@pytest.mark.parametrize("what", ["park", "drop"])
@pytest.mark.parametrize("cuts", [1, 2, 3])
def test_a_bulk_action_is_begun_once_and_counts_each_message_once(
    operator: "Operator", url: str, what: str, cuts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_answers, "LOOK_SECONDS", 30.0)
    operator.set({"RELAY_OUTBOX__URL": url})
    for given in ("m1", "m2"):
        operator.run("enqueue", *LIKE, "--message-id", given, "-", given=b"<x/>")
    with cutting(url, cuts=cuts).running() as proxy:
        operator.set({"RELAY_OUTBOX__URL": proxy.url})
        ran = operator.run("messages", what, "m1", "m2")
    participle = {"park": "parked", "drop": "dropped"}[what]
    assert (ran.code, ran.out) == (0, f"2 messages {participle}\n")
    assert audited(url) == [(what, None, 2)]


def test_a_change_that_never_arrived_is_made_by_the_repetition(
    operator: "Operator", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is lost before the store has done anything."""
    operator.enqueue("m1")
    calls: list[str] = []
    pause = SqliteOutbox.pause

    async def lost(self: SqliteOutbox, *args: Any) -> None:
        calls.append("pause")
        if len(calls) == 1:
            raise StoreError("the disk did not answer", answer_lost=True)
        await pause(self, *args)

    monkeypatch.setattr(SqliteOutbox, "pause", lost)
    assert operator.run("tenants", "pause", "ACME").code == 0
    assert len(calls) == 2

    async def entries(store: Store) -> list[str]:
        return [entry.what for entry in await store.audit(10)]

    assert operator.at_outbox(entries) == ["pause"]
    assert operator.list_messages()[0]["message_id"] == MessageId("m1")


@pytest.mark.parametrize(
    ("state", "lost"),
    [("08003", True), ("57P01", True), ("40003", True), ("57014", False), ("23505", False), ("53100", False)],
)
def test_an_error_of_the_server_is_its_answer_unless_the_connection_ended(state: str, lost: bool) -> None:
    error = asyncpg.PostgresError.new({"C": state, "M": "text"})
    assert explain_call(error, "here").answer_lost is lost


def test_a_lost_connection_and_silence_leave_it_open_what_was_done() -> None:
    assert explain_call(ConnectionResetError(), "here").answer_lost
    assert explain_call(TimeoutError(), "here").answer_lost
    assert explain_call(asyncpg.InterfaceError("closed"), "here").answer_lost
