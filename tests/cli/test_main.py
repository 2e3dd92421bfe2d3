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
    from tests.cli.conftest import Operator

CANARY = "canary-7f3a9"
FAMILIES = ("run", "enqueue", "check", "status", "queue", "next", "messages", "tenants", "outbox", "sandbox")


def test_help_names_every_command_and_fits_a_line_each(operator: "Operator") -> None:
    ran = operator.run("--help")
    assert ran.code == 0
    lines = ran.out.splitlines()
    for family in FAMILIES:
        (line,) = [line for line in lines if line.startswith(f"  {family} ")]
        assert not line.endswith("..."), line


def test_without_a_command_the_help_is_shown_with_exit_code_2(operator: "Operator") -> None:
    ran = operator.run()
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
def test_every_command_has_its_help(operator: "Operator", command: tuple[str, ...]) -> None:
    ran = operator.run(*command, "--help")
    assert ran.code == 0
    assert f"Usage: relay {' '.join(command)}" in ran.out
    assert "\x1b" not in ran.out


def test_version(operator: "Operator") -> None:
    ran = operator.run("--version")
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
def test_usage_errors_are_on_stderr_with_exit_code_2(
    operator: "Operator", arguments: tuple[str, ...]
) -> None:
    ran = operator.run(*arguments)
    assert ran.code == 2
    assert ran.err or "Usage:" in ran.out


def test_all_wrong_settings_are_reported_with_exit_code_2(operator: "Operator") -> None:
    operator.set(
        {"RELAY_LOG__LEVEL": "loud", "RELAY_TENANTS__ACME__LOGICAL_ID": "acme", "RELAY_LOG__LEVL": "x"}
    )
    for command in (["run"], ["status"], ["check"], ["enqueue"], ["messages", "list"], ["tenants", "list"]):
        ran = operator.run(*command)
        assert ran.code == 2, command
        assert ran.out == ""
        assert ran.err.splitlines() == [
            "relay: RELAY_LOG__LEVEL: loud is not one of its values; use 'debug', 'info', 'warning' or 'error'",
            "relay: RELAY_TENANTS__ACME__LOGICAL_ID: 'acme' does not begin with lid://; write lid:// before it",
            "relay: RELAY_LOG__LEVL: is not a setting of the relay; did you mean RELAY_LOG__LEVEL?",
        ]


def test_running_without_a_tenant_is_a_configuration_error(operator: "Operator") -> None:
    operator.unset("RELAY_TENANTS__")
    ran = operator.run("run")
    assert ran.code == 2
    assert "no tenant is configured" in ran.err


@pytest.mark.parametrize(
    "command", [("status",), ("messages", "list"), ("messages", "show", "m"), ("tenants", "list")]
)
def test_a_missing_outbox_is_an_error_and_none_is_created(
    operator: "Operator", command: tuple[str, ...]
) -> None:
    ran = operator.run(*command)
    assert ran.code != 0
    assert "there is no outbox" in ran.err
    assert not (operator.folder / "relay.db").exists()


def test_an_outbox_url_of_another_database_is_a_configuration_error(operator: "Operator") -> None:
    operator.set({"RELAY_OUTBOX__URL": "mysql://user:canary-7f3a9@host/db"})
    ran = operator.run("status")
    assert ran.code == 2
    assert "sqlite:///" in ran.err


def test_a_file_that_is_no_outbox_is_an_error_with_exit_code_2(operator: "Operator") -> None:
    (operator.folder / "relay.db").write_bytes(b"not a database at all" * 100)
    assert operator.run("status").code == 2


# --- the process itself ---------------------------------------------------------------------------------


def test_the_real_process_exits_with_the_code_and_prints_only_results_on_stdout(operator: "Operator") -> None:
    operator.enqueue("m1")
    ran = operator.start("messages", "list", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert '"message_id": "m1"' in ran.stdout
    ran = operator.start("messages", "show", "m2")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "relay: there is no message m2\n"


def test_a_closed_pipe_is_no_traceback(operator: "Operator") -> None:
    operator.enqueue("m1")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = operator.start("messages", "list", capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_result_that_cannot_be_written_is_an_error(operator: "Operator") -> None:
    operator.enqueue("m1")
    with Path("/dev/full").open("w") as full:
        ran = operator.start("messages", "list", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert ran.returncode == 1
    assert ran.stderr == "relay: the result cannot be written: No space left on device\n"


def output_on_a_terminal(operator: "Operator", *arguments: str) -> str:
    terminal, its_end = pty.openpty()
    try:
        operator.start(*arguments, capture_output=False, stdout=its_end, stderr=its_end)
        return os.read(terminal, 65536).decode()
    finally:
        os.close(terminal)
        os.close(its_end)


def test_a_table_is_in_colour_on_a_terminal_and_plain_when_piped(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.set({"TERM": "xterm-256color"})
    for arguments in (("status",), ("messages", "list")):
        assert "\x1b[" in output_on_a_terminal(operator, *arguments)
        assert "\x1b" not in operator.start(*arguments).stdout
    operator.set({"NO_COLOR": "1"})
    assert "\x1b[3" not in output_on_a_terminal(operator, "status")


def test_help_imports_nothing_that_is_slow() -> None:
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


def test_check_prints_every_step_and_a_hint_for_each_that_fails(operator: "Operator") -> None:
    ran = operator.run("check")
    assert ran.code == 1
    assert "tenants: ACME, GLOBEX" in ran.out
    assert any(line.startswith("ok") and "outbox" in line for line in ran.out.splitlines())
    assert "cannot connect" in ran.out
    assert "hint: ACME, ping: " in ran.out
    (hint,) = [line for line in ran.out.splitlines() if line.startswith("hint: GLOBEX, ping: ")]
    assert hint.endswith(" (RELAY-103)")


def test_check_names_misspelt_variables(operator: "Operator") -> None:
    operator.set({"RELAY_LOG__LEVL": "x"})
    assert (
        "note: RELAY_LOG__LEVL: is not a setting of the relay; did you mean RELAY_LOG__LEVEL?"
        in operator.run("check").out
    )


def test_check_as_json_has_the_same_keys_for_wrong_settings(operator: "Operator") -> None:
    operator.set({"RELAY_LOG__LEVL": "x"})
    ran = operator.run("check", "--json")
    assert (ran.code, ran.json["ok"]) == (1, False)
    assert {step["step"] for step in ran.json["steps"]} >= {"configuration", "outbox", "ping"}
    assert ran.json["unknown"][0]["name"] == "RELAY_LOG__LEVL"
    operator.set({"RELAY_LOG__LEVEL": "loud"})
    ran = operator.run("check", "--json")
    assert (ran.code, ran.json["ok"]) == (2, False)
    assert ran.json["steps"][0]["detail"].startswith("RELAY_LOG__LEVEL: ")
    assert ran.json["steps"][0]["code"] == "RELAY-162"


def test_check_without_a_tenant_fails(operator: "Operator") -> None:
    operator.unset("RELAY_TENANTS__")
    ran = operator.run("check")
    assert ran.code == 1
    assert "no tenant is configured" in ran.out


def test_check_reports_an_invalid_tenant_file_and_checks_the_other_tenants(operator: "Operator") -> None:
    (operator.folder / "tenants").mkdir()
    (operator.folder / "tenants" / "BAD.toml").write_text('logical_id = "lid://bad"\n')
    operator.set({"RELAY_TENANTS_DIR": "tenants", "RELAY_NOT_TENANTS": "GLOBEX"})
    ran = operator.run("check", "--json")
    assert ran.code == 1
    configured, wrong, *others = ran.json["steps"]
    assert (configured["ok"], configured["detail"]) == (
        True,
        "tenants: ACME (and 1 owned by other relays)",
    )
    assert (wrong["ok"], wrong["step"]) == (False, "configuration")
    assert "BAD.toml: has no credentials" in wrong["detail"]
    assert "IONAPI_FILE" in wrong["hint"]
    assert [step["code"] for step in (configured, wrong, *others)] == [None, "RELAY-162", None, "RELAY-113"]
    assert {step["tenant"] for step in others} == {None, "ACME"}


def test_check_does_not_report_tenants_of_other_relays_as_missing(operator: "Operator") -> None:
    operator.enqueue("m1", tenant="GLOBEX")
    operator.unset("RELAY_TENANTS__GLOBEX")
    (missed,) = [step for step in operator.run("check", "--json").json["steps"] if step["step"] == "outbox"]
    assert "not configured: GLOBEX" in missed["detail"]
    assert missed["code"] == "RELAY-163"
    operator.set({"RELAY_ONLY_TENANTS": "ACME*"})
    (missed,) = [step for step in operator.run("check", "--json").json["steps"] if step["step"] == "outbox"]
    assert missed["ok"]


def test_check_reports_that_the_patterns_select_no_tenant(operator: "Operator") -> None:
    operator.set({"RELAY_ONLY_TENANTS": "NOBODY_*"})
    ran = operator.run("check", "--json")
    assert ran.code == 1
    assert ran.json["steps"][0]["detail"] == "this relay owns no tenant"
    assert "RELAY_ONLY_TENANTS" in ran.json["steps"][0]["hint"]


def test_outbox_upgrade_creates_an_outbox_and_can_be_repeated(operator: "Operator") -> None:
    for _ in range(2):
        assert operator.run("outbox", "upgrade").code == 0
    assert (operator.folder / "relay.db").exists()
    assert operator.run("status").code == 0


def test_outbox_schema_prints_the_statements_and_creates_nothing(operator: "Operator") -> None:
    ran = operator.run("outbox", "schema")
    assert ran.code == 0
    assert "CREATE TABLE relay_outbox" in ran.out
    assert not (operator.folder / "relay.db").exists()


# --- run ----------------------------------------------------------------------------------------------------


def test_run_until_empty_exits_with_0_on_an_empty_outbox(operator: "Operator") -> None:
    ran = operator.start("run", "--until-empty", "--within", "20")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert '"event": "relay.started"' in ran.stderr
    assert CANARY not in ran.stderr


def test_run_until_empty_reports_what_it_cannot_deliver(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.run("tenants", "pause", "ACME")
    ran = operator.start("run", "--until-empty", "--within", "20")
    assert ran.returncode == 1
    assert '"event": "tenant.stuck"' in ran.stderr


def test_a_second_relay_on_the_same_outbox_is_refused_with_a_message(operator: "Operator") -> None:
    from relay.outbox import open_outbox

    async def work() -> "subprocess.CompletedProcess[str]":
        outbox = await open_outbox(f"sqlite:///{operator.folder / 'relay.db'}", exclusive=True)
        try:
            return await asyncio.to_thread(operator.start, "run")
        finally:
            await outbox.close()

    ran = asyncio.run(work())
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("relay: ")
    assert "Traceback" not in ran.stderr
