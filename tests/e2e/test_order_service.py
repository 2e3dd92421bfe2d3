"""The order service stores order and message together on a real PostgreSQL, with no more rights than it needs."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support.postgres import Cluster, connected

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "examples" / "order_service.py"
SCHEMA = ROOT / "relay" / "outbox" / "postgres" / "0001_outbox.sql"
SECONDS = 60


@pytest.fixture
async def shop(postgres: Cluster, database: str) -> AsyncIterator[str]:
    """The database as the service's own role reaches it: it may make its tables, and insert into the outbox."""
    role = await postgres.role("shop")
    await postgres.execute(
        SCHEMA.read_text(),
        f"GRANT CREATE ON SCHEMA public TO {role}",
        f"GRANT INSERT ON relay_outbox TO {role}",
        database=database,
    )
    yield postgres.url_of(database, role)
    await postgres.drop_role(role, database)


async def place(url: str, *words: str) -> tuple[int, str, str]:
    service = await asyncio.create_subprocess_exec(
        sys.executable, SERVICE, url, *words, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(SECONDS):
        out, err = await service.communicate()
    assert service.returncode is not None
    return service.returncode, out.decode(), err.decode()


async def test_the_service_stores_each_order_and_its_message_together(
    postgres: Cluster, database: str, shop: str
) -> None:
    assert await place(shop, "SO-1", "SO-2") == (0, "SO-1\nSO-2\n", "")
    async with connected(postgres.url_of(database)) as connection:
        orders = await connection.fetch("SELECT number FROM orders ORDER BY number")
        rows = await connection.fetch("SELECT * FROM relay_outbox ORDER BY id")
    assert [order["number"] for order in orders] == ["SO-1", "SO-2"]
    assert [(row["tenant_id"], row["document_name"], row["state"]) for row in rows] == [
        ("ACME_PRD", "Sync.SalesOrder", "pending")
    ] * 2
    for row, number in zip(rows, ("SO-1", "SO-2"), strict=True):
        assert number.encode() in row["payload"]
        assert ET.fromstring(row["payload"]).tag == "{http://schema.infor.com/InforOAGIS/2}SyncSalesOrder"


async def test_a_second_order_of_one_number_leaves_no_message(
    postgres: Cluster, database: str, shop: str
) -> None:
    code, out, err = await place(shop, "SO-1", "SO-1")
    assert (code, out) == (1, "SO-1\n")
    assert "UniqueViolation" in err
    async with connected(postgres.url_of(database)) as connection:
        assert await connection.fetchval("SELECT count(*) FROM relay_outbox") == 1


async def test_a_message_that_is_refused_leaves_no_order(postgres: Cluster, database: str, shop: str) -> None:
    """A tenant that cannot be one: the order is rolled back with it, and the constraint's name says why."""
    code, _, err = await place(shop, "SO-1", "--tenant", "no tenant")
    assert code == 1
    assert "tenant_id_is_1_to_22_letters_digits_underscores" in err
    async with connected(postgres.url_of(database)) as connection:
        assert await connection.fetchval("SELECT count(*) FROM orders") == 0
