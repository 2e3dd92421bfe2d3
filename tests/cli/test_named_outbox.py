"""The outbox that is meant: commands that write name it, none is made by accident, misspelt settings are named."""

import json
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from relay.outbox import OutboxLocation
from relay.outbox.sqlite import schema
from tests.support.postgres import Cluster

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Operator

LIKE = ("--tenant", "ACME", "--document", "Sync.SalesOrder")


def files(folder: "Path") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- which outbox -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("enqueue", *LIKE, "-"),
        ("enqueue", "--ndjson", "-"),
        ("messages", "park", "m1"),
        ("messages", "drop", "m1"),
        ("messages", "retry", "m1"),
        ("messages", "park", "--tenant", "ACME"),
        ("tenants", "pause", "ACME"),
        ("tenants", "resume", "ACME"),
        ("tenants", "ask", "ACME"),
        ("outbox", "upgrade"),
        ("outbox", "backup", "backup.db"),
        ("outbox", "restore", "earlier.db"),
    ],
    ids=" ".join,
)
def test_a_command_that_writes_names_the_outbox_on_stderr(
    operator: "Operator", arguments: tuple[str, ...]
) -> None:
    operator.enqueue("m1")
    operator.run("outbox", "backup", "earlier.db")
    line = {"tenant_id": "ACME", "document_name": "D", "payload": "x"}
    ran = operator.run(*arguments, given=json.dumps(line).encode())
    assert ran.named == f"outbox: {operator.folder / 'relay.db'}\n"


def test_a_command_that_only_reads_does_not(operator: "Operator") -> None:
    operator.enqueue("m1")
    for arguments in (("messages", "list"), ("status",), ("queue",), ("tenants", "list")):
        assert operator.run(*arguments).named == ""


def test_a_copy_names_both_outboxes(operator: "Operator") -> None:
    operator.enqueue("m1")
    ran = operator.run("outbox", "copy", "sqlite:///relay.db", "sqlite:///other.db")
    assert ran.named == (
        f"outbox: {operator.folder / 'relay.db'}\n"
        f"relay: creating a NEW outbox: {operator.folder / 'other.db'}\n"
    )


@pytest.mark.parametrize(
    ("location", "environment", "place"),
    [
        (OutboxLocation("sqlite:////var/lib/x.db"), {}, "/var/lib/x.db"),
        (OutboxLocation("postgresql://u:secret@db:5432/shop"), {}, "postgresql://db:5432/shop"),
        (
            OutboxLocation("postgresql://db/shop", "ion", "out_"),
            {},
            "postgresql://db/shop (schema ion, tables out_…)",
        ),
        (
            OutboxLocation("postgresql://"),
            {"PGHOST": "db", "PGDATABASE": "shop"},
            "postgresql:// (host db, database shop)",
        ),
        (
            OutboxLocation("postgresql:///shop?host=/run/pg"),
            {"PGHOST": "db"},
            "postgresql:///shop?host=/run/pg",
        ),
    ],
)
def test_the_place_is_the_absolute_path_or_host_and_database(
    location: OutboxLocation, environment: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    assert location.place == place


# --- none is made by accident -------------------------------------------------------------------------------


def test_enqueue_in_another_folder_makes_no_outbox(operator: "Operator") -> None:
    ran = operator.run("enqueue", *LIKE, "-", given=b"x")
    assert (ran.code, ran.out) == (1, "")
    assert f"there is no outbox at {operator.folder / 'relay.db'}" in ran.err
    assert "create it there with: relay outbox upgrade" in ran.err
    assert files(operator.folder) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("status", "--alive"),
        ("queue",),
        ("next",),
        ("audit",),
        ("tenants", "list"),
        ("tenants", "show", "ACME"),
        ("tenants", "pause", "ACME"),
        ("messages", "list"),
        ("messages", "show", "m1"),
        ("messages", "park", "m1"),
        ("messages", "drop", "--state", "parked"),
    ],
    ids=" ".join,
)
def test_no_other_command_makes_one_either(operator: "Operator", arguments: tuple[str, ...]) -> None:
    ran = operator.run(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert f"there is no outbox at {operator.folder / 'relay.db'}" in ran.err
    assert files(operator.folder) == {}


@pytest.mark.parametrize(
    "arguments", [("enqueue", *LIKE, "--create", "-"), ("outbox", "upgrade")], ids=["enqueue", "upgrade"]
)
def test_one_that_is_wanted_is_made_and_that_is_said(
    operator: "Operator", arguments: tuple[str, ...]
) -> None:
    ran = operator.run(*arguments, given=b"x")
    assert ran.code == 0
    assert ran.named == f"relay: creating a NEW outbox: {operator.folder / 'relay.db'}\n"
    again = operator.run(*arguments, given=b"x")
    assert again.named == f"outbox: {operator.folder / 'relay.db'}\n"


def test_run_reports_a_new_outbox_and_names_it_at_each_start(operator: "Operator") -> None:
    operator.set({"RELAY_WEB__LISTEN": "off", "RELAY_TENANTS__GLOBEX__ION_URL": "http://127.0.0.1:9/service"})
    starts = [operator.start("run", "--until-empty", "--within", "0").stderr for _ in range(2)]
    events = [[json.loads(line) for line in text.splitlines()] for text in starts]
    created, started = (
        [one for one in events[0] if one["event"] == name] for name in ("outbox.created", "relay.started")
    )
    place = str(operator.folder / "relay.db")
    assert [(one["level"], one["outbox"], one["code"]) for one in created] == [
        ("warning", place, "RELAY-158")
    ]
    assert [(one["outbox"], one["tenants"]) for one in started] == [(place, 2)]
    assert started[0]["version"]
    assert not [one for one in events[1] if one["event"] == "outbox.created"]


# --- relay check changes nothing ----------------------------------------------------------------------------


def test_check_makes_no_outbox(operator: "Operator") -> None:
    ran = operator.run("check", "--json")
    (step,) = [step for step in ran.json["steps"] if step["step"] == "outbox"]
    assert step["ok"]
    assert step["detail"] == f"{operator.folder / 'relay.db'} does not exist yet; relay run creates it"
    assert files(operator.folder) == {}


def test_check_leaves_an_outbox_and_its_folder_as_they_are(operator: "Operator") -> None:
    operator.enqueue("m1", tenant="GLOBEX")
    before = files(operator.folder)
    assert list(before) == ["relay.db"]
    ran = operator.run("check", "--json")
    (step,) = [step for step in ran.json["steps"] if step["step"] == "outbox"]
    assert (step["ok"], step["detail"]) == (True, str(operator.folder / "relay.db"))
    assert files(operator.folder) == before


def test_check_reads_the_log_of_a_relay_that_runs(operator: "Operator") -> None:
    """A message of an unconfigured tenant that is in the write-ahead log only."""
    operator.enqueue("m1")
    statement = "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('OTHER', 'D', 'x')"
    connection = sqlite3.connect(operator.folder / "relay.db")
    connection.execute(statement)
    connection.commit()
    names = set(files(operator.folder))
    ran = operator.run("check", "--json")
    assert set(files(operator.folder)) == names
    connection.close()
    (step,) = [step for step in ran.json["steps"] if step["step"] == "outbox"]
    assert (step["ok"], "not configured: OTHER" in step["detail"]) == (False, True)


def test_check_does_not_upgrade_an_older_outbox(operator: "Operator") -> None:
    connection = sqlite3.connect(operator.folder / "relay.db")
    connection.executescript(schema.versions()[0][1])
    connection.close()
    before = files(operator.folder)
    ran = operator.run("check", "--json")
    (step,) = [step for step in ran.json["steps"] if step["step"] == "outbox"]
    assert step["ok"]
    assert (
        f"has schema version 1; relay run brings it to version {schema.versions()[-1][0]}" in step["detail"]
    )
    assert files(operator.folder) == before


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be looked at" * 20])
def test_check_of_a_file_that_is_no_outbox_changes_nothing(operator: "Operator", content: bytes) -> None:
    (operator.folder / "relay.db").write_bytes(content)
    ran = operator.run("check", "--json")
    (step,) = [step for step in ran.json["steps"] if step["step"] == "outbox"]
    assert step["ok"] is (content == b"")
    assert files(operator.folder) == {"relay.db": content}


def test_check_of_a_folder_that_does_not_exist_fails(operator: "Operator") -> None:
    operator.set({"RELAY_OUTBOX__URL": "sqlite:///none/relay.db"})
    ran = operator.run("check", "--json")
    (step,) = [step for step in ran.json["steps"] if step["step"] == "outbox"]
    assert (step["ok"], "there is no folder none" in step["detail"]) == (False, True)


def test_check_of_a_folder_that_cannot_be_written_fails(
    operator: "Operator", monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    ran = operator.run("check", "--json")
    (step,) = [step for step in ran.json["steps"] if step["step"] == "outbox"]
    assert (step["ok"], "cannot be written" in step["detail"]) == (False, True)


# --- misspelt settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("enqueue", *LIKE, "--create", "-"),
        ("status",),
        ("queue",),
        ("next",),
        ("audit",),
        ("tenants", "list"),
        ("tenants", "pause", "ACME"),
        ("messages", "list"),
        ("messages", "park", "m1"),
        ("outbox", "upgrade"),
        ("outbox", "schema"),
        ("outbox", "copy", "sqlite:///relay.db", "sqlite:///copy.db"),
        ("check",),
    ],
    ids=" ".join,
)
def test_every_command_names_a_variable_that_is_no_setting(
    operator: "Operator", arguments: tuple[str, ...]
) -> None:
    operator.enqueue("m1")
    operator.set({"RELAY_OUTBOX_URL": "sqlite:////elsewhere/relay.db"})
    (operator.folder / ".env").write_text("RELAY_LOG__LEVL=info\n")
    ran = operator.run(*arguments, given=b"<x/>")
    said = ran.out + ran.err
    assert said.count("RELAY_OUTBOX_URL: is not a setting of the relay; did you mean RELAY_OUTBOX__URL?") == 1
    assert said.count("RELAY_LOG__LEVL: is not a setting of the relay; did you mean RELAY_LOG__LEVEL?") == 1


def test_json_stays_json_beside_the_warning(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.set({"RELAY_OUTBOX_URL": "x"})
    ran = operator.run("messages", "list", "--json")
    assert len(ran.json) == 1
    assert ran.err.startswith("relay: warning: RELAY_OUTBOX_URL: ")


def test_run_without_a_tenant_names_the_misspelt_one(operator: "Operator") -> None:
    operator.unset("RELAY_TENANTS__")
    operator.set({"RELAY_TENANT__ACME__LOGICAL_ID": "lid://x"})
    ran = operator.run("run")
    assert ran.code == 2
    assert "did you mean RELAY_TENANTS__ACME__LOGICAL_ID?" in ran.err


def test_on_postgresql_host_and_database_are_named(operator: "Operator", postgres: Cluster) -> None:
    operator.set({"RELAY_OUTBOX__URL": postgres.url_of("no_such_database")})
    ran = operator.run("enqueue", *LIKE, "--create", "-", given=b"x")
    assert (ran.code, ran.out) == (1, "")
    assert ran.named.endswith("/no_such_database\n")
    assert "127.0.0.1" in ran.named or "localhost" in ran.named
