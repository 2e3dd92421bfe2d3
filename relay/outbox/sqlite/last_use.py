"""What a relay last saw of its outbox.

It is kept beside the file, so that an older copy that is put back in its place is noticed.
"""

import json
import sqlite3
from dataclasses import asdict, dataclass

from relay.core.ports import RestoredBackup

_NEWEST = """
SELECT coalesce(sum(delivered), 0), (
    SELECT max(settled_at) FROM (
        SELECT settled_at, state FROM relay_outbox INDEXED BY relay_outbox_settled
        WHERE state = 'delivered' OR state = 'dropped' ORDER BY settled_at DESC LIMIT 1000)
    WHERE state = 'delivered')
FROM relay_counts
"""


@dataclass(frozen=True, slots=True)
class LastUse:
    """`delivered`: messages in that state; `newest`: when the newest of them was delivered, as stored.

    `restored`: the outbox was replaced by a backup since, and no relay has said so yet. `sent_again`: the
    messages that were delivered after that backup was made; None: they could not be counted.
    """

    delivered: int
    newest: str | None
    restored: bool = False
    sent_again: int | None = None


def read_use(connection: sqlite3.Connection) -> LastUse:
    """What the outbox holds now."""
    delivered, newest = connection.execute(_NEWEST).fetchone()
    return LastUse(delivered, newest)


def restored_since(before: LastUse | None, now: LastUse) -> RestoredBackup | None:
    """Whether the outbox is older than it was: what was delivered stays so, and has the newest time."""
    if before is None:
        return None
    if before.restored:
        return RestoredBackup(before.sent_again, exact=before.sent_again is not None)
    if before.newest is None or (now.newest is not None and now.newest >= before.newest):
        return None
    missing = before.delivered - now.delivered
    return RestoredBackup(missing if missing > 0 else None, exact=False)


def format_use(pid: int, use: LastUse | None) -> bytes:
    """The content of the lock file: the process' number, and what was recorded."""
    return f"{pid}\n{'' if use is None else json.dumps(asdict(use))}\n".encode()


def parse_use(content: bytes) -> LastUse | None:
    """From the content of the lock file; None: nothing that can be read was recorded."""
    _, _, record = content.partition(b"\n")
    try:
        return LastUse(**json.loads(record))
    except (ValueError, TypeError):
        return None
