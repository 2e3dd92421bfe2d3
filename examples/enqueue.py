"""Store an order and enqueue its message in one transaction, with SQLite.

    python examples/enqueue.py shop.db SO-100001

Either both rows are stored or neither is: no order without its message, no message without its order. The
database is the application's own; the relay's tables are added to it once, and the relay is started with it:

    RELAY_OUTBOX__URL=sqlite:///shop.db relay outbox upgrade
    RELAY_OUTBOX__URL=sqlite:///shop.db relay run

The program imports nothing of the relay: the outbox is a table.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from xml.sax.saxutils import escape

DOCUMENT = Path(__file__).parent / "documents" / "Sync.SalesOrder.xml"


def place_order(connection: sqlite3.Connection, number: str) -> str:
    """Store the order and its message; return the message id, under which ION will know it."""
    payload = DOCUMENT.read_text(encoding="utf-8").replace("SO-100001", escape(number)).encode()
    with connection:  # commits, or rolls both back
        connection.execute("INSERT INTO orders (number, status) VALUES (?, 'open')", (number,))
        (message_id,) = connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, ordering_key, payload) "
            "VALUES ('ACME_PRD', 'Sync.SalesOrder', ?, ?) RETURNING message_id",
            (number, payload),
        ).fetchone()
    return str(message_id)


def main() -> None:
    """Place one order."""
    database, number = sys.argv[1:]
    # `timeout`: the relay writes to the same file, for milliseconds at a time
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS orders (number TEXT PRIMARY KEY, status TEXT NOT NULL)"
        )
        print(place_order(connection, number))


if __name__ == "__main__":
    main()
