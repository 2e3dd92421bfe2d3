"""Where an outbox is: its URL and, on PostgreSQL, the names of its tables."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from relay.core.ports import StoreError

DEFAULT_PREFIX = "relay_"

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_SHOWN_OPTIONS = frozenset({"host", "port", "dbname", "sslmode"})


@dataclass(frozen=True, slots=True)
class OutboxLocation:
    """`sqlite:///relay.db` is a file in the current folder, `sqlite:////var/lib/relay.db` one anywhere.

    `postgresql://role@host/database` is a database, in all forms that libpq knows. There `schema` and
    `prefix` name the tables; without a schema they are in the first one of the role's `search_path`.
    """

    url: str
    schema: str | None = None
    prefix: str = DEFAULT_PREFIX
    url_file: Path | None = None
    """Where the URL of a database is read again at each login; `url` is what it held at first."""

    @property
    def is_served(self) -> bool:
        """Whether the outbox is behind a server, which may be unreachable for a while."""
        return is_served_url(self.url)

    @property
    def shown(self) -> str:
        """The URL as it may be printed."""
        return shown(self.url)

    @property
    def place(self) -> str:
        """Where it is, for an operator: the file's absolute path, or host and database."""
        if not self.is_served:
            return str(absolute(self.path))
        parts, options = urlsplit(self.shown), dict(parse_qsl(urlsplit(self.shown).query))
        names = [f"schema {self.schema}"] if self.schema else []
        names += [f"tables {self.prefix}…"] if self.prefix != DEFAULT_PREFIX else []
        if not (parts.netloc or options.get("host")) and (host := os.environ.get("PGHOST")):
            names.append(f"host {host}")
        if not (parts.path.strip("/") or options.get("dbname")) and (name := os.environ.get("PGDATABASE")):
            names.append(f"database {name}")
        return self.shown + (f" ({', '.join(names)})" if names else "")

    @property
    def is_missing(self) -> bool:
        """Whether it is a file that does not exist."""
        if self.is_served:
            return False
        try:
            self.path.stat()
        except FileNotFoundError:
            return True
        except OSError:  # it cannot be said; opening it explains why
            return False
        return False

    @property
    def path(self) -> Path:
        """The SQLite file. Raises StoreError where the URL names neither a file nor a database."""
        path = self.url.removeprefix(_SQLITE)
        if path == self.url or not path or path.endswith("/") or ":memory:" in path:
            raise StoreError(
                f"{self.shown} names no outbox; use sqlite:///relay.db for a file in the current folder, "
                "sqlite:////var/lib/relay/relay.db with four slashes for one anywhere, or "
                "postgresql://role@host/database for a database",
                lasting=True,
            )
        return Path(path)


def is_served_url(url: str) -> bool:
    """Whether it is the URL of a database behind a server."""
    return url.startswith(_POSTGRES)


def absolute(path: Path) -> Path:
    """The path from the root on; as it is, where the working directory is gone."""
    try:
        return path.absolute()
    except OSError:
        return path


def shown(url: str) -> str:
    """The URL as it may be printed: without what may be a password."""
    if url.startswith(_SQLITE):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator:
        return repr(url)
    place, _, query = rest.partition("?")
    if not _is_query(query) or not _ends_in_a_place(place):  # the ? is of a password, which ends at an @
        place, _, query = rest.rpartition("@")[2].partition("?")
    options = [(name, value) for name, value in parse_qsl(query) if name in _SHOWN_OPTIONS]
    place = place.rpartition("@")[2]
    return f"{scheme}://{place}" + (f"?{urlencode(options, safe='/,:')}" if options else "")


def _is_query(text: str) -> bool:
    return all("=" in option for option in text.split("&") if option)


def _ends_in_a_place(text: str) -> bool:
    """Whether this can be `USER:PASSWORD@HOST:PORT/DATABASE`, and not the first half of a password."""
    host = text.rpartition("@")[2].partition("/")[0].rpartition(",")[2].rpartition("]")[2]
    return not host.partition(":")[2] or host.partition(":")[2].isdecimal()
