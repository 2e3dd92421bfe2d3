"""The rights that are enough on PostgreSQL: an application's, and the relay's at run time.

The grants are those that `docs/postgres.md` gives, taken from there; every other right is taken away first.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from relay.core.activity import EVERYONE, MINUTES, Activity, ActivityKey
from relay.core.admin import BulkAction, Count, Filter
from relay.core.model import (
    Delivered,
    DocumentName,
    Draft,
    MessageId,
    Parked,
    Released,
    Settlement,
    TenantId,
    TenantState,
)
from relay.outbox import StoredOutbox, open_outbox, upgrade
from tests.contract.stores import drop, park, retry
from tests.support.postgres import Cluster, connected

ACME = TenantId("ACME_PRD")
ORDER = DocumentName("Sync.SalesOrder")
GUIDE = Path(__file__).parents[2] / "docs" / "postgres.md"

HAND_OVER = (
    "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('ACME_PRD', 'Sync.SalesOrder', 'x')"
)

TABLES = (
    "activity",
    "outbox",
    "history",
    "counts",
    "tenants",
    "relays",
    "holders",
    "leases",
    "audit",
    "identity",
    "schema",
)


@dataclass(frozen=True, slots=True)
class Roles:
    """A database, and its URL for each role. `owner` made the tables."""

    owner: str
    relay: str
    application: str


def grants(role: str) -> list[str]:
    """The statements of the guide that grant something to the role."""
    text = GUIDE.read_text("utf-8")
    blocks = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    statements = [statement.strip() for block in blocks for statement in block.split(";")]
    return [
        statement
        for statement in statements
        if re.search(rf"\AGRANT\b.*\bTO\s+{role}\Z", statement, re.DOTALL)
    ]


@pytest.fixture
async def roles(postgres: Cluster) -> AsyncIterator[Roles]:
    """The two roles of the guide, under names of this test's own."""
    async with postgres.outbox() as url:
        database = url.rpartition("/")[2]
        names = {role: await postgres.role(role) for role in ("ion_relay", "application")}
        await postgres.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC", database=database)
        for role, name in names.items():
            statements = [statement.replace(f"TO {role}", f"TO {name}") for statement in grants(role)]
            assert statements
            await postgres.execute(*statements, database=database)
        yield Roles(url, *(postgres.url_of(database, name) for name in names.values()))
        for name in names.values():
            await postgres.drop_role(name, database)


@pytest.fixture
async def relay(roles: Roles) -> AsyncIterator[StoredOutbox]:
    """The outbox as the relay has it at run time."""
    outbox = await open_outbox(roles.relay, lease_seconds=15.0)
    yield outbox
    await outbox.close()


async def refused(url: str, statements: Iterable[str]) -> None:
    async with connected(url) as connection:
        for statement in statements:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


# --- the application ------------------------------------------------------------------------------


async def test_an_application_hands_over_with_the_right_to_insert_alone(
    roles: Roles, relay: StoredOutbox
) -> None:
    """In its own transaction; what the outbox keeps beside the row is kept with the owner's rights."""
    async with connected(roles.application) as connection:
        async with connection.transaction():
            await connection.execute(HAND_OVER)
        await connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters, "
            "payload) VALUES ('acme_prd', 'Sync.SalesOrder', 'order-7', 'lid://a.b.c', 'k', '{\"location\": \"N\"}', "
            "convert_to('Grüße', 'UTF8'))"
        )
    found = await relay.due(ACME, {ORDER}, frozenset(), frozenset(), 10, 1000)
    assert [message.payload for message in found] == [b"x", "Grüße".encode()]
    count = (await relay.counts())[ACME]
    assert (count.pending, count.delivered) == (2, 0)


async def test_an_applications_insert_wakes_the_relay(roles: Roles, relay: StoredOutbox) -> None:
    await relay.arrivals(0)
    await relay.arrivals(0.1)
    waiting = asyncio.create_task(relay.arrivals(60))
    await asyncio.sleep(0)
    async with connected(roles.application) as connection:
        await connection.execute(HAND_OVER)
    async with asyncio.timeout(10):
        assert (await waiting).pending == {ACME}


async def test_an_application_reads_nothing(roles: Roles) -> None:
    await refused(roles.application, [f"SELECT 1 FROM relay_{table}" for table in TABLES])
    await refused(roles.application, [f"{HAND_OVER} RETURNING id"])


async def test_an_application_writes_nothing_else(roles: Roles) -> None:
    await refused(
        roles.application,
        [
            "UPDATE relay_outbox SET state = 'delivered'",
            "DELETE FROM relay_outbox",
            "TRUNCATE relay_outbox",
            "INSERT INTO relay_counts VALUES ('ACME_PRD', 1, 0, 0, 0)",
            "INSERT INTO relay_history (message_row, what, detail) VALUES (1, 'parked', 'x')",
            "INSERT INTO relay_tenants (tenant_id) VALUES ('ACME_PRD')",
            "INSERT INTO relay_audit (who, what, selection, reason, outcome) VALUES ('x', 'x', '', '', 'done')",
            "INSERT INTO relay_relays (relay, token, details) VALUES ('x', 'x', '{}')",
            "INSERT INTO relay_activity (span, start, tenant_id, source) VALUES (60, 0, 'ACME_PRD', 'x')",
            "INSERT INTO relay_holders (token, relay, until) VALUES ('x', 'x', now())",
            "INSERT INTO relay_leases (tenant_id) VALUES ('ACME_PRD')",
            "INSERT INTO relay_schema VALUES (99, 99)",
            "CREATE TABLE relay_mine ()",
            "ALTER TABLE relay_outbox DISABLE TRIGGER ALL",
            "DROP TABLE relay_outbox",
        ],
    )


# --- the relay ------------------------------------------------------------------------------------


async def test_the_relay_does_all_its_work_with_its_rights(relay: StoredOutbox) -> None:
    fates: list[Settlement] = [Delivered(), Released("HTTP 500", True, 0.0), Parked("HTTP 400")]
    assert relay.leases is not None
    assert await relay.beat("relay-1", {"version": "1"}) is False
    assert (await relay.leases.renew()).relays == {"relay-1"}
    assert await relay.leases.acquire([ACME]) == {ACME}
    await relay.add([Draft(ACME, ORDER, b"x", MessageId(f"m{i}")) for i in range(3)])
    assert await relay.add([Draft(ACME, ORDER, b"x", MessageId("m0"))]) == ["m0"]
    found = await relay.due(ACME, await relay.documents(ACME), frozenset(), frozenset(), 10, 1000)
    await relay.settle([(message.key, fate) for message, fate in zip(found, fates, strict=True)])
    await relay.settle([(found[1].key, Delivered())])
    await relay.report([TenantState(ACME, "idle", "why", datetime.now(UTC), None)])
    assert await relay.beat("relay-1", {"version": "1"}) is True
    assert (await relay.counts())[ACME] == Count(delivered=2, parked=1)
    assert await relay.unclean() is False
    assert await relay.purge_payloads(-1.0, 10) == 2
    assert await relay.prune(-1.0, 10) == 2
    assert await relay.prune_audit(-1.0, 10) == 0
    counts = {ActivityKey("a", MINUTES, 0, ACME): Activity(delivered=1)}
    for _ in range(2):
        await relay.record_activity(counts)
        await relay.record_waiting(0.0)
    assert len(await relay.activity(MINUTES, [0], [ACME, EVERYONE])) == 2
    assert await relay.prune_activity(10) == 3
    await relay.leases.release([ACME])
    await relay.leave("relay-1")
    assert await relay.relays() == []


async def test_the_relay_sees_a_sequence_that_lags_behind(roles: Roles, relay: StoredOutbox) -> None:
    await relay.add([Draft(ACME, ORDER, b"x")])
    assert await relay.incidents() == []
    assert await relay.notification_queue() == 0
    async with connected(roles.owner) as connection:
        await connection.execute("ALTER TABLE relay_outbox ALTER COLUMN id RESTART")
    (incident,) = await relay.incidents()
    assert "the next id of relay_outbox would be 1, and its highest one is 1" in incident.detail


async def test_a_role_that_may_not_read_the_sequences_is_told_what_to_grant(
    roles: Roles, relay: StoredOutbox
) -> None:
    async with connected(roles.owner) as connection:
        await connection.execute(
            f"REVOKE SELECT ON SEQUENCE relay_audit_id_seq FROM {urlsplit(roles.relay).username}"
        )
    (incident,) = await relay.incidents()
    assert "permission denied for sequence relay_audit_id_seq" in incident.detail
    assert "GRANT SELECT" in incident.hint
    assert await relay.counts() == {}


async def test_an_operator_does_everything_with_the_relays_rights(relay: StoredOutbox) -> None:
    await relay.add([Draft(ACME, ORDER, b"x", MessageId("m"))])
    assert await park(relay, Filter(), "later") == 1
    assert await retry(relay, Filter()) == 1
    assert await drop(relay, Filter(), "never mind") == 1
    (record,) = await relay.show(MessageId("m"), None)
    assert [what for _, what, _ in record.history] == ["parked", "retried", "dropped"]
    assert await relay.before(record, "key", (), 5) == []
    await relay.pause(ACME, "holidays")
    await relay.resume(ACME, "ann@desk")
    await relay.ask(ACME, "ann@desk")
    await relay.note("ann@desk", "show", ACME, "m")
    assert (await relay.notification()).controls[ACME].paused is None
    assert (await relay.preview("retry", Filter())).total == 1
    assert await relay.cancel(await relay.begin(BulkAction("retry", Filter(), "ann@desk")), "bob@desk")
    assert len(await relay.audit(100, ACME)) == len(await relay.audit(100)) == 9
    assert await relay.payload(record.row, 10) == b"x"
    assert await relay.queue_ages(None, 10) == []
    assert await relay.states() == {}


async def test_who_may_decide_about_tenants_may_write_the_audit_once_the_tables_have_one(
    roles: Roles, relay: StoredOutbox
) -> None:
    """The tables are upgraded under relays whose rights are those of version 1."""
    async with connected(roles.owner) as connection:
        sequences = "relay_outbox_id_seq, relay_history_id_seq"
        await connection.execute(
            f"REVOKE SELECT ON SEQUENCE {sequences} FROM {urlsplit(roles.relay).username};"
            "DROP TABLE relay_audit; DROP TABLE relay_activity; DELETE FROM relay_schema WHERE version >= 2"
        )
    await asyncio.to_thread(upgrade, roles.owner)
    assert await relay.incidents() == []
    await relay.record_waiting(0.0)
    await relay.pause(ACME, "holidays")
    assert [entry.who for entry in await relay.audit(10)] == ["relay"]
    await refused(roles.application, ["SELECT 1 FROM relay_audit"])


async def test_the_relay_may_not_change_the_tables_themselves(roles: Roles) -> None:
    await refused(
        roles.relay,
        [
            "INSERT INTO relay_schema VALUES (99, 99)",
            "TRUNCATE relay_outbox",
            "CREATE TABLE relay_mine ()",
            "ALTER TABLE relay_outbox DISABLE TRIGGER ALL",
            "CREATE INDEX ON relay_outbox (state)",
            "DROP TABLE relay_outbox",
            "DROP FUNCTION relay_outbox_inserted() CASCADE",
        ],
    )
