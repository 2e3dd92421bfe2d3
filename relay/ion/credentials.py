"""Sources of a tenant's credentials: files, which are read again when they change, and settings.

Reading is synchronous: the files are small, and they are read at the first call and after a change only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from typing_extensions import override

from relay.ion.oauth import (
    CredentialError,
    Credentials,
    IonApi,
    OAuth1Keys,
    Secret,
    SignatureMethod,
    parse_ionapi,
)
from relay.observability import open_files
from relay.observability.regular_file import read_regular_text

_MAX_FILE_BYTES = 64 * 1024

Fingerprint = tuple[tuple[int, int, int, int] | None, ...]
"""Of each file: when its content and its metadata changed (ns), size and inode; None: it does not exist."""


class CredentialSource(Protocol):
    """Where credentials are read from."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that `read` reads, if any; when one changes, there are new credentials."""
        ...

    def read(self) -> Credentials:
        """The credentials as they are now. Raises CredentialError."""
        ...


@dataclass(frozen=True, slots=True)
class IonApiFile(CredentialSource):
    """OAuth 2 from an `.ionapi` file, downloaded from ION API."""

    path: Path

    @property
    @override
    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    @override
    def read(self) -> IonApi:
        try:
            return parse_ionapi(_read_text(self.path))
        except CredentialError as error:
            raise CredentialError(f"{self.path}: {error}") from None


@dataclass(frozen=True, slots=True)
class OAuth1Source(CredentialSource):
    """OAuth 1.0a keys; each is a value, or the path of a file that contains nothing else.

    `method`: how the relay signs with them; it need not be set for the keys that ION signs with.
    """

    consumer_key: str | Path
    consumer_secret: Secret | Path
    method: SignatureMethod = "HMAC-SHA256"

    @property
    @override
    def paths(self) -> tuple[Path, ...]:
        return tuple(key for key in (self.consumer_key, self.consumer_secret) if isinstance(key, Path))

    @override
    def read(self) -> OAuth1Keys:
        key, secret = self.consumer_key, self.consumer_secret
        return OAuth1Keys(
            _read_line(key) if isinstance(key, Path) else key,
            Secret(_read_line(secret)) if isinstance(secret, Path) else secret,
            self.method,
        )


def _read_line(path: Path) -> str:
    try:
        text = _read_text(path).strip()
    except CredentialError as error:
        raise CredentialError(f"{path}: {error}") from None
    if not text or not text.isprintable():
        raise CredentialError(f"{path}: does not contain a single line of text; write only the key into it")
    return text


def _read_text(path: Path) -> str:
    try:
        return read_regular_text(path, _MAX_FILE_BYTES)
    except OSError as error:
        if open_files.is_exhausted(error):
            raise
        reason = error.strerror or type(error).__name__
        raise CredentialError(f"cannot be read: {reason}; check the path and its permissions") from None
    except UnicodeDecodeError:
        raise CredentialError("is not UTF-8 text; download or write it again") from None


def fingerprint(paths: Iterable[Path]) -> Fingerprint:
    """Differs once one of the files has changed; does not read them."""
    return tuple(_fingerprint_of(path) for path in paths)


def _fingerprint_of(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
