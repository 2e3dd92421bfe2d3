"""A backup of an outbox file, and a backup put back in the file's place."""

import contextlib
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from relay.core.ports import StoreError
from relay.observability.regular_file import file_kind
from relay.outbox.sqlite import (
    audit,
    comparison,
    copying,
    errors,
    read_only,
    schema,
    sole_relay,
    write_ahead_log,
)
from relay.outbox.sqlite.comparison import Comparison
from relay.outbox.sqlite.copying import Progress
from relay.outbox.sqlite.database import connect, prepare
from relay.outbox.sqlite.file_lock import FileLock, sibling
from relay.outbox.sqlite.last_use import replaced_use

States = Mapping[str, int]
"""Messages by state."""

_BY_STATE = """
SELECT coalesce(sum(pending), 0), coalesce(sum(delivered), 0), coalesce(sum(parked), 0),
       coalesce(sum(dropped), 0)
FROM relay_counts
"""

_END_OF_RELAYS = (
    "DELETE FROM relay_relays",
    """
    UPDATE relay_tenants SET relay = NULL, state = NULL, reason = NULL, since = NULL, next_try = NULL,
        kind = NULL, documents = NULL
    """,
)
"""A relay that ran when the backup was made does not run on it."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made: what it holds, and its size."""

    path: Path
    bytes: int
    states: States


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that was put back. `replaced`: where the outbox that stood there is kept, if one did.

    `compared` None: what stood there could not be read, or nothing did.
    """

    path: Path
    states: States
    replaced: Path | None
    compared: Comparison | None


def back_up(path: Path, target: Path, *, force: bool, progress: Progress) -> Backup:
    """Copy the outbox into a new file while it is in use. `force`: also over an existing file."""
    errors.require(path, create=False)
    _require_free(path, target, force=force)
    write_ahead_log.require_own(path)
    with copying.unfinished(target) as part:
        try:
            with contextlib.closing(connect(path)) as source:
                copying.require_outbox(source, path)
                copying.copy_file(source, part, progress)
        except sqlite3.Error as error:
            raise copying.explain(error, path, part) from error
        with contextlib.closing(connect(part)) as copy:
            copying.require_whole(copy, part, f"the outbox {path}")
            states = _states(copy)
        copying.name_durably(part, target)
    return Backup(target, target.stat().st_size, states)


def _require_free(path: Path, target: Path, *, force: bool) -> None:
    if target.exists():
        if path.samefile(target):
            raise StoreError(f"{target} is the outbox itself; give the backup another name")
        kind = file_kind(target.stat().st_mode)
        if kind is not None:  # root could replace a device
            raise StoreError(f"{target} is {kind}; give the backup another name")
    if os.path.lexists(target) and not force:
        raise StoreError(f"{target} exists; give the backup another name, or replace it with --force")


def restore(path: Path, backup: Path, *, who: str, progress: Progress) -> Restored:
    """Put the backup in the outbox' place, at once; a kill at any moment leaves the old one or the new one.

    What stood there is kept beside it. Raises StoreError while a relay or another program uses it.
    """
    errors.require(path, create=True)
    if not backup.is_file():
        raise StoreError(f"there is no backup at {backup}; nothing was changed")
    if path.exists() and path.samefile(backup):
        raise StoreError(f"{backup} is the outbox itself; give a backup of it; nothing was changed")
    lock = FileLock(path, create=False)
    try:
        return _restore(path, backup, lock, who, progress)
    finally:
        lock.release()


def _restore(path: Path, backup: Path, lock: FileLock, who: str, progress: Progress) -> Restored:
    target = Path(os.path.realpath(path))
    _require_unused(target)
    with copying.unfinished(target) as part:
        _copy_backup(backup, part, progress)
        compared = _settle_old(target, part)
        with contextlib.closing(connect(part)) as copy:
            states = _prepare(copy, part, backup, who, compared)
        copying.adopt_rights(part, target)
        if not lock.exclude_all():
            raise _used(target)
        replaced = _set_aside(target)
        copying.name_durably(part, target)
    lock.record(replaced_use(lock.before, None if compared is None else compared.sent_again))
    return Restored(path, states, replaced, compared)


def _require_unused(target: Path) -> None:
    if write_ahead_log.users(target):
        raise _used(target)
    with contextlib.suppress(sqlite3.Error), contextlib.closing(prepare(target, "mode=ro")) as connection:
        sole_relay.require_alone(connection, target)


def _used(target: Path) -> StoreError:
    users = ", ".join(write_ahead_log.users(target)) or "a program that is not visible from here"
    return StoreError(
        f"the outbox {target} is open in {users}; stop every program that uses it; nothing was changed"
    )


def _copy_backup(backup: Path, part: Path, progress: Progress) -> None:
    try:
        with contextlib.closing(read_only.connect(backup)) as source:
            copying.require_outbox(source, backup)
            copying.copy_file(source, part, progress)
    except sqlite3.Error as error:
        raise copying.explain(error, backup, part) from error
    with contextlib.closing(connect(part)) as copy:
        copying.require_whole(copy, part, f"the backup {backup}")


def _settle_old(target: Path, part: Path) -> Comparison | None:
    """Compare what stands there with the backup, and write its log back, so that it is whole without it."""
    compared = None
    try:
        write_ahead_log.require_own(target)
    except StoreError:  # both are kept as they are
        return None
    with contextlib.suppress(sqlite3.Error):  # missing, damaged, or not an outbox
        compared = comparison.compare(target, part)
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connect(target)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return compared


def _prepare(
    copy: sqlite3.Connection, part: Path, backup: Path, who: str, compared: Comparison | None
) -> States:
    """Bring the copy to this relay's schema, and say in its audit where it comes from."""
    schema.upgrade(copy, part, adopt=False)
    copy.execute("BEGIN IMMEDIATE")
    for statement in _END_OF_RELAYS:
        copy.execute(statement)
    again = "unknown" if compared is None else str(compared.sent_again)
    audit.note(copy, who, "restore", None, f"backup {backup}", f"delivered since, may be sent again: {again}")
    copy.execute("COMMIT")
    return _states(copy)


def _set_aside(target: Path) -> Path | None:
    """Keep what stands there under another name too. Its log, if it still has one, goes with it."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = target.with_name(f"{target.name}.replaced-{stamp}")
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = target.with_name(f"{target.name}.replaced-{stamp}-{number}")
    found = target.exists()
    if found:
        copying.link_or_copy(target, aside)
    for suffix in ("-wal", "-journal"):
        left = sibling(target, suffix)
        if left.exists() and left.stat().st_size:
            left.rename(aside.with_name(aside.name + suffix))
            found = True
    for suffix in ("-wal", "-shm", "-journal"):
        sibling(target, suffix).unlink(missing_ok=True)
    copying.sync(target.parent)
    return aside if found else None


def _states(connection: sqlite3.Connection) -> States:
    pending, delivered, parked, dropped = connection.execute(_BY_STATE).fetchone()
    return {"pending": pending, "delivered": delivered, "parked": parked, "dropped": dropped}
