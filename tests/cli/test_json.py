"""The JSON of every command has the keys that docs/commands.md shows, and every key is explained there."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
from typer.core import TyperGroup

from relay.cli import command_line
from relay.core.model import DocumentName, Parked, Released, RowId, TenantId, TenantState
from relay.outbox.sqlite.sole_relay import BOOT_ID, boot_id
from tests.support.keys import settle_rows

if TYPE_CHECKING:
    from relay.core.ports import Store
    from tests.cli.conftest import Operator

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "commands.md").read_text()
COMMANDS = {
    "relay status": ("status",),
    "relay queue": ("queue",),
    "relay next": ("next",),
    "relay tenants list": ("tenants", "list"),
    "relay tenants show": ("tenants", "show", "ACME"),
    "relay messages list": ("messages", "list"),
    "relay messages show": ("messages", "show", "m1"),
    "relay audit": ("audit",),
    "relay check": ("check",),
    "relay explain": ("explain", "RELAY-108"),
    "relay enqueue": ("enqueue", "--tenant", "ACME", "--document", "D", "--message-id", "m9", "-"),
    "relay outbox copy": ("outbox", "copy", "--force", "sqlite:///relay.db", "sqlite:///copy.db"),
    "relay outbox backup": ("outbox", "backup", "backup.db"),
    "relay outbox restore": ("outbox", "restore", "earlier.db"),
}
"""Arguments of each command; they need what `prepare` enqueues."""


def prepare(operator: "Operator") -> None:
    """An outbox with every kind of wait reason, and a relay that reports them."""

    async def work(outbox: "Store") -> None:
        now = datetime.now(UTC)
        upset, bad = Released("HTTP 500: upset", counted=True, wait=60), Parked("HTTP 400: bad")
        await settle_rows(outbox, [(RowId(1), upset), (RowId(4), bad)])
        details = {"host": "host", "pid": "1", "version": "0", "mode": "poll", BOOT_ID: boot_id()}
        await outbox.beat("host-1", details)
        documents, soon = (DocumentName("Sync.Shipment"),), now + timedelta(minutes=5)
        await outbox.report([TenantState(TenantId("ACME"), "sending", "", now, soon, documents=documents)])

    operator.run(
        *("enqueue", "--tenant", "ACME", "--document", "Sync.SalesOrder", "--message-id", "m1"),
        *("--key", "SO-1", "--parameter", "variationId=1", "--create", "-"),
        given=b"<x/>",
    )
    operator.enqueue("m2", document="Sync.Shipment")
    operator.enqueue("m3", "m4", tenant="GLOBEX")
    operator.run("tenants", "pause", "GLOBEX", "--reason", "change night")
    operator.at_outbox(work)
    operator.set({"RELAY_LOG__LEVL": "info"})
    operator.run("outbox", "backup", "earlier.db")


def section(command: str) -> str:
    found = re.search(rf"^## `{command} --json`$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/commands.md has no section of {command} --json"
    return found[1]


def example(command: str) -> Any:
    found = re.search(r"^```json\n(.*?)^```$", section(command), re.MULTILINE | re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def types(value: Any) -> Any:
    """Keys and types; the items of a list merged; null matches every type."""
    if isinstance(value, dict):
        return {name: types(below) for name, below in value.items()}
    if isinstance(value, list):
        return [merge([types(item) for item in value])]
    kinds = {bool: "true or false", int: "number", float: "number", str: "text"}
    return None if value is None else kinds[type(value)]


def merge(items: list[Any]) -> Any:
    known = [one for one in items if one is not None]
    if not known:
        return None
    if all(isinstance(one, dict) for one in known):
        assert len({frozenset(one) for one in known}) == 1, "items of one list with different keys"
        return {name: merge([one[name] for one in known]) for name in known[0]}
    if all(isinstance(one, list) for one in known):
        return [merge([one[0] for one in known])]
    assert all(one == known[0] for one in known), known
    return known[0]


def names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield name
            yield from names(below)
    for item in value if isinstance(value, list) else ():
        yield from names(item)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_json_of_a_command_is_the_documented_one(operator: "Operator", command: str) -> None:
    prepare(operator)
    ran = operator.run(*COMMANDS[command], "--json", given=b"<x/>")
    assert keys(types(ran.json)) == keys(types(example(command)))
    assert merge([types(ran.json), types(example(command))]) is not None


def keys(value: Any) -> Any:
    """The keys alone, in their order."""
    if isinstance(value, dict):
        return [(name, keys(below)) for name, below in value.items()]
    return keys(value[0]) if isinstance(value, list) and value else None


@pytest.mark.parametrize("command", COMMANDS)
def test_every_name_is_explained(command: str) -> None:
    data = {"ACME", "GLOBEX", "variationId"}
    common = PAGE.split("\n## ", 1)[0]
    explained = set(
        re.findall(r"`([a-z_]+)`", common + re.sub(r"```.*?```", "", section(command), flags=re.DOTALL))
    )
    assert set(names(example(command))) - data - explained == set()


def with_json(command: object, words: tuple[str, ...]) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from with_json(below, (*words, name))
    elif any("--json" in parameter.opts for parameter in getattr(command, "params", ())):
        yield " ".join(words)


def test_every_command_with_json_has_its_section() -> None:
    known = set(with_json(typer.main.get_command(command_line(["run"])), ("relay",)))
    assert known == set(COMMANDS)


def test_a_difference_would_be_found() -> None:
    assert keys(types({"a": [{"b": 1}]})) != keys(types({"a": [{"c": 1}]}))
    with pytest.raises(AssertionError):
        merge([types({"a": 1}), types({"a": "1"})])
