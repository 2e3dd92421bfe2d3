"""Where an outbox is: its URL and, on PostgreSQL, the names of its tables."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

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


def shown(url: str) -> str:
    """The URL as it may be printed: without what may be a password."""
    if url.startswith(_SQLITE):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator:
        return repr(url)
    place, _, query = rest.rpartition("@")[2].partition("?")
    options = [(name, value) for name, value in parse_qsl(query) if name in _SHOWN_OPTIONS]
    return f"{scheme}://{place}" + (f"?{urlencode(options, safe='/,:')}" if options else "")
