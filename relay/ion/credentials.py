"""This file is where a tenant's credentials come from: files on disk, re-read when they change, or settings.

Reading is synchronous: the files are small, and they are read at the first call and after a change only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from relay.ion.oauth import CredentialError, IonApi, OAuth1Keys, Secret, SignatureMethod, parse_ionapi

_LARGEST_FILE = 64 * 1024

Stamp = tuple[tuple[int, int, int, int] | None, ...]
"""Of each file: when its content and its permissions changed (ns), size and inode; None: not there."""


class CredentialSource(Protocol):
    """Where credentials are read from. `paths`: the files that `read` reads, if any."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files whose change means new credentials."""
        ...

    def read(self) -> OAuth1Keys | IonApi:
        """The credentials as they are now. Raises CredentialError."""
        ...


@dataclass(frozen=True, slots=True)
class IonApiFile:
    """OAuth 2 from an `.ionapi` file, downloaded from ION API."""

    path: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.path,)

    def read(self) -> IonApi:
        """Read and check it."""
        try:
            return parse_ionapi(_text(self.path))
        except CredentialError as error:
            raise CredentialError(f"{self.path}: {error}") from None


@dataclass(frozen=True, slots=True)
class OAuth1Source:
    """OAuth 1.0a keys, each given directly or as the file that holds it alone."""

    consumer_key: str | Path
    consumer_secret: Secret | Path
    method: SignatureMethod = "HMAC-SHA256"

    @property
    def paths(self) -> tuple[Path, ...]:
        """Those of the two that are files."""
        given = (self.consumer_key, self.consumer_secret)
        return tuple(part for part in given if isinstance(part, Path))

    def read(self) -> OAuth1Keys:
        """Read the files, if any."""
        key, secret = self.consumer_key, self.consumer_secret
        return OAuth1Keys(
            _one_text(key) if isinstance(key, Path) else key,
            Secret(_one_text(secret)) if isinstance(secret, Path) else secret,
            self.method,
        )


def _one_text(path: Path) -> str:
    try:
        text = _text(path).strip()
    except CredentialError as error:
        raise CredentialError(f"{path}: {error}") from None
    if not text or not text.isprintable():
        raise CredentialError(f"{path}: holds no single line of text; write the key alone into it")
    return text


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CredentialError(f"cannot be read: {reason}; check the path and its permissions") from None
    if len(content) > _LARGEST_FILE:
        raise CredentialError(f"is larger than {_LARGEST_FILE} bytes; this is not a credential file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CredentialError("is not a UTF-8 text; download or write it again") from None


def stamp(paths: Iterable[Path]) -> Stamp:
    """What tells a changed file from an unchanged one, without reading it."""
    return tuple(_stamp_of(path) for path in paths)


def _stamp_of(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
