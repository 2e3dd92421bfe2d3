"""The demo's application: it enqueues documents with plain SQL, as any application would."""

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from relay.demo.workload import Document

_INSERT = """
INSERT INTO relay_outbox (tenant_id, document_name, ordering_key, parameters, payload) VALUES (?, ?, ?, ?, ?)
RETURNING id, message_id
"""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A message that the application enqueued. `at`: when its transaction was committed (epoch seconds)."""

    row: int
    tenant: str
    message_id: str
    document: str
    key: str
    at: float
    sha256: str = ""
    size: int = 0


class OrderApplication:
    """Remembers what it enqueued, so that the verdict does not depend on the outbox."""

    def __init__(self, outbox: Path) -> None:
        self._outbox = outbox
        self.enqueued: list[Enqueued] = []

    async def enqueue(self, *documents: Document) -> None:
        """All in one transaction. Raises sqlite3.Error where the outbox refuses them."""
        self.enqueued += await asyncio.to_thread(self._insert, documents)

    async def enqueue_steadily(self, documents: Sequence[Document], interval: float) -> None:
        """One after the other, `interval` seconds apart."""
        clock = asyncio.get_running_loop().time
        next_at = clock()
        for document in documents:
            await self.enqueue(document)
            next_at += interval
            await asyncio.sleep(max(next_at - clock(), 0))

    def _insert(self, documents: Sequence[Document]) -> list[Enqueued]:
        with closing(sqlite3.connect(self._outbox, timeout=20, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            ids = [
                connection.execute(
                    _INSERT, (one.tenant, one.name, one.key, json.dumps(one.parameters), one.payload)
                ).fetchone()
                for one in documents
            ]
            at = time.time()  # before the commit, so that no delivery time is measured too short
            connection.execute("COMMIT")
        return [
            Enqueued(
                *(row, one.tenant, message_id, one.name, one.key, at),
                hashlib.sha256(one.payload).hexdigest(),
                len(one.payload),
            )
            for one, (row, message_id) in zip(documents, ids, strict=True)
        ]
