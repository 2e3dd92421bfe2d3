"""An order service with SQLAlchemy 2 and PostgreSQL that enqueues in the transaction that stores the order.

    pip install "sqlalchemy[asyncio]" asyncpg
    RELAY_OUTBOX__URL=postgresql://owner@localhost/shop relay outbox upgrade
    python examples/order_service.py postgresql://shop@localhost/shop SO-100001 SO-100002

Either both rows are stored or neither is: no order without its message, no message without its order.
The service imports nothing of the relay: the outbox is a table, and INSERT is the only privilege that it
needs there. The relay runs elsewhere, in any number of replicas, with the same RELAY_OUTBOX__URL.
"""

import argparse
import asyncio
from pathlib import Path
from xml.sax.saxutils import escape

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DOCUMENT = Path(__file__).parent / "documents" / "Sync.SalesOrder.xml"

ENQUEUE = text(
    "INSERT INTO relay_outbox (tenant_id, document_name, payload) "
    "VALUES (:tenant, 'Sync.SalesOrder', :payload)"
)
"""The payload is bytes. In plain SQL: convert_to('<SyncSalesOrder …/>', 'UTF8')."""


class Table(DeclarativeBase):
    """The service's own tables."""


class Order(Table):
    """An order."""

    __tablename__ = "orders"

    number: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="open")


def engine_of(url: str) -> AsyncEngine:
    """Connections to `postgresql://…`, in every form that libpq and the relay accept."""

    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(url, timeout=10, command_timeout=30)

    return create_async_engine("postgresql+asyncpg://", async_creator=connect)


async def place_order(session: AsyncSession, tenant: str, number: str) -> None:
    """Within the caller's transaction, store the order and enqueue its message."""
    payload = DOCUMENT.read_text(encoding="utf-8").replace("SO-100001", escape(number)).encode()
    session.add(Order(number=number))
    await session.flush()  # an order that is refused gets no message
    await session.execute(ENQUEUE, {"tenant": tenant, "payload": payload})


async def serve(url: str, tenant: str, numbers: list[str], every: float) -> None:
    """Place the orders one by one, `every` seconds apart, each in a transaction of its own."""
    engine = engine_of(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Table.metadata.create_all)
        sessions = async_sessionmaker(engine)
        for number in numbers:
            async with sessions.begin() as session:  # commits, or rolls both back
                await place_order(session, tenant, number)
            print(number, flush=True)
            await asyncio.sleep(every)
    finally:
        await engine.dispose()


def main() -> None:
    """Place orders."""
    parser = argparse.ArgumentParser(description="Place orders, each with its message, in one transaction.")
    parser.add_argument("url", help="postgresql://user@host/database")
    parser.add_argument("numbers", nargs="+", help="the orders' numbers")
    parser.add_argument("--tenant", default="ACME_PRD")
    parser.add_argument("--every", type=float, default=0.0, help="seconds between two orders")
    given = parser.parse_args()
    asyncio.run(serve(given.url, given.tenant, given.numbers, given.every))


if __name__ == "__main__":
    main()
