"""What is recorded of an outbox beside its file can always be written, and be read again."""

import sqlite3
from contextlib import closing
from pathlib import Path

from relay.outbox import upgrade
from relay.outbox.sqlite.last_use import LastUse, format_use, parse_use, read_use

_INSERT = (
    "INSERT INTO relay_outbox (tenant_id, document_name, payload, state, settled_at)"
    " VALUES ('ACME', 'Sync.SalesOrder', 'x', 'delivered', ?)"
)


def test_an_instant_that_is_no_text_is_passed_by(tmp_path: Path) -> None:
    """Whoever switched the constraints off wrote it; a relay starts all the same."""
    upgrade(f"sqlite:///{tmp_path / 'outbox.db'}")
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for settled_at in ("2025-01-31T23:59:59.123Z", b"\xff"):
            connection.execute(_INSERT, (settled_at,))
        use = read_use(connection)
    assert use == LastUse(2, "2025-01-31T23:59:59.123Z")
    assert parse_use(format_use(1, use)) == use
