"""Measure the cost of the store: reading and settling a message, and keeping idle tenants."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import asyncpg

from relay.core.model import Delivered, DocumentName, Message, RowId, TenantId
from relay.core.ports import Outbox
from relay.outbox import open_outbox
from tools.bench_relay import cpu_seconds, environment_for, start, status, stop, write_tenants
from tools.stores import Store

TENANT = TenantId("BENCH")
DOCUMENT = DocumentName("Sync.SalesOrder")
GROUP = 128
"""Messages of one read and of one commit, as on the relay's hot path."""

_PAYLOAD = b"x" * 2000
_SETTLE_IN = 30.0


def measure_store(store: Store, folder: Path, backlog: int, rounds: int) -> None:
    """Measure the microseconds per message of reading and settling, in groups; the median of the rounds."""
    folder.mkdir()
    url = store.create(folder)
    application = store.connect(url)
    application.insert((TENANT, _PAYLOAD, f"m{number}") for number in range(backlog))
    application.close()
    reads, settles = asyncio.run(_rounds(url, rounds))
    read, settle = sorted(reads)[len(reads) // 2], sorted(settles)[len(settles) // 2]
    print(
        f"  backlog {backlog:>9,}: read {read:5.1f} µs  settle {settle:5.1f} µs a message, groups of {GROUP}"
    )


async def _rounds(url: str, rounds: int) -> tuple[list[float], list[float]]:
    outbox: Outbox = await open_outbox(url, notify=False)
    reads, settles = [], []
    try:
        for _ in range(rounds):
            found: list[Message] = []
            reads.append(await _timed(partial(_read, outbox, found)))
            settles.append(await _timed(partial(_settle, outbox, found)))
    finally:
        await outbox.close()
    return reads, settles


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1e6 / GROUP


async def _read(outbox: Outbox, into: list[Message]) -> None:
    known: frozenset[RowId] = frozenset()
    into += await outbox.due(TENANT, frozenset({DOCUMENT}), frozenset(), known, GROUP, 100_000_000)
    if len(into) != GROUP:
        sys.exit(f"only {len(into)} messages remained; use larger --backlogs")


async def _settle(outbox: Outbox, these: list[Message]) -> None:
    await outbox.settle([(message.key, Delivered()) for message in these])


# --- idle tenants -----------------------------------------------------------------------------------


def measure_idle(store: Store, folder: Path, tenants: int, seconds: float) -> None:
    """Measure processor time and transactions per minute of a relay whose tenants have nothing to send."""
    folder.mkdir()
    url = store.create(folder)
    write_tenants(folder / "tenants", tenants)
    environment = environment_for(url) | {"RELAY_TENANTS_DIR": str(folder / "tenants")}
    process = start(folder, environment)
    try:
        time.sleep(_SETTLE_IN)
        used, transactions = cpu_seconds(process.pid), _transactions(url)
        time.sleep(seconds)
        cpu = (cpu_seconds(process.pid) - used) * 60 / seconds
        transactions_a_minute = (_transactions(url) - transactions) * 60 / seconds
        memory = status(process.pid, "VmRSS") // 1024
    finally:
        stop(process)
    database = (
        f", {transactions_a_minute:.0f} transactions per minute" if url.startswith("postgresql") else ""
    )
    print(f"  {tenants:,} tenants: {cpu:.2f} s of processor time per minute{database}, {memory} MiB")


def _transactions(url: str) -> int:
    """Return the number of transactions that the database has committed, with this one."""
    return asyncio.run(_committed(url)) if url.startswith("postgresql") else 0


async def _committed(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        statement = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        count: int = await connection.fetchval(statement)
        return count
    finally:
        await connection.close()
