"""`relay sandbox` as a process of its own: output and exit codes."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from relay.cli.sandbox import sandbox_app
from relay.sandbox import FaultError
from relay.sandbox.running import read_faults, read_tenant

_RELAY = [sys.executable, "-m", "relay", "sandbox"]


def _run(*arguments: str) -> Result:
    """In this process: starting one takes a second."""
    return CliRunner().invoke(sandbox_app, arguments)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A simulator on a free port, with faults from a file; the content of its ready file."""
    faults = tmp_path / "faults.toml"
    faults.write_text('[[faults]]\ncall = "token"\nstatus = 503\ncount = 1\n')
    arguments = ["--port", "0", "--directory", str(tmp_path / "d"), "--ready-file", str(tmp_path / "ready")]
    arguments += ["--faults", str(faults), "--accept", "A.B", "--tenant", "ONE", "--tenant", "TWO,oauth1"]
    process = subprocess.Popen([*_RELAY, *arguments, "--json"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        printed = json.loads(process.stdout.readline())
        assert printed == json.loads((tmp_path / "ready").read_text())
        yield printed
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_every_command_works_while_it_runs(served: dict[str, Any], tmp_path: Path) -> None:
    url = ["--url", served["url"]]
    assert list(served["environment"]) == [
        "RELAY_TENANTS__ONE__LOGICAL_ID",
        "RELAY_TENANTS__ONE__IONAPI_FILE",
        "RELAY_TENANTS__TWO__LOGICAL_ID",
        "RELAY_TENANTS__TWO__ION_URL",
        "RELAY_TENANTS__TWO__OAUTH1__CONSUMER_KEY",
        "RELAY_TENANTS__TWO__OAUTH1__CONSUMER_SECRET",
    ]
    assert json.loads((tmp_path / "d" / "ONE.ionapi").read_text())["iu"] == served["url"]
    added = _run("faults", "add", "call=post", "status=503", "add=A", "add=B", *url)
    assert added.stdout == "f2  active, applied 0 times  call=post status=503 add=['A', 'B']\n"
    listed = json.loads(_run("faults", "--json", *url).stdout)
    assert [fault["id"] for fault in listed] == ["f1", "f2"]
    assert _run("faults", "remove", "f1", *url).exit_code == 0
    assert _run("faults", "remove", "f1", *url).exit_code == 1
    assert _run("faults", "clear", *url).exit_code == 0
    refused = _run("faults", "add", "status=abc", *url)
    assert (refused.exit_code, "faults[0].status" in refused.stderr) == (2, True)
    assert _run("faults", "add", *url).exit_code == 2
    assert _run("faults", "add", "call=post", "cut=after", "text=4711", "share=0.5", *url).exit_code == 0
    assert _run("faults", "add", "status", *url).exit_code == 2
    assert json.loads(_run("summary", *url).stdout)["tenants"]["ONE"]["accepted"] == ["A.B"]
    for nothing in ("record", "requests", "violations"):
        shown = _run(nothing, *url)
        assert (shown.exit_code, shown.stdout) == (0, "")
    unknown = _run("payload", "ONE", "nothing", *url)
    assert (unknown.exit_code, "was taken" in unknown.stderr) == (1, True)


def test_a_port_that_is_taken_is_a_clear_error(served: dict[str, Any]) -> None:
    """In a process of its own: its exit code is what counts."""
    command = [*_RELAY, "--port", str(served["port"])]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == 2
    assert f"port {served['port']} on 127.0.0.1 is in use" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_its_output_is_for_a_shell_and_sigint_ends_it() -> None:
    process = subprocess.Popen([*_RELAY, "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(8)]
        assert lines[0].startswith("# sandbox listening on http://127.0.0.1:")
        assert lines[2] == "export RELAY_TENANTS__ACME_PRD__LOGICAL_ID=lid://acme.orders.1\n"
        shell = subprocess.run(
            ["sh", "-c", f"{''.join(lines)}\nenv"], capture_output=True, text=True, check=True, env={}
        )
        found = dict(line.split("=", 1) for line in shell.stdout.splitlines())
        assert Path(found["RELAY_TENANTS__ACME_PRD__IONAPI_FILE"]).exists()
        assert "RELAY_TENANTS__GLOBEX_TST__OAUTH1__CONSUMER_SECRET" in found
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
        assert not Path(found["RELAY_TENANTS__ACME_PRD__IONAPI_FILE"]).exists(), "its own folder goes with it"
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--tenant", "NOT-GOOD"], "NOT-GOOD"),
        (["--tenant", "A,oauth3"], "oauth1 or oauth2"),
        (["--tenant", "A", "--tenant", "a"], "exists already"),
        (["--faults", "/nowhere.toml"], "cannot be read"),
        (["--port", "70000"], "--port"),
    ],
)
def test_wrong_use_exits_with_2_and_names_what_is_wrong(arguments: list[str], expected: str) -> None:
    refused = _run("--port", "0", *arguments)
    assert refused.exit_code == 2
    assert expected in refused.stderr


def test_the_commands_report_that_no_sandbox_runs() -> None:
    refused = _run("violations", "--url", "http://127.0.0.1:1")
    assert (refused.exit_code, "no sandbox answers" in refused.stderr) == (1, True)
    assert _run("violations", "--url", "file:///etc/passwd").exit_code == 2


def test_faults_files_are_toml_or_json(tmp_path: Path) -> None:
    rules = [{"call": "ping", "status": 503}]
    toml, plain, wrapped = tmp_path / "w.toml", tmp_path / "w.json", tmp_path / "x.json"
    toml.write_text('[[faults]]\ncall = "ping"\nstatus = 503\n')
    plain.write_text(json.dumps(rules))
    wrapped.write_text(json.dumps({"faults": rules}))
    assert read_faults(toml) == read_faults(plain) == read_faults(wrapped) == rules


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.toml", "not = toml = at all"),
        ("w.json", "{"),
        ("w.json", "7"),
        ("w.json", '{"whether": []}'),
        ("w.toml", "[faults]\nstatus = 503\n"),
        ("w.toml", "\xff"),
    ],
)
def test_an_invalid_faults_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(FaultError) as refused:
        read_faults(file)
    assert refused.value.field == str(file)


def test_a_tenant_option_may_name_logical_id_and_authentication(tmp_path: Path) -> None:
    tenant = read_tenant("acme_prd,oauth1,lid://acme.x.1", ["D"], tmp_path)
    assert (tenant.tenant_id, tenant.logical_id, tenant.auth) == ("ACME_PRD", "lid://acme.x.1", "oauth1")
    assert read_tenant("ACME_PRD", ["D"], tmp_path).logical_id == "lid://sandbox.acme_prd.1"
    assert [file.name for file in tmp_path.iterdir()] == ["ACME_PRD.credentials.json"]
