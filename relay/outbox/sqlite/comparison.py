"""What a backup does not know: how it differs from the outbox that it replaces."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from relay.outbox.sqlite.database import prepare

_SENT_AGAIN = """
SELECT count(*) FROM backup.relay_outbox AS old LEFT JOIN relay_outbox AS new
    ON new.id = old.id AND new.message_id = old.message_id AND new.tenant_id = old.tenant_id
WHERE old.state = 'pending' AND coalesce(new.state, 'delivered') = 'delivered'
"""

_WAITING_AGAIN = """
SELECT count(*) FROM backup.relay_outbox AS old JOIN relay_outbox AS new
    ON new.id = old.id AND new.message_id = old.message_id AND new.tenant_id = old.tenant_id
WHERE old.state = 'pending' AND new.state IN ('parked', 'dropped')
"""

_MISSING = """
SELECT count(*), coalesce(sum(new.state IN ('pending', 'parked')), 0)
FROM relay_outbox AS new LEFT JOIN backup.relay_outbox AS old
    ON old.id = new.id AND old.message_id = new.message_id AND old.tenant_id = new.tenant_id
WHERE old.id IS NULL
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Messages that are otherwise in the backup than in the outbox that it replaces.

    `sent_again`: pending again, though they were delivered since (or are gone, as retention deletes them);
    `waiting_again`: pending again, though they were parked or dropped since; `missing`: enqueued since, so
    not in the backup; `missing_undelivered`: those of them that are not delivered.
    """

    sent_again: int
    waiting_again: int
    missing: int
    missing_undelivered: int


def compare(current: Path, backup: Path) -> Comparison:
    """Raises sqlite3.Error where one of them cannot be read. Changes neither."""
    with contextlib.closing(prepare(current, "mode=ro")) as connection:
        connection.execute("ATTACH ? AS backup", (f"{backup.absolute().as_uri()}?mode=ro",))
        (sent_again,) = connection.execute(_SENT_AGAIN).fetchone()
        (waiting_again,) = connection.execute(_WAITING_AGAIN).fetchone()
        missing, undelivered = connection.execute(_MISSING).fetchone()
    return Comparison(sent_again, waiting_again, missing, undelivered)
