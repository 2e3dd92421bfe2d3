"""Logins with credentials that are replaced while the relay runs: read anew each time, and refused at times.

`RELAY_OUTBOX__URL_FILE` is read at each login, and so is the file that PGPASSFILE names (by the driver). A
login that is refused is not repeated in a hurry: servers and directories lock accounts for that.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from relay.outbox.location import is_served_url
from relay.outbox.postgres import errors
from relay.outbox.postgres.errors import LoginRefusedError

_LONGEST_PAUSE_SECONDS = 60.0

ROTATION_SECONDS = (0.2, 0.4, 0.8, 1.6)
"""Where logins worked before, one that is refused is repeated after these: the server and the file get a new
password one after the other."""

T = TypeVar("T")


def read_url(path: Path) -> str:
    """The URL as the file has it now. Raises StoreError."""
    try:
        url = path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise errors.unreadable_url_file(path, error) from None
    if not is_served_url(url):
        raise errors.no_url_in_file(path)
    return url


def credentials_now(url_file: Path | None) -> Hashable:
    """Another value once a file was replaced that the URL or the password comes from."""
    given = os.environ.get("PGPASSFILE")
    password_file = Path(given) if given else Path("~/.pgpass")
    return tuple(None if path is None else _stamp(path) for path in (url_file, password_file))


def _stamp(path: Path) -> Hashable:
    try:
        found = path.expanduser().stat()
    except (OSError, RuntimeError):  # no such file, or no home
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@dataclass(frozen=True, slots=True)
class _Refusal:
    """`until`: in the loop's time, no login with the same credentials before."""

    error: LoginRefusedError
    credentials: Hashable
    pause: float
    until: float


class Logins:
    """The logins of one process to one database."""

    def __init__(self) -> None:
        self._refusal: _Refusal | None = None
        self._has_worked = False

    async def attempt(self, credentials: Callable[[], Hashable], connect: Callable[[], Awaitable[T]]) -> T:
        """Log in, perhaps a few times. Raises StoreError; at once while the pause after a refusal lasts."""
        self._raise_while_paused(credentials())
        refused: LoginRefusedError | None = None
        used = credentials()
        try:
            for pause in (0.0, *(ROTATION_SECONDS if self._has_worked and self._refusal is None else ())):
                await asyncio.sleep(pause)
                used = credentials()
                try:
                    found = await connect()
                except LoginRefusedError as error:
                    refused = error
                else:
                    refused, self._has_worked = None, True
                    return found
            assert refused is not None
            raise refused
        finally:  # also where the caller waits no longer
            self._note(used, refused)

    def _raise_while_paused(self, credentials: Hashable) -> None:
        refusal = self._refusal
        if refusal is not None and refusal.credentials == credentials and self._now() < refusal.until:
            raise LoginRefusedError(str(refusal.error))

    def _note(self, credentials: Hashable, refused: LoginRefusedError | None) -> None:
        if refused is None:
            self._refusal = None
            return
        before = self._refusal
        is_first = before is None or before.credentials != credentials
        pause = 1.0 if before is None or is_first else min(2 * before.pause, _LONGEST_PAUSE_SECONDS)
        self._refusal = _Refusal(refused, credentials, pause, self._now() + pause)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
