"""What can fail with the outbox's file: reported clearly, nothing lost, resumed automatically."""

import asyncio
import contextlib
import os
import pwd
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from relay.core.model import Delivered, DocumentName, Draft, Released, RowId, TenantId
from relay.core.ports import StoreError
from relay.outbox import SqliteOutbox, open_outbox, restore, risks_of, to_come
from relay.outbox.sqlite import database, errors
from tests.contract.stores import ACME, ROOM, insert_plainly
from tests.outbox.conftest import Opener
from tests.support import disks
from tests.support.keys import settle_rows
from tests.support.postgres import UNPRIVILEGED

ORDER = DocumentName("Sync.SalesOrder")
ROOT = Path(__file__).parents[2]


def draft(payload: bytes = b"x", tenant: TenantId = ACME) -> Draft:
    return Draft(tenant, ORDER, payload)


async def pending(outbox: SqliteOutbox) -> int:
    return len(await outbox.due(ACME, {ORDER}, frozenset(), frozenset(), 100_000, ROOM))


async def refused(path: Path, *, create: bool = True) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await open_outbox(f"sqlite:///{path}", create=create)
    assert str(path) in str(caught.value)
    return caught.value


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def failure(call: Awaitable[object]) -> StoreError | None:
    try:
        await call
    except StoreError as error:
        return error
    return None


# --- the file -----------------------------------------------------------------------------------


async def test_a_missing_file_is_only_made_where_that_is_asked(opened: Opener, tmp_path: Path) -> None:
    error = await refused(tmp_path / "relay.db", create=False)
    assert "there is no outbox" in str(error)
    assert names_in(tmp_path) == set()
    await opened(tmp_path / "relay.db")
    await opened(tmp_path / "relay.db", create=False)


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    for exclusive in (False, True):
        with pytest.raises(StoreError, match=r"no folder .*/missing .*create it"):
            await open_outbox(f"sqlite:///{tmp_path}/missing/relay.db", exclusive=exclusive)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkdir, "is a directory"),
        (os.mkfifo, "is a FIFO"),
        (lambda path: path.symlink_to("/dev/full"), "is a device"),
    ],
)
async def test_what_is_no_file_is_no_outbox(tmp_path: Path, make: Callable[[Path], None], what: str) -> None:
    """And opening it is not tried: a FIFO would hold up its reader until somebody writes."""
    path = tmp_path / "relay.db"
    make(path)
    error = await refused(path)
    assert what in str(error)
    assert error.lasting
    for call in (to_come, risks_of, restore_nothing):
        with pytest.raises(StoreError, match=what):
            call(f"sqlite:///{path}")
    assert names_in(tmp_path) == {"relay.db"}


def restore_nothing(url: str) -> None:
    restore(url, Path("backup.db"), who="anna", progress=lambda _done, _total: None)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    path.write_text("name,town\n" * 1000)
    error = await refused(path)
    assert "is not a SQLite database" in str(error)
    assert error.lasting
    assert path.read_text() == "name,town\n" * 1000


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id)")
    before = path.read_bytes()
    error = await refused(path)
    assert "another program's database" in str(error)
    assert "relay outbox upgrade" in str(error)
    assert error.lasting
    assert path.read_bytes() == before


# --- two relays -----------------------------------------------------------------------------------


async def test_two_relays_on_one_file_exclude_each_other(opened: Opener, tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    first = await opened(path, exclusive=True)
    with pytest.raises(StoreError, match=rf"another relay \(process {os.getpid()}\)"):
        await opened(path, exclusive=True)
    await opened(path)  # the other commands are not kept out
    await first.close()
    await opened(path, exclusive=True)


async def test_a_start_that_failed_leaves_no_lock_behind(opened: Opener, tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    path.write_text("not a database" * 100)
    with pytest.raises(StoreError, match="not a SQLite database"):
        await opened(path, exclusive=True)
    path.unlink()
    await opened(path, exclusive=True)


# --- rights and ids -------------------------------------------------------------------------------


_WITHOUT_RIGHTS = """
import asyncio, os, sys
from pathlib import Path
from relay.core.ports import StoreError
from relay.outbox import open_outbox
from relay.outbox.sqlite import schema

schema.versions()  # read before the rights are gone
os.setuid(int(sys.argv[3]))  # root has every right

async def main(folder: Path, locked: Path) -> None:
    url = f"sqlite:///{folder}/relay.db"
    running = await open_outbox(url, exclusive=True)
    locked.chmod(0)
    calls = {
        "reading": running.counts, "writing": running.may_write, "again": running.counts,
        "opening": lambda: open_outbox(url), "a relay": lambda: open_outbox(url, exclusive=True),
    }
    for name, call in calls.items():
        try:
            await call()
            print(name, "worked")
        except StoreError as error:
            print(name, error)
    locked.chmod(0o700)
    await running.may_write()
    print("writing worked")
    await running.close()

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def _unprivileged() -> int:
    return pwd.getpwnam(UNPRIVILEGED).pw_uid if os.geteuid() == 0 else os.geteuid()


@pytest.mark.parametrize("where", ["the folder", "the folder above"])
def test_a_folder_without_rights_is_said_to_be_that(where: str) -> None:
    """Nothing was moved or deleted, and with the rights back the outbox works again."""
    with TemporaryDirectory() as base:  # pytest's own folders are closed to others
        Path(base).chmod(0o755)
        above = Path(base, "above")
        folder = above / "folder"
        folder.mkdir(parents=True)
        for one in (above, folder):
            os.chown(one, _unprivileged(), -1)
        _check_without_rights(folder, folder if where == "the folder" else above)


def _check_without_rights(folder: Path, locked: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _WITHOUT_RIGHTS, str(folder), str(locked), str(_unprivileged())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    *lines, last = ran.stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert "cannot be reached (Permission denied); give this user the right" in line or (
            "cannot be opened (Permission denied); give this user the right" in line
        ), line
        assert "moved" not in line
    assert last == "writing worked"


@pytest.mark.parametrize(
    "end",
    [
        "INSERT INTO relay_outbox (id, tenant_id, document_name, payload) VALUES (1 << 62, 'A', 'B', 'x')",
        "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'relay_outbox'",
    ],
)
async def test_ids_that_are_used_up_are_no_full_disk(opened: Opener, tmp_path: Path, end: str) -> None:
    """SQLite's own error is the same for both."""
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    await outbox.add([draft()])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(end)
    with pytest.raises(
        StoreError, match=r"ids of the outbox .* are used up: .* then run: UPDATE sqlite_seq"
    ) as e:
        await outbox.add([draft()])
    assert "disk" not in str(e.value)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM relay_outbox WHERE id >= 1 << 62")
        connection.execute(str(e.value).partition("then run: ")[2])
    await outbox.add([draft()])
    assert await pending(outbox) == 2


# --- the disk -------------------------------------------------------------------------------------


async def test_on_a_full_disk_nothing_is_half_stored_and_calls_succeed_once_there_is_room(
    opened: Opener, small_disk: Path
) -> None:
    outbox = await opened(small_disk / "relay.db")
    await outbox.add([draft(b"first")])
    ballast = disks.fill(small_disk)
    stored = 1
    while (error := await failure(outbox.add([draft(b"A" * 9000), draft(b"B" * 9000)]))) is None:
        stored += 2
    assert "disk is full" in str(error)
    assert not error.lasting
    assert await pending(outbox) == stored
    (message, *_) = await outbox.due(ACME, {ORDER}, frozenset(), frozenset(), 1, ROOM)
    while (error := await failure(outbox.settle([(message.key, Released("HTTP 503"))]))) is None:
        pass
    assert "disk is full" in str(error)
    ballast.unlink()
    await outbox.add([draft(b"last")])
    await outbox.settle([(message.key, Delivered())])
    assert await pending(outbox) == stored
    assert integrity(small_disk / "relay.db") == "ok"


SORTING = """
import sqlite3, sys
from pathlib import Path
from relay.outbox.sqlite.errors import explain
with sqlite3.connect(sys.argv[1]) as connection:
    connection.execute("PRAGMA cache_size = 10")
    try:
        connection.execute(
            "WITH RECURSIVE n (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n WHERE x < 100000) "
            "SELECT x FROM n ORDER BY randomblob(50)"
        ).fetchone()
    except sqlite3.Error as error:
        print(explain(error, Path(sys.argv[1])))
"""


@pytest.mark.parametrize("variable", ["SQLITE_TMPDIR", "TMPDIR"])
def test_a_full_disk_of_temporary_files_is_not_that_of_the_outbox(tmp_path: Path, variable: str) -> None:
    path = tmp_path / "relay.db"
    with disks.small(tmp_path / "temporary", "1m") as folder:
        disks.fill(folder)
        environ = {name: text for name, text in os.environ.items() if not name.endswith("TMPDIR")}
        ran = subprocess.run(
            [sys.executable, "-c", SORTING, str(path)],
            env=environ | {variable: str(folder), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
    assert f"the disk is full under {folder}, where SQLite sorts" in ran.stdout
    assert f"the outbox {path} has room" in ran.stdout


async def test_a_disk_that_is_full_from_the_start_is_reported(small_disk: Path) -> None:
    disks.fill(small_disk)
    error = await refused(small_disk / "relay.db")
    assert "disk is full" in str(error)


async def test_a_folder_that_cannot_be_written_is_reported_and_can_be_fixed(
    opened: Opener, small_disk: Path
) -> None:
    path = small_disk / "relay.db"
    await (await opened(path)).close()
    remount(small_disk, "ro")
    error = await refused(path)
    assert "right to write" in str(error)
    assert not error.lasting
    with pytest.raises(StoreError, match="right to write"):
        await open_outbox(f"sqlite:///{path}", exclusive=True)
    remount(small_disk, "rw")
    await (await opened(path)).add([draft()])


async def test_a_read_only_disk_that_is_made_writable_needs_no_new_start(
    opened: Opener, small_disk: Path
) -> None:
    path = small_disk / "relay.db"
    outbox = await opened(path)
    remount(small_disk, "ro")
    with pytest.raises(StoreError, match="right to write"):
        await outbox.add([draft()])
    remount(small_disk, "rw")
    await outbox.add([draft()])
    assert await pending(outbox) == 1


def remount(folder: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


async def test_a_damaged_file_is_reported_and_a_restored_backup_is_used(
    opened: Opener, tmp_path: Path
) -> None:
    path = tmp_path / "relay.db"
    first = await opened(path)
    await first.add([draft(bytes([65 + i % 20]) * 3000) for i in range(200)])
    await first.close()
    backup = path.read_bytes()
    outbox = await opened(path)
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(len(backup) - 4 * 4096))
    with pytest.raises(StoreError, match=r"is damaged .*restore a backup"):
        await pending(outbox)
    with pytest.raises(StoreError, match="damaged"):
        await outbox.add([draft()])
    path.with_name("new.db").write_bytes(backup)
    path.with_name("new.db").replace(path)
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(StoreError):
                assert await pending(outbox) == 200
                break
            await asyncio.sleep(0)
    await outbox.add([draft()])


async def test_a_deleted_file_is_noticed_and_nothing_goes_into_the_void(
    opened: Opener, tmp_path: Path
) -> None:
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    await outbox.add([draft()])
    aside = path.with_name("aside.db")
    path.rename(aside)
    for call in (outbox.add([draft()]), outbox.notification(), outbox.add([draft()]), outbox.notification()):
        with pytest.raises(StoreError, match=r"moved, deleted or replaced|no outbox at"):
            await call
    assert not path.exists()
    aside.rename(path)
    await outbox.add([draft()])
    assert await pending(outbox) == 2


async def test_arrivals_follow_a_file_that_was_put_back(opened: Opener, tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    await outbox.arrivals(0)
    await outbox.close()
    copy = path.read_bytes()
    again = await opened(path)
    await again.arrivals(0)
    path.with_name("new.db").write_bytes(copy)
    path.with_name("new.db").replace(path)
    insert_plainly(path, draft())
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(StoreError):
                if (await again.arrivals(60)).pending == {ACME}:
                    break


# --- other processes ------------------------------------------------------------------------------


async def test_a_file_that_another_process_holds_locked(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "LOCK_SECONDS", 0.05)
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    await outbox.add([draft()])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another process") as caught:
            await outbox.add([draft()])
        assert not caught.value.lasting
        assert await pending(outbox) == 1  # reading still works
        other.execute("ROLLBACK")
    await outbox.add([draft()])
    assert await pending(outbox) == 2


async def test_a_disk_that_hangs_does_not_hang_the_relay(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock stands in for the disk: the call is given up before SQLite's own patience ends."""
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    await outbox.add([draft()])
    monkeypatch.setattr(database, "CALL_SECONDS", 0.05)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="did not answer within"):
            await outbox.add([draft()])
        other.execute("ROLLBACK")
    monkeypatch.undo()
    await outbox.notification()


PRODUCER = """
import sqlite3, sys
path, name, count = sys.argv[1:]
connection = sqlite3.connect(path, timeout=5)
for i in range(int(count)):
    with connection:
        connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, payload, message_id) VALUES (?, ?, ?, ?)",
            ("acme_prd", "Sync.SalesOrder", "x" * 500, f"{name}-{i}"),
        )
connection.close()
"""


async def test_producers_in_other_processes_and_the_relay_never_see_a_lock(
    opened: Opener, tmp_path: Path
) -> None:
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    producers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", PRODUCER, str(path), name, "200")
        for name in ("a", "b")
    ]
    delivered: list[str] = []
    async with asyncio.timeout(60):
        while len(delivered) < 400:
            messages = await outbox.due(ACME, {ORDER}, frozenset(), frozenset(), 128, ROOM)
            await outbox.settle([(message.key, Delivered()) for message in messages])
            delivered += [message.message_id for message in messages]
            if not messages:
                await outbox.arrivals(1)
    assert [await producer.wait() for producer in producers] == [0, 0]
    assert len(set(delivered)) == 400
    for name in ("a", "b"):
        assert [id_ for id_ in delivered if id_.startswith(name)] == [f"{name}-{i}" for i in range(200)]


SETTLER = """
import asyncio, sys
from relay.core.model import Delivered
from relay.outbox import open_outbox
from relay.outbox.sqlite import schema

async def settle():
    outbox = await open_outbox(sys.argv[1])
    while messages := await outbox.due("ACME_PRD", {"Sync.SalesOrder"}, frozenset(), frozenset(), 16, 10**6):
        await outbox.settle([(message.key, Delivered()) for message in messages])
        print(messages[-1].row, flush=True)

asyncio.run(settle())
"""


async def test_a_relay_killed_while_it_settles_leaves_whole_groups(opened: Opener, tmp_path: Path) -> None:
    """What it reported as settled is settled; of the group in flight, all or nothing."""
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    await outbox.add([draft(b"x" * 500) for _ in range(16 * 200)])
    reported = 0
    for lines in (1, 3, 7):
        settler = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SETTLER, f"sqlite:///{path}", stdout=asyncio.subprocess.PIPE
        )
        assert settler.stdout is not None
        for _ in range(lines):
            reported = int(await settler.stdout.readline())
        settler.send_signal(signal.SIGKILL)
        reported = max([reported, *(int(line) for line in (await settler.stdout.read()).split(b"\n")[:-1])])
        await settler.wait()
        done = (await outbox.counts())[ACME].delivered
        assert done % 16 == 0
        assert reported <= done <= reported + 16
        assert integrity(path) == "ok"


def integrity(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("PRAGMA integrity_check").fetchone()
    return str(found)


async def test_close_leaves_no_thread_and_no_log_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    outbox = await open_outbox(f"sqlite:///{tmp_path}/relay.db")
    await outbox.add([draft()])
    await outbox.arrivals(0.1)
    await outbox.close()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in left if name.startswith("outbox")}
    assert names_in(tmp_path) == {"relay.db"}


async def test_a_trigger_that_names_what_is_not_there_is_to_be_corrected(
    opened: Opener, tmp_path: Path
) -> None:
    """Not answered with a backup alone: the outbox itself is whole."""
    outbox = await opened(tmp_path / "outbox.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db")) as connection:
        connection.execute(
            "CREATE TRIGGER own AFTER UPDATE ON relay_outbox BEGIN SELECT count(*) FROM missing; END"
        )
    await outbox.add([draft()])
    with pytest.raises(StoreError, match=r"main\.missing.*correct the trigger"):
        await settle_rows(outbox, [(RowId(1), Delivered())])


ENDLESS = """
CREATE VIEW endless AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n;
CREATE TRIGGER foreign_trigger AFTER INSERT ON relay_relays BEGIN SELECT count(*) FROM endless; END;
"""


async def test_a_trigger_that_never_ends_does_not_keep_the_outbox_from_closing(
    opened: Opener, tmp_path: Path
) -> None:
    path = tmp_path / "relay.db"
    outbox = await opened(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(ENDLESS)
    beating = asyncio.create_task(failure(outbox.beat("relay-1", {})))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(20):
        await outbox.close()
    assert "interrupted" in str(await beating)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM relay_relays").fetchone() == (0,)


@pytest.mark.parametrize("command", ["run", "outbox upgrade"])
def test_a_process_ends_by_sigterm_though_a_trigger_never_does(tmp_path: Path, command: str) -> None:
    environ = {"RELAY_OUTBOX__URL": "sqlite:///relay.db", "RELAY_WEB__LISTEN": "off", "PYTHONPATH": str(ROOT)}
    relay = [sys.executable, "-m", "relay"]
    subprocess.run([*relay, "outbox", "upgrade"], cwd=tmp_path, env=environ, check=True, capture_output=True)
    with contextlib.closing(sqlite3.connect(tmp_path / "relay.db")) as connection:
        connection.executescript(ENDLESS)
    with subprocess.Popen(
        [*relay, *command.split()], cwd=tmp_path, env=environ, stderr=subprocess.PIPE
    ) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        process.terminate()
        process.wait(40)
