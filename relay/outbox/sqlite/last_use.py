"""What a relay last saw of its outbox.

It is kept beside the file, so that an older copy that is put back in its place is noticed.
"""

import json
import sqlite3
from dataclasses import asdict, dataclass, replace

from relay.core.ports import RestoredBackup

_NEWEST = """
SELECT coalesce(sum(delivered), 0), (
    SELECT max(settled_at) FROM (
        SELECT settled_at, state FROM relay_outbox INDEXED BY relay_outbox_settled
        WHERE state = 'delivered' OR state = 'dropped' ORDER BY settled_at DESC LIMIT 100)
    WHERE state = 'delivered' AND typeof(settled_at) = 'text')
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
    if before.restored and before.sent_again is not None:
        return RestoredBackup(before.sent_again, exact=True)
    missing = before.delivered - now.delivered
    if now.newest is None:
        is_older = before.newest is not None and missing > 0
    else:
        is_older = before.newest is not None and now.newest < before.newest
    if is_older and missing > 0:  # retention may have deleted more of them
        return RestoredBackup(missing, exact=False)
    return RestoredBackup(None, exact=False) if is_older or before.restored else None


def replaced_use(before: LastUse | None, sent_again: int | None) -> LastUse:
    """What is recorded when a backup is put back, perhaps after another one that no start has reported."""
    before = before or LastUse(0, None)
    if before.restored:
        known = None not in (before.sent_again, sent_again)
        sent_again = (before.sent_again or 0) + (sent_again or 0) if known else None
    return replace(before, restored=True, sent_again=sent_again)


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
