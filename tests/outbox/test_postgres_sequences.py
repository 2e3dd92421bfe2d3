"""Ids that a sequence would generate twice, as after a restore by logical replication: found, said and corrected."""

import asyncio

import asyncpg
import pytest

from relay.config.settings import Settings
from relay.core.model import Delivered, MessageId, Released
from relay.core.ports import StoreError
from relay.daemon import preflight
from relay.outbox import OutboxLocation, upgrade
from tests.support.pgstore import ACME, Open, draft, messages, texts
from tests.support.postgres import connected

TABLES = ("relay_outbox", "relay_history", "relay_audit")

FILL = """
INSERT INTO relay_outbox (tenant_id, document_name, message_id, payload)
    SELECT 'ACME_PRD', 'Sync.SalesOrder', 'old-' || n, 'x' FROM generate_series(1, 5) n;
INSERT INTO relay_history (message_row, what, detail) SELECT n + 100, 'released', 'x' FROM generate_series(1, 5) n;
INSERT INTO relay_audit (who, what, selection, reason, outcome)
    SELECT 'ann', 'show', '', '', 'done' FROM generate_series(1, 5) n;
"""

ENQUEUE = """
INSERT INTO relay_outbox (tenant_id, document_name, message_id, payload)
VALUES ('ACME_PRD', 'Sync.SalesOrder', 'new', 'x')
"""


async def filled(url: str, *statements: str) -> None:
    """Five rows in each table; then whatever makes a sequence lag behind."""
    async with connected(url) as connection:
        await connection.execute(FILL)
        for statement in statements:
            await connection.execute(statement)


async def highest_and_next(url: str, table: str) -> tuple[int, int]:
    async with connected(url) as connection:
        highest = await connection.fetchval(f"SELECT max(id) FROM {table}")
        following = await connection.fetchval(f"SELECT nextval('{table}_id_seq')")
        return highest, following


async def test_the_documented_insert_fails_loudly_where_the_sequence_lags_behind(url: str) -> None:
    """Without the columns of the conflict it would do nothing, and the message would be lost."""
    await filled(url, "ALTER TABLE relay_outbox ALTER COLUMN id RESTART")
    async with connected(url) as connection:
        with pytest.raises(asyncpg.UniqueViolationError, match="relay_outbox_pkey"):
            await connection.execute(f"{ENQUEUE} ON CONFLICT (message_id, upper(tenant_id)) DO NOTHING")
        assert await connection.execute(f"{ENQUEUE} ON CONFLICT DO NOTHING") == "INSERT 0 0"


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "lag",
    [
        "ALTER TABLE {table} ALTER COLUMN id RESTART",
        "ALTER TABLE {table} ALTER COLUMN id RESTART WITH 5",
        "SELECT setval('{table}_id_seq', 4)",
        "SELECT setval('{table}_id_seq', 5, false)",
    ],
)
async def test_a_sequence_that_lags_behind_is_named_and_an_upgrade_corrects_it(
    url: str, opened_there: Open, table: str, lag: str
) -> None:
    await filled(url, lag.format(table=table))
    outbox = await opened_there(url)
    (incident,) = await outbox.incidents()
    assert incident.kind == "sequence"
    assert table in incident.detail
    assert [name for name in TABLES if name in incident.detail] == [table]
    assert "its highest one is 5" in incident.detail
    assert "relay outbox upgrade" in incident.hint
    (line,) = await asyncio.to_thread(upgrade, url)
    assert table in line
    assert await outbox.incidents() == []
    assert await highest_and_next(url, table) == (5, 6)
    assert await asyncio.to_thread(upgrade, url) == []


async def test_the_statement_that_is_printed_corrects_it_too_and_may_be_run_again(
    url: str, opened_there: Open
) -> None:
    await filled(url, *(f"ALTER TABLE {table} ALTER COLUMN id RESTART" for table in TABLES))
    outbox = await opened_there(url)
    (incident,) = await outbox.incidents()
    statements = incident.hint.partition("or: ")[2]
    async with connected(url) as connection:
        await connection.execute(statements)
        assert await outbox.incidents() == []
        await connection.execute("DELETE FROM relay_outbox WHERE id > 2")
        await connection.execute(statements)
    assert await highest_and_next(url, "relay_outbox") == (2, 6)  # an id is never given twice


async def test_a_sequence_that_is_ahead_is_no_incident_and_stays_ahead(url: str, opened_there: Open) -> None:
    await filled(url, "SELECT setval('relay_outbox_id_seq', 5000)")
    assert await (await opened_there(url)).incidents() == []
    assert await asyncio.to_thread(upgrade, url) == []
    assert await highest_and_next(url, "relay_outbox") == (5, 5001)


async def test_an_empty_outbox_and_one_that_is_written_to_lag_behind_in_nothing(
    url: str, opened_there: Open
) -> None:
    outbox = await opened_there(url)
    assert await outbox.incidents() == []
    writing = [asyncio.create_task(outbox.add([draft(f"{i}")])) for i in range(100)]
    for _ in range(50):
        assert await outbox.incidents() == []
    await asyncio.gather(*writing)


async def test_in_a_schema_and_with_a_prefix_of_their_own_the_tables_are_named_as_they_are(
    url: str, opened_there: Open
) -> None:
    at = OutboxLocation(url, 'Shop\'s "own"', "ion_")
    await asyncio.to_thread(upgrade, at)
    outbox = await opened_there(at)
    await outbox.add([draft("a"), draft("b")])
    name = '"Shop\'s ""own""".ion_outbox'
    async with connected(url) as connection:
        await connection.execute(f"ALTER TABLE {name} ALTER COLUMN id RESTART")
        (incident,) = await outbox.incidents()
        assert f"the next id of {name} would be 1, and its highest one is 2" in incident.detail
        await connection.execute(incident.hint.partition("or: ")[2])
    assert await outbox.incidents() == []
    await outbox.add([draft("c")])
    async with connected(url) as connection:
        await connection.execute(f"ALTER TABLE {name} ALTER COLUMN id RESTART")
    assert len(await asyncio.to_thread(upgrade, at)) == 1
    await outbox.add([draft("d")])
    assert await texts(outbox) == ["a", "b", "c", "d"]


async def test_a_call_that_meets_it_says_what_to_do(url: str, opened_there: Open) -> None:
    await filled(url, *(f"ALTER TABLE {table} ALTER COLUMN id RESTART" for table in TABLES))
    outbox = await opened_there(url)
    found = await messages(outbox)
    calls = [
        lambda: outbox.add([draft()]),
        lambda: outbox.pause(ACME, "holidays"),
        lambda: outbox.settle([(found[0].key, Released("HTTP 500", counted=False, wait=0.0))]),
    ]
    for call in calls:
        with pytest.raises(StoreError, match=r"lags behind.*run.*relay outbox upgrade") as caught:
            await call()
        assert not caught.value.lasting
    await outbox.settle([(found[0].key, Delivered())])
    await asyncio.to_thread(upgrade, url)
    for call in calls:
        await call()


async def test_the_same_message_id_again_is_not_called_a_sequence_that_lags(url: str) -> None:
    """An application's own key keeps its error."""
    async with connected(url) as connection:
        await connection.execute(ENQUEUE)
        with pytest.raises(asyncpg.UniqueViolationError, match="relay_outbox_message"):
            await connection.execute(ENQUEUE)


async def test_relay_check_names_it_with_the_statement_and_its_page(url: str) -> None:
    await filled(url, "ALTER TABLE relay_outbox ALTER COLUMN id RESTART")
    settings = Settings.model_validate({"outbox": {"url": url}, "only_tenants": "NOBODY"})
    first, second = await preflight.check(settings)
    assert first.ok
    assert (second.what, second.ok, second.code) == ("outbox", False, "RELAY-159")
    assert "the next id of relay_outbox would be 1" in second.detail
    assert "setval" in second.hint
    await asyncio.to_thread(upgrade, url)
    assert [step.ok for step in await preflight.check(settings)] == [True]


async def test_rows_of_a_replica_keep_their_ids_and_new_ones_follow(url: str, opened_there: Open) -> None:
    """As logical replication brings them: the rows, and no sequence."""
    outbox = await opened_there(url)
    async with connected(url) as connection:
        await connection.execute(
            "INSERT INTO relay_outbox (id, tenant_id, document_name, message_id, payload) "
            "OVERRIDING SYSTEM VALUE SELECT n, 'ACME_PRD', 'Sync.SalesOrder', 'r' || n, 'x' "
            "FROM generate_series(1, 70) n"
        )
    (incident,) = await outbox.incidents()
    assert "would be 1, and its highest one is 70" in incident.detail
    await asyncio.to_thread(upgrade, url)
    (added,) = await outbox.add([draft()])
    (record,) = await outbox.show(MessageId(added), None)
    assert record.row == 71
