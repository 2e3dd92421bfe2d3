"""Commands where little can be relied on: no working folder, no home, other encodings, streams that end, FIFOs."""

import errno
import json
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from relay.config.sections import WebSettings
from relay.ion.credentials import OAuth1Source
from relay.ion.oauth import Secret
from relay.observability.regular_file import read_regular, read_regular_text
from relay.web.access_control import AccessTokens
from relay.web.token_files import access_tokens
from tests.support.rights import give_up_root_rights

if TYPE_CHECKING:
    from tests.cli.conftest import Operator

MARK = b"\xef\xbb\xbf"
LIKE = ("--tenant", "ACME", "--document", "Sync.SalesOrder")
WITHIN = 30.0
NOT_READ = "relay: warning: .env and relay.toml: are not read, because the working directory "


def absolute(operator: "Operator") -> None:
    """Settings that do not depend on the working folder; an outbox with a message."""
    operator.enqueue("m1")
    operator.set(
        {
            "RELAY_OUTBOX__URL": f"sqlite:///{operator.folder}/relay.db",
            "RELAY_TENANTS__ACME__IONAPI_FILE": str(operator.folder / "acme.ionapi"),
        }
    )


# --- the working folder -------------------------------------------------------------------------------------


def closed() -> None:
    """For `preexec_fn`: a working folder that may not be searched."""
    Path().chmod(0)
    give_up_root_rights()


def deleted() -> None:
    Path.cwd().rmdir()


READING = [("status",), ("messages", "list")]
WRITING = [("enqueue", *LIKE, "-"), ("tenants", "pause", "ACME")]


@pytest.mark.parametrize(("how", "why"), [(closed, "cannot be searched"), (deleted, "was deleted")])
@pytest.mark.parametrize("arguments", [*READING, *WRITING], ids=" ".join)
def test_a_command_with_absolute_settings_works_in_a_folder_that_cannot_be_used(
    operator: "Operator", arguments: tuple[str, ...], how: Callable[[], None], why: str
) -> None:
    absolute(operator)
    (operator.folder / "odd").mkdir()
    ran = operator.start(*arguments, cwd=operator.folder / "odd", preexec_fn=how, stdin=None, input="<x/>")
    assert ran.returncode == 0, ran.stderr
    assert f"{NOT_READ}{why}" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("how", [closed, deleted])
@pytest.mark.parametrize(
    "arguments", [*READING, *WRITING, ("enqueue", *LIKE, "--create", "-"), ("check",), ("run",)], ids=" ".join
)
def test_a_relative_outbox_there_is_an_error_that_names_it(
    operator: "Operator", arguments: tuple[str, ...], how: Callable[[], None]
) -> None:
    (operator.folder / "odd").mkdir()
    ran = operator.start(*arguments, cwd=operator.folder / "odd", preexec_fn=how, stdin=None, input="<x/>")
    assert ran.returncode == 1
    said = ran.stdout + ran.stderr
    assert "the outbox relay.db cannot be reached" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("how", [closed, deleted])
@pytest.mark.parametrize("what", ["backup", "restore"])
def test_a_backup_there_is_an_error(operator: "Operator", what: str, how: Callable[[], None]) -> None:
    absolute(operator)
    (operator.folder / "odd").mkdir()
    ran = operator.start("outbox", what, "b.db", cwd=operator.folder / "odd", preexec_fn=how)
    assert ran.returncode in {1, 2}
    assert "Traceback" not in ran.stderr


def test_settings_files_of_a_closed_folder_are_an_error_where_they_are_named(operator: "Operator") -> None:
    absolute(operator)
    (operator.folder / "odd").mkdir()
    operator.set({"RELAY_CONFIG": str(operator.folder / "odd" / "my.toml")})
    ran = operator.start("status", cwd=operator.folder / "odd", preexec_fn=closed)
    assert ran.returncode == 2
    assert "RELAY_CONFIG: names a file that cannot be read (Permission denied)" in ran.stderr


def test_an_env_file_that_may_not_be_read_is_an_error(operator: "Operator") -> None:
    absolute(operator)
    (operator.folder / ".env").write_text("RELAY_LOG__LEVEL=debug\n")
    (operator.folder / ".env").chmod(0)
    ran = operator.start("status", preexec_fn=give_up_root_rights)
    assert ran.returncode == 2
    assert ".env: cannot be read (Permission denied)" in ran.stderr


def test_a_python_environment_called_env_is_no_settings_file(operator: "Operator") -> None:
    operator.enqueue("m1")
    (operator.folder / ".env").mkdir()
    assert operator.run("status").code == 0


# --- the user -----------------------------------------------------------------------------------------------

NAMELESS = """
import os, pwd, sys
def missing(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = missing
for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
from relay.cli import main
main(sys.argv[1:])
"""


def start_nameless(operator: "Operator", *arguments: str) -> "subprocess.CompletedProcess[str]":
    """As a user without a name and without a home, as containers have it."""
    return subprocess.run(
        [sys.executable, "-c", NAMELESS, *arguments],
        env=operator.environment,
        cwd=operator.folder,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
        input="<x/>",
    )


def test_a_user_without_name_and_home_can_use_every_command(operator: "Operator") -> None:
    operator.enqueue("m1")
    for arguments in (*READING, *WRITING):
        ran = start_nameless(operator, *arguments)
        assert ran.returncode == 0, ran.stderr
    assert {entry["who"].split("@")[0] for entry in operator.run("audit", "--json").json} == {
        str(os.getuid())
    }


@pytest.mark.parametrize(
    "name",
    ["RELAY_TENANTS__ACME__IONAPI_FILE", "RELAY_TENANTS_DIR", "RELAY_OUTBOX__URL_FILE", "RELAY_CONFIG"],
)
def test_a_path_in_a_home_that_does_not_exist_is_named(operator: "Operator", name: str) -> None:
    operator.set({name: "~/x"})
    ran = start_nameless(operator, "status")
    assert ran.returncode == 2
    assert f"relay: {name}: " in ran.stderr
    assert "this user has no home directory" in ran.stderr


# --- encodings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "cp1252:strict"])
def test_a_character_that_the_terminal_lacks_is_escaped(operator: "Operator", encoding: str) -> None:
    operator.enqueue("m1")
    operator.run("messages", "park", "m1", "--reason", "Grüße, 東京 🚚")
    operator.set({"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    name = encoding.partition(":")[0]
    table = operator.start("messages", "list", encoding=name)
    assert table.returncode == 0
    assert "\\u6771\\u4eac" in table.stdout or "東京" in table.stdout
    (message,) = json.loads(operator.start("messages", "list", "--json", encoding=name).stdout)
    assert message["reason"] == "Grüße, 東京 🚚"
    assert operator.start("messages", "show", "m1", encoding=name).returncode == 0


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_in_the_c_locale_a_text_is_stored_as_it_is_or_refused(
    operator: "Operator", locale: dict[str, str]
) -> None:
    operator.enqueue("m1")
    operator.set(locale)
    ran = operator.start("messages", "park", "m1", "--reason", "Grüße")
    assert ran.returncode in {0, 2}
    assert "Traceback" not in ran.stderr
    reason = operator.list_messages()[0]["reason"]
    assert reason == ("Grüße" if ran.returncode == 0 else None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("messages", "park", "m1", "--reason", b"\xff"),
        ("messages", "show", b"\xff"),
        ("messages", "list", "--containing", b"\xff"),
        ("tenants", "pause", b"\xff"),
        ("tenants", "pause", "ACME", "--reason", b"\xff"),
        ("enqueue", *LIKE, "--message-id", b"\xff", "-"),
        ("enqueue", *LIKE, b"\xff.xml"),
        ("explain", b"\xff"),
    ],
)
def test_an_argument_that_is_no_text_is_no_traceback(
    operator: "Operator", arguments: tuple[str | bytes, ...]
) -> None:
    operator.enqueue("m1")
    ran = operator.start(*arguments, stdin=None, input="<x/>")  # type: ignore[arg-type]  # bytes are fine
    assert ran.returncode in {0, 1, 2}
    assert "Traceback" not in ran.stderr


# --- streams ------------------------------------------------------------------------------------------------


def test_ids_that_cannot_be_written_are_on_stderr_and_the_message_is_stored(operator: "Operator") -> None:
    operator.enqueue("m1")
    with Path("/dev/full").open("w") as full:
        ran = operator.start(
            "enqueue",
            *LIKE,
            "-",
            capture_output=False,
            stdout=full,
            stderr=subprocess.PIPE,
            stdin=None,
            input="x",
        )
    assert ran.returncode == 1
    assert "the messages are stored; their ids cannot be written: No space left on device" in ran.stderr
    assert operator.list_messages()[1]["message_id"] in ran.stderr


def test_a_reader_of_the_ids_that_is_gone_is_no_failure_of_the_message(operator: "Operator") -> None:
    operator.enqueue("m1")
    reading, writing = os.pipe()
    os.close(reading)
    ran = operator.start(
        "enqueue",
        *LIKE,
        "-",
        capture_output=False,
        stdout=writing,
        stderr=subprocess.PIPE,
        stdin=None,
        input="x",
    )
    os.close(writing)
    assert ran.returncode == 1
    assert operator.list_messages()[1]["message_id"] in ran.stderr


# --- Ctrl-C -------------------------------------------------------------------------------------------------


def interrupt_at(operator: "Operator", text: bytes, *arguments: str) -> tuple[int, bytes]:
    """Press Ctrl-C on the command's terminal once it shows this; the exit code, and what it showed."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "relay", *arguments],
        env=operator.environment,
        cwd=operator.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while text not in seen:
        assert select.select([ours], [], [], WITHIN)[0], seen
        seen += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    code = process.wait(WITHIN)
    try:
        while more := os.read(ours, 65536):
            seen += more
    except OSError:  # the terminal is gone
        pass
    os.close(ours)
    return code, seen


def test_ctrl_c_at_a_question_ends_with_130_and_changes_nothing(operator: "Operator") -> None:
    operator.enqueue("m1", "m2")
    code, seen = interrupt_at(operator, b"[y/N]", "messages", "park", "--tenant", "ACME")
    assert code == 130
    assert b"Traceback" not in seen
    assert {one["state"] for one in operator.list_messages()} == {"pending"}


@pytest.mark.parametrize("arguments", [("enqueue", *LIKE, "-"), ("enqueue", "--ndjson", "-")])
def test_ctrl_c_while_reading_standard_input_ends_with_130_and_stores_nothing(
    operator: "Operator", arguments: tuple[str, ...]
) -> None:
    operator.enqueue("m1")
    code, seen = interrupt_at(operator, b"end with Ctrl-D", *arguments)
    assert code == 130
    assert b"Traceback" not in seen
    assert len(operator.list_messages()) == 1


@pytest.mark.parametrize("arguments", [("run",), ("status",), ("enqueue", "--ndjson", "-")])
def test_ctrl_c_during_the_imports_ends_with_130_and_no_traceback(
    operator: "Operator", arguments: tuple[str, ...]
) -> None:
    """A module of the working folder, which `python -m` searches first, interrupts who imports it."""
    (operator.folder / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ran = operator.start(*arguments)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


# --- files of settings that are none ------------------------------------------------------------------------

Kind = Literal["a FIFO", "a device", "a directory", "a socket"]
IONAPI = {"RELAY_TENANTS__ACME__IONAPI_FILE": "odd"}
SECRET = {"RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_SECRET_FILE": "odd"}


@pytest.mark.parametrize(
    ("settings", "name", "what"),
    [
        (IONAPI, "odd", "a FIFO"),
        (IONAPI, "odd", "a device"),
        (IONAPI, "odd", "a socket"),
        (SECRET, "odd", "a FIFO"),
        (SECRET, "odd", "a directory"),
        ({"RELAY_OUTBOX__URL_FILE": "odd"}, "odd", "a FIFO"),
        ({"RELAY_CONFIG": "odd"}, "odd", "a FIFO"),
        ({"RELAY_CONFIG": "odd"}, "odd", "a directory"),
        ({"RELAY_TENANTS_DIR": "."}, "INITECH.toml", "a FIFO"),
        ({"RELAY_TENANTS_DIR": "."}, "INITECH.toml", "a device"),
        ({}, ".env", "a FIFO"),
        ({}, ".env", "a device"),
        ({}, "relay.toml", "a FIFO"),
    ],
)
def test_check_refuses_what_is_no_regular_file_by_its_name(
    operator: "Operator", settings: dict[str, str], name: str, what: Kind
) -> None:
    if settings is SECRET:
        operator.unset("RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_SECRET")
    operator.set(settings)
    make(operator.folder / name, what)
    ran = operator.start("check")
    said = ran.stdout + ran.stderr
    assert ran.returncode in {1, 2}
    assert f"it is {what}, not a regular file" in said


def test_run_refuses_a_token_file_that_is_a_fifo(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.set({"RELAY_WEB__LISTEN": "127.0.0.1:0", "RELAY_WEB__TOKEN_FILE": "odd"})
    make(operator.folder / "odd", "a FIFO")
    ran = operator.start("run")
    assert ran.returncode == 2
    assert "odd cannot be read: it is a FIFO, not a regular file" in ran.stderr


@pytest.mark.parametrize("mark", [b"", MARK])
def test_secrets_and_tokens_may_begin_with_a_byte_order_mark(operator: "Operator", mark: bytes) -> None:
    secret, token = operator.folder / "secret", operator.folder / "token"
    secret.write_bytes(mark + b"secret\r\n")
    token.write_bytes(mark + b"t" * 32 + b"\r\n")
    assert OAuth1Source("key", secret).read().consumer_secret.reveal() == "secret"
    settings = WebSettings(token_file=token)
    assert access_tokens(settings) == AccessTokens(Secret("t" * 32), None)


def make(path: Path, what: Kind) -> None:
    match what:
        case "a FIFO":
            os.mkfifo(path)
        case "a device":
            path.symlink_to("/dev/zero")
        case "a directory":
            path.mkdir()
        case "a socket":
            os.mknod(path, stat.S_IFSOCK | 0o600)


def test_documents_come_from_a_process_substitution_and_a_fifo(operator: "Operator") -> None:
    operator.enqueue("m1")
    script = f'"{sys.executable}" -m relay enqueue {" ".join(LIKE)} <(printf 1) <(printf 22)'
    ran = subprocess.run(
        ["bash", "-c", script],
        env=operator.environment,
        cwd=operator.folder,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert [one["size"] for one in operator.list_messages()] == [4, 1, 2]


def test_a_file_that_is_larger_than_any_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 11)
    assert read_regular(tmp_path / "large", 11) == b"x" * 11
    with pytest.raises(OSError, match="larger than 10 bytes") as caught:
        read_regular(tmp_path / "large", 10)
    assert caught.value.errno == errno.EFBIG


# --- byte order marks ---------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_taken_off_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(MARK + b"text")
    assert read_regular_text(tmp_path / "text") == "text"


@pytest.mark.parametrize("mark", [b"", MARK])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_settings_files_may_begin_with_a_byte_order_mark(
    operator: "Operator", mark: bytes, ending: bytes
) -> None:
    """As Windows' editors write them: `.env`, `relay.toml`, the tenants directory, and files with one line."""
    operator.unset("RELAY_TENANTS__")
    tenant = b"logical_id = 'lid://x.y.1'" + ending + b"ionapi_file = 'x.ionapi'" + ending
    directory = operator.folder / "tenants"
    directory.mkdir()
    (directory / "INITECH.toml").write_bytes(mark + tenant)
    (directory / "many.toml").write_bytes(mark + b"[HOOLI]" + ending + tenant)
    (operator.folder / "relay.toml").write_bytes(mark + b"tenants_dir = 'tenants'" + ending)
    (operator.folder / ".env").write_bytes(mark + b"RELAY_OUTBOX__URL_FILE=url" + ending)
    (operator.folder / "url").write_bytes(mark + b"sqlite:///elsewhere.db" + ending)
    made = operator.run("outbox", "upgrade")
    assert (made.code, made.err) == (0, "")
    assert made.named.endswith("/elsewhere.db\n")
    listed: list[dict[str, Any]] = operator.run("tenants", "list", "--json").json
    assert {row["tenant_id"] for row in listed if row["configured"]} == {"INITECH", "HOOLI"}
