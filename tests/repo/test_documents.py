"""What is written for people agrees with what the code does: events, kinds, states, columns, pictures, tables."""

import ast
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import asyncpg
import pytest
import typer.main
from typer.core import TyperGroup

from relay.cli import command_line
from relay.core import answers
from relay.core.admin import MessageState
from relay.core.model import StateName
from relay.outbox import schema
from relay.reports import overview
from tests.support.postgres import Cluster, connected
from tools import generate

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OPERATING = (DOCS / "operating.md").read_text()
ENQUEUE = (DOCS / "enqueue.md").read_text()
README = (ROOT / "README.md").read_text()


def section(page: str, heading: str) -> str:
    """What stands under a heading, up to the next of its rank."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def first_cells(text: str) -> set[str]:
    """The names in the first column of the tables."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return {name for line in lines for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])}


# --- the log --------------------------------------------------------------------------------------


def kinds_of(tree: ast.AST) -> Iterator[str]:
    """What stands as `kind` where an incident is reported, as source text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("incidents.report"):
            yield ast.unparse(node.args[0])


def test_every_kind_of_incident_can_be_looked_up() -> None:
    """By its `kind` in the table of answers; the relay's own in operating.md."""
    kinds = {
        kind for path in (ROOT / "relay").rglob("*.py") for kind in kinds_of(ast.parse(path.read_text()))
    }
    assert kinds == {"row.name", "'outbox'", "'refused'", "'traces'", "'inbound'", "'activity'", "'login'"}
    assert "**Kind `outbox`**" in OPERATING
    assert "**Kind `refused`**" in OPERATING
    assert "**Kind `activity`**" in OPERATING
    assert "kind `traces`" in section(OPERATING, "Tracing")
    page = (DOCS / "what-happens-when.md").read_text()
    assert {row.name for row in answers.ROWS} == set(re.findall(r"\| `([a-z0-9-]+)` \|", page))


# --- states ---------------------------------------------------------------------------------------


def test_the_run_book_explains_every_state_that_status_shows() -> None:
    shown = {*get_args(StateName), overview.UNCONFIGURED, overview.STOPPED, overview.PAUSED}
    assert first_cells(section(OPERATING, "Status")) == shown


def test_the_run_book_explains_every_state_of_a_message() -> None:
    rows = re.findall(r"^\| (\w+) \| ", section(OPERATING, "Messages"), re.MULTILINE)
    assert set(rows) == set(get_args(MessageState))


# --- commands -------------------------------------------------------------------------------------


def leaves(command: object, words: tuple[str, ...]) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        if command.invoke_without_command:
            yield " ".join(words)
        for name, below in command.commands.items():
            yield from leaves(below, (*words, name))
    else:
        yield " ".join(words)


@pytest.mark.parametrize("first", ["run", "sandbox", "demo"])
def test_every_command_is_in_the_documents(first: str) -> None:
    """With `sandbox` and `demo`, whose families are only there when they are asked for."""
    pages = "\n".join(path.read_text() for path in [ROOT / "README.md", *DOCS.glob("*.md")])
    known = set(leaves(typer.main.get_command(command_line([first])), ("relay",)))
    short = {command: command.replace("relay sandbox ", "`") for command in known}  # as its own page has them
    assert len(known) > 10
    assert {command for command in known if command not in pages and short[command] not in pages} == set()


# --- the table that applications write to -------------------------------------------------------------


@pytest.fixture
def outbox() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema("sqlite:///relay.db"))
        yield connection


def test_every_column_is_described_and_no_other(outbox: sqlite3.Connection) -> None:
    columns = {row[1] for row in outbox.execute("PRAGMA table_info(relay_outbox)")}
    described = section(ENQUEUE, "Columns").partition("`parameters` takes")[0]
    assert first_cells(described) == columns


@pytest.mark.parametrize(
    ("column", "longest"),
    [("tenant_id", 22), ("document_name", 100), ("message_id", 250), ("ordering_key", 250)],
)
def test_a_column_takes_what_the_page_says_and_not_one_character_more(
    outbox: sqlite3.Connection, column: str, longest: int
) -> None:
    (row,) = re.findall(rf"^\| `{column}` \|.*$", ENQUEUE, re.MULTILINE)
    assert f"1 to {longest} " in row
    columns = {"tenant_id": "T", "document_name": "D", "payload": b"x"}
    names = ", ".join({**columns, column: ""})
    marks = ", ".join("?" for _ in {**columns, column: ""})
    insert = f"INSERT INTO relay_outbox ({names}) VALUES ({marks})"
    outbox.execute(insert, tuple({**columns, column: "a" * longest}.values()))
    with pytest.raises(sqlite3.IntegrityError, match=column):
        outbox.execute(insert, tuple({**columns, column: "a" * (longest + 1)}.values()))


def inserts(page: str) -> list[str]:
    """Every INSERT into the outbox in the page's code, in whatever language it is quoted."""
    found = []
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        joined = block if language == "sql" else re.sub(r'"\s*\+?\s*\n\s*"', "", block)
        end = ";" if language == "sql" else '"'
        found += re.findall(rf"INSERT INTO relay_outbox [^{end}]*", joined)
    return found


def is_for_postgres(statement: str) -> bool:
    return "convert_to" in statement


def test_every_insert_in_the_documents_is_one_that_the_outbox_takes(outbox: sqlite3.Connection) -> None:
    pages = inserts(ENQUEUE) + inserts(README)
    statements = [statement for statement in pages if not is_for_postgres(statement)]
    assert len(statements) == 5, "SQL, Python, C#, Java; the README's"
    for statement in statements:
        named = re.findall(r"\$(\w+)", statement)
        values = dict.fromkeys(named, "x") if named else ["x"] * statement.count("?")
        outbox.execute(statement, values).fetchall()
    assert outbox.execute("SELECT count(*) FROM relay_outbox WHERE state = 'pending'").fetchone() == (5,)


async def test_an_application_may_run_every_insert_for_postgresql(postgres: Cluster) -> None:
    """With the right to INSERT and no other; a conflict clause needs SELECT on its columns."""
    pages = inserts(ENQUEUE) + inserts(README) + inserts((DOCS / "postgres.md").read_text())
    statements = [statement for statement in pages if is_for_postgres(statement)]
    assert len(statements) == 3, "one a page"
    role = await postgres.role("application")
    async with postgres.outbox() as url:
        database = urlsplit(url).path[1:]
        await postgres.execute(f"GRANT INSERT ON relay_outbox TO {role}", database=database)
        async with connected(postgres.url_of(database, role)) as connection:
            for statement in sorted(statements, key=lambda text: "ON CONFLICT" in text):
                if "ON CONFLICT" in statement:
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute(statement)
                    grant = f"GRANT SELECT (message_id, tenant_id) ON relay_outbox TO {role}"
                    await postgres.execute(grant, database=database)
                assert await connection.execute(statement) == "INSERT 0 1", statement
        await postgres.drop_role(role, database)


# --- what is made, and what is shown ------------------------------------------------------------------


@pytest.mark.parametrize("page", generate.pages(), ids=lambda path: path.name)
def test_a_generated_page_is_up_to_date(page: Path) -> None:
    assert page.read_text() == generate.pages()[page], "write it anew: make docs"


def test_the_readme_holds_the_table_of_what_happens_when() -> None:
    assert f"{generate.BEGIN}\n\n{generate.what_happens_to_a_message()}\n{generate.END}" in README


def test_the_summary_in_the_readme_is_that_of_the_picture() -> None:
    """The README's picture and the lines below it are of one run."""
    picture = (DOCS / "demo.svg").read_text()
    for what in ("enqueued", "delivered", "parked", "lost", "violations", "out of order"):
        (number,) = re.findall(rf"(\d+) {what}", picture)
        assert re.search(rf"^ +{number}  {what}\b", README, re.MULTILINE), what


def test_every_decision_is_in_the_list_with_its_title() -> None:
    index = (DOCS / "decisions.md").read_text()
    for path in (DOCS / "decisions").glob("*.md"):
        title = path.read_text().splitlines()[0].partition(". ")[2]
        assert f"- [{path.name[:4]}](decisions/{path.name}): {title}\n" in index
