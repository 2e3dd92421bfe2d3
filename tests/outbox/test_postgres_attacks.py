"""What roles of the database may try against the outbox: with the documented rights they get nothing more.

Attackers have a role of their own, the right to INSERT messages, and what PUBLIC has. `public` is open to all
for creating in half of the tests, as it is by default in version 14 and before.
"""

import ast
import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

import relay.outbox.postgres as package
from relay.core.model import Delivered, DocumentName, Draft, MessageId, Parked, Released, Settlement, TenantId
from relay.outbox import OutboxLocation, open_outbox, schema, upgrade
from relay.outbox.postgres.catalog_names import qualified
from tests.outbox.test_postgres_roles import HAND_OVER, grants
from tests.support.postgres import Cluster, connected

ACME, ORDER = TenantId("ACME_PRD"), DocumentName("Sync.SalesOrder")

FUNCTIONS = ("defaults", "inserted", "updated", "deleted", "truncated")
EVENTS = {
    "INSERT": ("BEFORE INSERT", "FOR EACH ROW"),
    "INSERT, statement": ("AFTER INSERT", "REFERENCING NEW TABLE AS added FOR EACH STATEMENT"),
    "UPDATE": (
        "AFTER UPDATE",
        "REFERENCING OLD TABLE AS before NEW TABLE AS now_so FOR EACH STATEMENT",
    ),
    "DELETE": ("AFTER DELETE", "REFERENCING OLD TABLE AS gone FOR EACH STATEMENT"),
    "TRUNCATE": ("AFTER TRUNCATE", "FOR EACH STATEMENT"),
}
FIRES = "INSERT INTO mine VALUES ('x'); UPDATE mine SET tenant_id = 'y'; DELETE FROM mine; TRUNCATE mine"


@dataclass(frozen=True, slots=True)
class Place:
    """A database with an outbox: the URL of the owner of the tables, of the relay, of an attacker."""

    owner: str
    relay: str
    attacker: str
    role: str


@pytest.fixture(params=["version 14", "version 18"])
async def place(postgres: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """With the documented roles, and the right to create in `public` as that version has it by default."""
    async with postgres.outbox() as url:
        database = url.rpartition("/")[2]
        names = {role: await postgres.role(role) for role in ("ion_relay", "application")}
        who = (
            "GRANT CREATE ON SCHEMA public TO"
            if request.param == "version 14"
            else ("REVOKE CREATE ON SCHEMA public FROM")
        )
        await postgres.execute(f"{who} PUBLIC", database=database)
        for role, name in names.items():
            statements = [statement.replace(f"TO {role}", f"TO {name}") for statement in grants(role)]
            await postgres.execute(*statements, database=database)
        relay, attacker = (postgres.url_of(database, name) for name in names.values())
        yield Place(url, relay, attacker, names["application"])
        await postgres.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC", database=database)
        for name in names.values():
            await postgres.drop_role(name, database)


# --- the functions of the triggers ---------------------------------------------------------------------

DISGUISE = """
CREATE TYPE {schema}.disguise AS ENUM ('x', 'y');
CREATE FUNCTION {schema}.unmask({schema}.disguise) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'GRANT SELECT ON relay_outbox TO PUBLIC';
    RETURN 'x';
END $$;
CREATE CAST ({schema}.disguise AS text) WITH FUNCTION {schema}.unmask({schema}.disguise) AS IMPLICIT;
CREATE TEMPORARY TABLE mine (tenant_id {schema}.disguise, state {schema}.disguise, id bigint);
"""
"""A table whose column runs a function of the attacker when it is read as text."""


async def test_no_function_of_a_trigger_can_be_attached_by_others(place: Place) -> None:
    """An attached function with the owner's rights would run what the attacker put into its table."""
    tried = 0
    async with connected(place.owner) as connection:
        await connection.execute(HAND_OVER)
    async with connected(place.attacker) as connection:
        schema_of = "pg_temp"
        await connection.execute("CREATE TEMPORARY TABLE seed ()")  # pg_temp exists from here on
        await connection.execute(DISGUISE.format(schema=schema_of))
        for function in FUNCTIONS:
            for event, how in EVENTS.values():
                tried += 1
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(
                        f"CREATE TRIGGER t {event} ON mine {how} EXECUTE FUNCTION relay_outbox_{function}()"
                    )
        await connection.execute(FIRES)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM relay_outbox")
    async with connected(place.owner) as connection:
        assert await connection.fetchval("SELECT count(*) FROM relay_outbox") == 1
        assert await connection.fetchval("SELECT sum(pending) FROM relay_counts") == 1
    sys.stdout.write(f"trigger functions x events tried: {tried}, rows read: 0\n")


async def test_a_function_that_was_attached_before_the_upgrade_does_nothing(place: Place) -> None:
    """The right to call it was PUBLIC's up to version 3, and triggers of that time are still there."""
    async with connected(place.owner) as connection:
        await connection.execute(HAND_OVER)
        await connection.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC")
    refused = 0
    async with connected(place.attacker) as connection:
        await connection.execute("CREATE TEMPORARY TABLE seed ()")
        await connection.execute(DISGUISE.format(schema="pg_temp"))
        fitting = {
            "inserted": "INSERT, statement",
            "updated": "UPDATE",
            "deleted": "DELETE",
            "truncated": "TRUNCATE",
        }
        for function, name in fitting.items():
            event, how = EVENTS[name]
            await connection.execute(
                f"CREATE TRIGGER {function} {event} ON mine {how} EXECUTE FUNCTION relay_outbox_{function}()"
            )
        for statement in FIRES.split("; "):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="for the outbox only"):
                await connection.execute(statement)
            refused += 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM relay_outbox")
    assert refused == 4
    async with connected(place.owner) as connection:
        assert await connection.fetchval("SELECT sum(pending) FROM relay_counts") == 1


async def test_an_outbox_of_an_older_version_gets_the_same_rights_by_the_upgrade(place: Place) -> None:
    async with connected(place.owner) as connection:
        await connection.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC")
        await connection.execute("DELETE FROM relay_schema WHERE version >= 4")
    await asyncio.to_thread(upgrade, place.owner)
    async with connected(place.owner) as connection:
        found = await connection.fetch(
            "SELECT proname, prosecdef, proconfig, proacl::text FROM pg_proc "
            "WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
        )
    assert {row["proname"] for row in found} == {f"relay_outbox_{name}" for name in FUNCTIONS}
    for row in found:
        assert row["proconfig"] == ["search_path=pg_catalog, public, pg_temp"], row["proname"]
        assert re.fullmatch(r"\{(\w+)=X/\1\}", row["proacl"]), row["proacl"]
        assert row["prosecdef"] == (row["proname"] != "relay_outbox_defaults")


# --- names that others put in the place of PostgreSQL's ------------------------------------------------

SHADOWS = (
    "unnest(bigint[]) RETURNS SETOF bigint",
    "unnest(text[]) RETURNS SETOF text",
    "width_bucket(float8, float8[]) RETURNS integer",
    "num_nulls(text, text, json, text, integer, timestamptz, timestamptz) RETURNS integer",
    "octet_length(json) RETURNS integer",
    "upper(varchar) RETURNS text",
)


async def test_functions_of_others_are_never_called(place: Place) -> None:
    """They fit the arguments better than PostgreSQL's own, and raise."""
    async with connected(place.attacker) as connection:
        created = 0
        for signature in SHADOWS:
            statement = (
                f"CREATE FUNCTION public.{signature} LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE 'called as %', current_user; END $$"
            )
            try:
                await connection.execute(statement)
                created += 1
            except asyncpg.InsufficientPrivilegeError:
                continue
    async with connected(place.owner) as connection:
        open_to_all = await connection.fetchval(
            "SELECT has_schema_privilege($1, 'public', 'CREATE')", place.role
        )
    assert created == (len(SHADOWS) if open_to_all else 0)
    await asyncio.to_thread(upgrade, place.owner)
    outbox = await open_outbox(place.relay, lease_seconds=15.0)
    try:
        assert outbox.leases is not None
        await outbox.beat("relay-1", {})
        await outbox.leases.renew()
        assert await outbox.leases.acquire([ACME]) == {ACME}
        await outbox.add([Draft(ACME, ORDER, b"x", MessageId(f"m{n}")) for n in range(3)])
        found = await outbox.due(ACME, {ORDER}, frozenset(), frozenset(), 10, 1000)
        fates: tuple[Settlement, ...] = (Delivered(), Released("HTTP 500", counted=True), Parked("HTTP 400"))
        await outbox.settle([(message.key, fate) for message, fate in zip(found, fates, strict=True)])
        assert (await outbox.counts())[ACME].parked == 1
        assert await outbox.queue_ages(None, 10)
        incidents = await outbox.incidents()
        assert len(incidents) == int(open_to_all)
        for incident in incidents:
            assert incident.kind == "exposed"
            assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in incident.hint
            assert incident.detail.startswith("PUBLIC may create in the schema public")
    finally:
        await outbox.close()


async def test_the_upgrade_names_the_statement_that_closes_the_schema(place: Place) -> None:
    lines = await asyncio.to_thread(upgrade, place.owner)
    async with connected(place.owner) as connection:
        for line in lines:
            assert line.startswith("warning: PUBLIC may create in the schema public")
            await connection.execute(line.rpartition(": ")[2])
    assert await asyncio.to_thread(upgrade, place.owner) == []


async def test_a_role_that_may_create_schemas_is_named(place: Place) -> None:
    """One called as the relay's role comes first in the default path."""
    async with connected(place.owner) as connection:
        await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        database = await connection.fetchval("SELECT current_database()")
        await connection.execute(f'GRANT CREATE ON DATABASE "{database}" TO "{place.role}"')
    (line,) = await asyncio.to_thread(upgrade, place.owner)
    assert f"{place.role} may create in the database {database}" in line
    assert await asyncio.to_thread(upgrade, OutboxLocation(place.owner, schema="public")) == []
    async with connected(place.owner) as connection:
        await connection.execute(line.rpartition(": ")[2])
    assert await asyncio.to_thread(upgrade, place.owner) == []


NAMES = [
    "x$$; DROP TABLE relay_victim; DO $$ BEGIN END",
    "x$relay$; DROP TABLE relay_victim; DO $relay$ BEGIN END",
    "x$relay$ $relay_$; DROP TABLE relay_victim; --",
    "x'); DROP TABLE relay_victim; --",
    'x"; DROP TABLE relay_victim; --',
    "x\\'; DROP TABLE relay_victim; --",
    "x -- y",
    "x/*",
]


@pytest.mark.parametrize("name", NAMES)
async def test_the_name_of_a_schema_is_never_a_statement(postgres: Cluster, name: str) -> None:
    """As in RELAY_OUTBOX__SCHEMA: by the upgrade, by the printed statements, and at run time."""
    database = await postgres.create()
    url = postgres.url_of(database)
    async with connected(url) as connection:
        await connection.execute("CREATE TABLE relay_victim ()")
        at = OutboxLocation(url, schema=name)
        await connection.execute(schema(at))
        await asyncio.to_thread(upgrade, at)
        outbox = await open_outbox(at)
        await outbox.add([Draft(ACME, ORDER, b"x")])
        assert (await outbox.counts())[ACME].pending == 1
        await outbox.close()
        assert await connection.fetchval("SELECT to_regclass('public.relay_victim')") is not None
        found = await connection.fetchval("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'x%'")
        assert found == name
    await postgres.drop(database)


# --- what is written in statements ---------------------------------------------------------------------


def statements() -> Iterator[str]:
    """Every text in the store's modules that may be part of a statement, and the schema."""
    for path in Path(package.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        prose = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
                yield node.value
    yield schema("postgresql:///any")


SYNTAX = frozenset({"position", "overlay", "substring", "trim", "extract", "coalesce", "exists", "timezone"})


async def test_every_function_of_postgresql_is_called_by_its_full_name(place: Place) -> None:
    async with connected(place.owner) as connection:
        rows = await connection.fetch(
            "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace"
        )
    names = {row[0] for row in rows} - SYNTAX
    texts = [re.sub(r"--[^\n]*", "", qualified(text)) for text in statements()]
    calls = {name for text in texts for name in re.findall(r"(?<![\w.])([a-z_][a-z0-9_]*)\(", text)}
    assert "pg_catalog.unnest(" in "".join(texts)
    assert calls & names == {"unnest"}, "write them into catalog_names.py"  # of several arrays


@pytest.mark.parametrize(
    ("text", "full"),
    [
        (
            "SELECT upper(a), x.upper(b) FROM unnest($1)",
            "SELECT pg_catalog.upper(a), x.upper(b) FROM pg_catalog.unnest($1)",
        ),
        (
            "SELECT 1 -- upper(a)\nWHERE left(a, 1) = b",
            "SELECT 1 -- upper(a)\nWHERE pg_catalog.left(a, 1) = b",
        ),
        ("FROM pg_class LEFT JOIN (a) USING (x)", "FROM pg_catalog.pg_class LEFT JOIN (a) USING (x)"),
        (
            "FROM unnest($1::text[], $2::int[]), unnest(ARRAY['a', 'b'])",
            "FROM unnest($1::text[], $2::int[]), pg_catalog.unnest(ARRAY['a', 'b'])",
        ),
        ("SELECT pg_catalog.count(*), count", "SELECT pg_catalog.count(*), count"),
    ],
)
def test_names_are_made_full(text: str, full: str) -> None:
    assert qualified(text) == full
    assert qualified(full) == full
