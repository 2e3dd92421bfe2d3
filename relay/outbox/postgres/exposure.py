"""Who else may create tables and functions where the outbox' names are looked up.

Functions have complete names in the relay's statements; operators have none, nor have tables without
RELAY_OUTBOX__SCHEMA. Whoever may create in a schema of the path could put others in their place, which would
run with the relay's rights. Up to version 14, everybody may create in `public` unless that was revoked.
"""

from dataclasses import dataclass

from relay.outbox.postgres.connection import Connection
from relay.outbox.postgres.table_names import TableNames

# Not counted: who owns the schema, the database or the tables, this role, and superusers.
_OTHERS = """
SELECT place.kind, place.name, coalesce(pg_roles.rolname, 'PUBLIC') AS role
FROM (SELECT 'SCHEMA' AS kind, nspname::text AS name, nspowner AS owner, nspacl AS acl,
             (SELECT relowner FROM pg_class
              WHERE relname = 'relay_outbox' AND relnamespace = pg_namespace.oid) AS maker
      FROM pg_namespace
      WHERE nspname = ANY (CASE WHEN $1::text IS NULL THEN current_schemas(false) ELSE ARRAY[$1::name] END)
      UNION ALL
      SELECT 'DATABASE', datname::text, datdba, datacl, NULL
      FROM pg_database WHERE $1::text IS NULL AND datname = current_database()) AS place
     CROSS JOIN LATERAL aclexplode(place.acl) AS given
     LEFT JOIN pg_roles ON pg_roles.oid = given.grantee
WHERE given.privilege_type = 'CREATE' AND given.grantee <> place.owner
  AND given.grantee IS DISTINCT FROM place.maker
  AND NOT coalesce(pg_roles.rolsuper, false) AND pg_roles.rolname IS DISTINCT FROM current_user
ORDER BY 1 DESC, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Exposure:
    """A schema, or the database, in which roles may create that should not."""

    kind: str
    name: str
    roles: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.roles)} may create in the {self.kind.lower()} {self.name}"

    @property
    def statement(self) -> str:
        """Takes the right away."""
        names = ", ".join(role if role == "PUBLIC" else _quoted(role) for role in self.roles)
        return f"REVOKE CREATE ON {self.kind} {_quoted(self.name)} FROM {names}"


async def exposures(connection: Connection, names: TableNames) -> list[Exposure]:
    """All of them."""
    roles: dict[tuple[str, str], list[str]] = {}
    for kind, name, role in await connection.fetch(names.within(_OTHERS), names.schema):
        roles.setdefault((kind, name), []).append(role)
    return [Exposure(kind, name, tuple(found)) for (kind, name), found in roles.items()]


def _quoted(name: str) -> str:
    return (
        name
        if name.isascii() and name.isidentifier() and name.islower()
        else '"' + name.replace('"', '""') + '"'
    )
