"""This file is the demo's application: it writes into the outbox with plain SQL, as any would."""

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from relay.demo.evidence import Enqueued
from relay.demo.workload import Paper

_INSERT = """
INSERT INTO relay_outbox (tenant_id, document_name, ordering_key, parameters, payload) VALUES (?, ?, ?, ?, ?)
RETURNING id, message_id
"""


class Application:
    """Remembers by itself what it has handed over: the outbox is not asked what it should have delivered."""

    def __init__(self, outbox: Path) -> None:
        self._outbox = outbox
        self.handed: list[Enqueued] = []

    async def enqueue(self, *papers: Paper) -> None:
        """All in one transaction. Raises sqlite3.Error where the outbox does not take them."""
        self.handed += await asyncio.to_thread(self._insert, papers)

    async def hand_over_steadily(self, papers: Sequence[Paper], every: float) -> None:
        """One after the other, so many seconds apart."""
        clock = asyncio.get_running_loop().time
        next_at = clock()
        for paper in papers:
            await self.enqueue(paper)
            next_at += every
            await asyncio.sleep(max(next_at - clock(), 0))

    def _insert(self, papers: Sequence[Paper]) -> list[Enqueued]:
        with closing(sqlite3.connect(self._outbox, timeout=20, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            ids = [connection.execute(_INSERT, _values(paper)).fetchone() for paper in papers]
            at = time.time()  # the message exists from the commit on, so no delivery is shown too quick
            connection.execute("COMMIT")
        return [
            _handed(paper, row, message_id, at) for paper, (row, message_id) in zip(papers, ids, strict=True)
        ]


def _values(paper: Paper) -> tuple[str, str, str, str, bytes]:
    return paper.tenant, paper.document, paper.key, json.dumps(paper.parameters), paper.payload


def _handed(paper: Paper, row: int, message_id: str, at: float) -> Enqueued:
    digest = hashlib.sha256(paper.payload).hexdigest()
    return Enqueued(row, paper.tenant, message_id, paper.document, paper.key, digest, len(paper.payload), at)
