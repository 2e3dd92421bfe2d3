"""An application that enqueues messages: plain INSERTs, as any program in any language would.

It knows the table and SQL, and nothing of the relay.
"""

import random
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ORDER = "Sync.SalesOrder"
SHIPMENT = "Sync.Shipment"

_INSERT = (
    "INSERT INTO relay_outbox (tenant_id, document_name, payload, message_id, ordering_key, parameters)"
    " VALUES (:tenant, :document, :payload, :message_id, :key, :parameters) RETURNING message_id"
)


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A row to insert; None: the table's own default."""

    tenant: str
    payload: bytes | str
    document: str = ORDER
    key: str | None = None
    message_id: str | None = None
    parameters: str | None = None


class Application:
    """One that uses the outbox at `path`. Each call opens a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """A connection without implicit transactions."""
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            yield connection

    # --- enqueueing ------------------------------------------------------------------------------

    def insert(
        self, tenant: str, payload: bytes | str | None = None, document: str = ORDER, **more: Any
    ) -> str:
        """One message; its id."""
        parcel = OutboxRow(tenant, order(1) if payload is None else payload, document, **more)
        return self.insert_all([parcel])[0]

    def insert_plain(self, tenant: str, document: str, payload: bytes | str) -> None:
        """The three columns that are enough."""
        with self.connected() as connection:
            connection.execute(
                "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES (?, ?, ?)",
                (tenant, document, payload),
            )

    def insert_all(self, parcels: Iterable[OutboxRow]) -> list[str]:
        """Several, in one transaction; their ids."""
        with self.connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            ids = [
                str(
                    connection.execute(
                        _INSERT, {n: getattr(parcel, n) for n in OutboxRow.__slots__}
                    ).fetchone()[0]
                )
                for parcel in parcels
            ]
            connection.execute("COMMIT")
        return ids

    # --- looking ----------------------------------------------------------------------------------

    def ask(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """The rows of a query."""
        with self.connected() as connection:
            return [dict(row) for row in connection.execute(sql, values)]

    def row(self, message_id: str) -> Mapping[str, Any]:
        """A message, without its payload."""
        (row,) = self.ask(
            "SELECT id, tenant_id, message_id, document_name, state, attempts, reason, not_before"
            " FROM relay_outbox WHERE message_id = ?",
            message_id,
        )
        return row

    def states(self, tenant: str = "%") -> dict[str, int]:
        """How many messages are in each state."""
        rows = self.ask(
            "SELECT state, count(*) AS n FROM relay_outbox WHERE tenant_id LIKE ? GROUP BY state", tenant
        )
        return {row["state"]: row["n"] for row in rows}

    def delivered(self, tenant: str = "%") -> int:
        """How many are delivered."""
        return self.states(tenant).get("delivered", 0)

    def is_all_delivered(self, tenant: str = "%") -> bool:
        """Whether there are messages and all are delivered."""
        return set(self.states(tenant)) == {"delivered"}

    def live_state(self, tenant: str) -> str | None:
        """What the tenant's worker last wrote of itself."""
        rows = self.ask("SELECT state FROM relay_tenants WHERE tenant_id = ?", tenant)
        return rows[0]["state"] if rows else None


# --- documents ------------------------------------------------------------------------------------


def order(number: int, size: int = 600) -> bytes:
    """A BOD as applications send it, of about `size` bytes; the same number gives the same bytes."""
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<SyncSalesOrder xmlns="http://schema.infor.com/InforOAGIS/2" releaseID="9.2"><ApplicationArea>'
        f"<Sender><LogicalID>lid://acme.orders.1</LogicalID></Sender><BODID>order-{number}</BODID>"
        f"</ApplicationArea><DataArea><Sync/><SalesOrder><DocumentID><ID>{number}</ID></DocumentID><Note>"
    )
    tail = "</Note></SalesOrder></DataArea></SyncSalesOrder>\n"
    room = max(size - len(head) - len(tail), 0)
    words = random.Random(number).choices(
        ("steel", "pump", "valve", "Zürich", "urgent", "pallet"), k=room // 6
    )
    return (head + " ".join(words) + tail).encode()


def noise(seed: int, size: int) -> bytes:
    """Bytes of every value, which no compression makes smaller."""
    return random.Random(seed).randbytes(size)
