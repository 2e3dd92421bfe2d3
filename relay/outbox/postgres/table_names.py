"""What the outbox's tables are called in a database: their schema and their names' prefix.

Statements are written with plain names (`relay_outbox`); here they get the configured names, since
a `search_path` does not hold behind a pooler that shares connections.
"""

import re
from dataclasses import dataclass, field

from relay.core.ports import StoreError
from relay.outbox.location import DEFAULT_PREFIX
from relay.outbox.postgres.catalog_names import qualified

_NAME = re.compile(r"('?)\brelay_(?=\w)")
_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,29}")
_SCHEMA_BYTES = 63


@dataclass(frozen=True, slots=True)
class TableNames:
    """`schema` None: the first one of the role's `search_path`."""

    schema: str | None = None
    prefix: str = DEFAULT_PREFIX
    _known: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise StoreError(
                f"{self.prefix!r} cannot begin the names of the outbox's tables; "
                "use up to 30 of a-z 0-9 _, not a digit first, e.g. relay_",
                lasting=True,
            )
        if self.schema is not None and not self._is_schema(self.schema):
            raise StoreError(
                f"{self.schema!r} is no name of a schema; correct RELAY_OUTBOX__SCHEMA", lasting=True
            )

    @staticmethod
    def _is_schema(text: str) -> bool:
        return 1 <= len(text.encode()) <= _SCHEMA_BYTES and text.isprintable()

    @property
    def channel(self) -> str:
        """What notifications come on: the outbox table's plain name."""
        return f"{self.prefix}outbox"

    @property
    def quoted_schema(self) -> str | None:
        """As an identifier in a statement."""
        return None if self.schema is None else '"' + self.schema.replace('"', '""') + '"'

    def within(self, statement: str) -> str:
        """The statement with the full names of tables and functions."""
        found = self._known.get(statement)
        if found is None:
            before = "" if self.quoted_schema is None else f"{self.quoted_schema}."
            found = self._known[statement] = _NAME.sub(
                lambda match: f"'{self.prefix}" if match[1] else f"{before}{self.prefix}",
                qualified(statement),
            )
        return found

    def definition(self, text: str) -> str:
        """Statements that create tables, for a transaction whose `search_path` begins with the schema."""
        return _NAME.sub(lambda match: f"{match[1]}{self.prefix}", qualified(text))
