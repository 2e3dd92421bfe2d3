"""The command line as a whole: help, versions, exit codes, colours, and what it does not import."""

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import relay

if TYPE_CHECKING:
    from tests.cli.conftest import Person

CANARY = "canary-7f3a9"
FAMILIES = ("run", "enqueue", "check", "status", "queue", "next", "messages", "tenants", "outbox", "sandbox")


def test_help_names_every_command_and_fits_a_line_each(person: "Person") -> None:
    ran = person.runs("--help")
    assert ran.code == 0
    lines = ran.out.splitlines()
    for family in FAMILIES:
        (line,) = [line for line in lines if line.startswith(f"  {family} ")]
        assert not line.endswith("..."), line


def test_without_a_command_the_help_is_shown_and_the_use_is_wrong(person: "Person") -> None:
    ran = person.runs()
    assert ran.code == 2
    assert "Usage: relay" in ran.out + ran.err


@pytest.mark.parametrize(
    "command",
    [
        *[(family,) for family in FAMILIES],
        *[("messages", one) for one in ("list", "show", "retry", "park", "drop")],
        *[("tenants", one) for one in ("list", "pause", "resume")],
        *[("outbox", one) for one in ("schema", "upgrade")],
    ],
)
def test_every_command_has_its_help(person: "Person", command: tuple[str, ...]) -> None:
    ran = person.runs(*command, "--help")
    assert ran.code == 0
    assert f"Usage: relay {' '.join(command)}" in ran.out
    assert "\x1b" not in ran.out


def test_version(person: "Person") -> None:
    ran = person.runs("--version")
    assert (ran.code, ran.out) == (0, f"{relay.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("status", "--frobnicate"),
        ("enqueue", "--tenant"),
        ("messages",),
        ("messages", "show"),
        ("run", "--within", "5"),
        ("run", "--until-empty", "--within", "soon"),
        ("messages", "list", "--state", "lost"),
        ("messages", "list", "--limit", "0"),
        ("messages", "retry"),
        ("tenants", "pause"),
    ],
)
def test_wrong_use_is_told_on_stderr_with_exit_code_2(person: "Person", arguments: tuple[str, ...]) -> None:
    ran = person.runs(*arguments)
    assert ran.code == 2
    assert ran.err or "Usage:" in ran.out


def test_wrong_settings_are_all_told_with_exit_code_2(person: "Person") -> None:
    person.sets(
        {"RELAY_LOG__LEVEL": "loud", "RELAY_TENANTS__ACME__LOGICAL_ID": "acme", "RELAY_LOG__LEVL": "x"}
    )
    for command in (["run"], ["status"], ["check"], ["enqueue"], ["messages", "list"], ["tenants", "list"]):
        ran = person.runs(*command)
        assert ran.code == 2, command
        assert ran.out == ""
        assert ran.err.splitlines() == [
            "relay: RELAY_LOG__LEVEL: is not one of its values; use 'debug', 'info', 'warning' or 'error'",
            "relay: RELAY_TENANTS__ACME__LOGICAL_ID: 'acme' does not begin with lid://; write lid:// before it",
            "relay: RELAY_LOG__LEVL: is not a setting of the relay; did you mean RELAY_LOG__LEVEL?",
        ]


def test_running_without_a_tenant_is_a_configuration_to_mend(person: "Person") -> None:
    person.unsets("RELAY_TENANTS__")
    ran = person.runs("run")
    assert ran.code == 2
    assert "no tenant is configured" in ran.err


@pytest.mark.parametrize(
    "command", [("status",), ("messages", "list"), ("messages", "show", "m"), ("tenants", "list")]
)
def test_where_there_is_no_outbox_it_is_said_and_none_is_made(
    person: "Person", command: tuple[str, ...]
) -> None:
    ran = person.runs(*command)
    assert ran.code != 0
    assert "there is no outbox" in ran.err
    assert not (person.folder / "relay.db").exists()


def test_an_outbox_url_that_names_none_is_a_configuration_to_mend(person: "Person") -> None:
    person.sets({"RELAY_OUTBOX__URL": "mysql://user:canary-7f3a9@host/db"})
    ran = person.runs("status")
    assert ran.code == 2
    assert "sqlite:///" in ran.err


def test_a_file_that_is_no_outbox_is_told_with_exit_code_2(person: "Person") -> None:
    (person.folder / "relay.db").write_bytes(b"not a database at all" * 100)
    assert person.runs("status").code == 2


# --- the process itself ---------------------------------------------------------------------------------


def test_the_real_process_ends_with_the_code_and_keeps_stdout_for_results(person: "Person") -> None:
    person.hands_over("m1")
    ran = person.starts("messages", "list", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert '"message_id": "m1"' in ran.stdout
    ran = person.starts("messages", "show", "m2")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "relay: there is no message m2\n"


def test_a_reader_that_goes_away_is_no_traceback(person: "Person") -> None:
    person.hands_over("m1")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = person.starts("messages", "list", capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_result_that_cannot_be_written_is_told(person: "Person") -> None:
    person.hands_over("m1")
    with Path("/dev/full").open("w") as full:
        ran = person.starts("messages", "list", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert ran.returncode == 1
    assert ran.stderr == "relay: the result cannot be written: No space left on device\n"


def output_on_a_terminal(person: "Person", *arguments: str) -> str:
    ours, theirs = pty.openpty()
    try:
        person.starts(*arguments, capture_output=False, stdout=theirs, stderr=theirs)
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_table_is_in_colour_on_a_terminal_and_plain_when_piped(person: "Person") -> None:
    person.hands_over("m1")
    person.sets({"TERM": "xterm-256color"})
    for arguments in (("status",), ("messages", "list")):
        assert "\x1b[" in output_on_a_terminal(person, *arguments)
        assert "\x1b" not in person.starts(*arguments).stdout
    person.sets({"NO_COLOR": "1"})
    assert "\x1b[3" not in output_on_a_terminal(person, "status")


def test_help_is_quick_nothing_heavy_is_imported_for_it() -> None:
    heavy = ("aiohttp", "pydantic", "sqlite3", "uvloop", "oauthlib", "relay.sandbox", "relay.daemon.app")
    code = (
        "import sys, relay.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


# --- check and outbox ---------------------------------------------------------------------------------------


def test_check_tells_every_step_and_the_mend_of_each_that_fails(person: "Person") -> None:
    ran = person.runs("check")
    assert ran.code == 1
    assert "tenants: ACME, GLOBEX" in ran.out
    assert any(line.startswith("ok") and "outbox" in line for line in ran.out.splitlines())
    assert "cannot connect" in ran.out
    assert "mend: ACME, ping: " in ran.out
    (hint,) = [line for line in ran.out.splitlines() if line.startswith("mend: GLOBEX, ping: ")]
    assert hint.endswith(" (RELAY-103)")


def test_check_names_misspelt_variables(person: "Person") -> None:
    person.sets({"RELAY_LOG__LEVL": "x"})
    assert (
        "note: RELAY_LOG__LEVL: is not a setting of the relay; did you mean RELAY_LOG__LEVEL?"
        in person.runs("check").out
    )


def test_check_as_json_has_one_shape_also_for_wrong_settings(person: "Person") -> None:
    person.sets({"RELAY_LOG__LEVL": "x"})
    ran = person.runs("check", "--json")
    assert (ran.code, ran.json["ok"]) == (1, False)
    assert {step["step"] for step in ran.json["steps"]} >= {"configuration", "outbox", "ping"}
    assert ran.json["unknown"][0]["name"] == "RELAY_LOG__LEVL"
    person.sets({"RELAY_LOG__LEVEL": "loud"})
    ran = person.runs("check", "--json")
    assert (ran.code, ran.json["ok"]) == (2, False)
    assert ran.json["steps"][0]["detail"].startswith("RELAY_LOG__LEVEL: ")
    assert ran.json["steps"][0]["code"] == "RELAY-162"


def test_check_without_a_tenant_fails(person: "Person") -> None:
    person.unsets("RELAY_TENANTS__")
    ran = person.runs("check")
    assert ran.code == 1
    assert "no tenant is configured" in ran.out


def test_check_tells_a_broken_file_of_the_folder_and_tries_the_other_tenants(person: "Person") -> None:
    (person.folder / "tenants").mkdir()
    (person.folder / "tenants" / "BAD.toml").write_text('logical_id = "lid://bad"\n')
    person.sets({"RELAY_TENANTS_DIR": "tenants", "RELAY_NOT_TENANTS": "GLOBEX"})
    ran = person.runs("check", "--json")
    assert ran.code == 1
    configured, wrong, *others = ran.json["steps"]
    assert (configured["ok"], configured["detail"]) == (
        True,
        "tenants: ACME (1 more are left to other relays)",
    )
    assert (wrong["ok"], wrong["step"]) == (False, "configuration")
    assert "BAD.toml: has no credentials" in wrong["detail"]
    assert "IONAPI_FILE" in wrong["hint"]
    assert [step["code"] for step in (configured, wrong, *others)] == [None, "RELAY-162", None, "RELAY-113"]
    assert {step["tenant"] for step in others} == {None, "ACME"}


def test_check_does_not_miss_tenants_that_are_left_to_other_relays(person: "Person") -> None:
    person.hands_over("m1", tenant="GLOBEX")
    person.unsets("RELAY_TENANTS__GLOBEX")
    (missed,) = [step for step in person.runs("check", "--json").json["steps"] if step["step"] == "outbox"]
    assert "not configured: GLOBEX" in missed["detail"]
    assert missed["code"] == "RELAY-163"
    person.sets({"RELAY_ONLY_TENANTS": "ACME*"})
    (missed,) = [step for step in person.runs("check", "--json").json["steps"] if step["step"] == "outbox"]
    assert missed["ok"]


def test_check_says_when_the_patterns_leave_no_tenant(person: "Person") -> None:
    person.sets({"RELAY_ONLY_TENANTS": "NOBODY_*"})
    ran = person.runs("check", "--json")
    assert ran.code == 1
    assert ran.json["steps"][0]["detail"] == "this relay carries no tenant"
    assert "RELAY_ONLY_TENANTS" in ran.json["steps"][0]["hint"]


def test_outbox_upgrade_makes_one_and_says_so_each_time(person: "Person") -> None:
    for _ in range(2):
        assert person.runs("outbox", "upgrade").code == 0
    assert (person.folder / "relay.db").exists()
    assert person.runs("status").code == 0


def test_outbox_schema_prints_the_statements_and_touches_nothing(person: "Person") -> None:
    ran = person.runs("outbox", "schema")
    assert ran.code == 0
    assert "CREATE TABLE relay_outbox" in ran.out
    assert not (person.folder / "relay.db").exists()


# --- run ----------------------------------------------------------------------------------------------------


def test_run_until_empty_ends_fine_where_nothing_waits(person: "Person") -> None:
    ran = person.starts("run", "--until-empty", "--within", "20")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert '"event": "relay.started"' in ran.stderr
    assert CANARY not in ran.stderr


def test_run_until_empty_reports_what_it_cannot_deliver(person: "Person") -> None:
    person.hands_over("m1")
    person.runs("tenants", "pause", "ACME")
    ran = person.starts("run", "--until-empty", "--within", "20")
    assert ran.returncode == 1
    assert '"event": "tenant.stuck"' in ran.stderr


def test_a_second_relay_on_the_same_outbox_is_refused_in_words(person: "Person") -> None:
    from relay.outbox import open_outbox

    async def work() -> "subprocess.CompletedProcess[str]":
        outbox = await open_outbox(f"sqlite:///{person.folder / 'relay.db'}", exclusive=True)
        try:
            return await asyncio.to_thread(person.starts, "run")
        finally:
            await outbox.close()

    ran = asyncio.run(work())
    assert ran.returncode == 1
    assert ran.stderr.startswith("relay: ")
    assert "Traceback" not in ran.stderr
