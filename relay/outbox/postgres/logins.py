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

from relay.observability.regular_file import read_regular_text
from relay.outbox.location import is_served_url
from relay.outbox.postgres import errors
from relay.outbox.postgres.errors import LoginRefusedError

_LONGEST_PAUSE_SECONDS = 60.0

ROTATION_SECONDS = (0.2, 0.4, 0.8, 1.6)
"""Where logins worked before, one that is refused is repeated after these: the server and the file get a new
password one after the other."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Refusal:
    """`until`: in the loop's time, no login with the same credentials before."""

    error: LoginRefusedError
    credentials: Hashable
    pause: float
    until: float


class Logins:
    """The logins of one process to one database, whose URL is read from `url_file` if that is given."""

    def __init__(self, url_file: Path | None = None) -> None:
        self._url_file = url_file
        password_file = os.path.expanduser(os.environ.get("PGPASSFILE") or "~/.pgpass")  # noqa: PTH111  # never raises
        self._files = (password_file,) if url_file is None else (str(url_file), password_file)
        self._refusal: _Refusal | None = None
        self._has_worked = False

    @property
    def credentials(self) -> Hashable:
        """Another value once a file was replaced that the URL or the password comes from."""
        return tuple(map(_stamp, self._files))

    def read_url(self) -> str | None:
        """The URL as its file has it now; None without a file. Raises StoreError."""
        path = self._url_file
        if path is None:
            return None
        try:
            url = read_regular_text(path).strip()
        except OSError as error:
            raise errors.unusable_url_file(path, error.strerror or "error") from None
        except ValueError:
            raise errors.unusable_url_file(path, "it is not text in UTF-8") from None
        if not is_served_url(url):
            raise errors.unusable_url_file(path, "it holds no URL of a PostgreSQL database")
        return url

    async def attempt(self, connect: Callable[[], Awaitable[T]]) -> T:
        """Log in, perhaps a few times. Raises StoreError; at once while the pause after a refusal lasts."""
        used = self.credentials
        self._raise_while_paused(used)
        refused: LoginRefusedError | None = None
        try:
            for pause in (0.0, *(ROTATION_SECONDS if self._has_worked and self._refusal is None else ())):
                await asyncio.sleep(pause)
                used = self.credentials
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
        before, pause = self._refusal, 1.0
        if before is not None and before.credentials == credentials:
            if self._now() < before.until:  # another login of the same moment
                return
            pause = min(2 * before.pause, _LONGEST_PAUSE_SECONDS)
        self._refusal = _Refusal(refused, credentials, pause, self._now() + pause)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _stamp(path: str) -> Hashable:
    try:
        found = os.stat(path)  # noqa: PTH116  # with each call to the outbox
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
