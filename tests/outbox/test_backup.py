"""A backup is one moment of the outbox, and a restore leaves the old outbox or the new one, whole, whatever happens."""

import asyncio
import contextlib
import hashlib
import itertools
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.core.model import Delivered, RowId
from relay.core.ports import RestoredBackup, StoreError
from relay.outbox import back_up, open_outbox, restore, upgrade
from relay.outbox.sqlite.backup import Restored
from relay.outbox.sqlite.comparison import Comparison
from tests.cli.conftest import ROOT
from tests.conftest import LONG
from tests.support.keys import settle_rows
from tests.support.process import released

INSERT = "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('ACME', 'Sync.SalesOrder', ?)"

WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
print("open", flush=True)
for line in sys.stdin:
    connection.execute(line)
    print("done", flush=True)
"""


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def no_progress(_done: int, _total: int) -> None:
    pass


def make_backup(path: Path, target: Path, *, force: bool = False) -> None:
    back_up(url(path), target, force=force, progress=no_progress)


def put_back(path: Path, backup: Path) -> Restored:
    return restore(url(path), backup, who="operator@host", progress=no_progress)


def ask(path: Path, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def change(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def filled(path: Path, count: int, size: int = 100) -> Path:
    """An outbox with so many messages of so many bytes."""
    upgrade(url(path))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(INSERT, [(b"x" * size,)] * count)
    return path


def deliver(path: Path, *rows: int) -> None:
    async def settle() -> None:
        outbox = await open_outbox(url(path))
        await settle_rows(outbox, [(RowId(row), Delivered()) for row in rows])
        await outbox.close()

    asyncio.run(settle())


def used_by_a_relay(path: Path) -> RestoredBackup | None:
    """What a relay finds that uses the outbox for a moment, and ends regularly."""

    async def use() -> RestoredBackup | None:
        outbox = await open_outbox(url(path), exclusive=True)
        found = await outbox.restored()
        await outbox.beat("relay", {})
        await outbox.leave("relay")
        await outbox.close()
        return found

    return asyncio.run(use())


def pending(path: Path) -> object:
    return ask(path, "SELECT count(*) FROM relay_outbox WHERE state = 'pending'")[0][0]


def is_whole(path: Path) -> bool:
    return ask(path, "PRAGMA integrity_check") == [("ok",)]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Writer:
    """A program that has the outbox open, until it is killed."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def run(self, statement: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(statement + "\n")
        self.process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def kill(self) -> None:
        with contextlib.suppress(BrokenPipeError), self.process:
            self.process.kill()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """On `relay.db`, which has ten messages."""
    started = Writer(filled(tmp_path / "relay.db", 10))
    yield started
    started.kill()


# --- backup ---------------------------------------------------------------------------------------


def test_a_backup_holds_what_is_in_the_log_and_is_for_its_owner_alone(tmp_path: Path, writer: Writer) -> None:
    writer.run("UPDATE relay_outbox SET reason = 'committed, and only in the log' WHERE id = 3")
    made = back_up(url(tmp_path / "relay.db"), tmp_path / "backup.db", force=False, progress=no_progress)
    copy = tmp_path / "backup.db"
    assert (made.path, made.bytes, made.states["pending"]) == (copy, copy.stat().st_size, 10)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert ask(copy, "SELECT id FROM relay_outbox WHERE reason LIKE 'committed%'") == [(3,)]
    assert is_whole(copy)
    assert {path.name for path in tmp_path.iterdir()} >= {"backup.db"}
    assert not [path for path in tmp_path.iterdir() if "unfinished" in path.name or "backup.db-" in path.name]


def test_a_backup_beside_a_writer_is_one_moment(tmp_path: Path) -> None:
    """Two rows of each commit are both there or both not; writing goes on, and the backup comes to an end."""
    path, stopping = filled(tmp_path / "relay.db", 3000, 2000), threading.Event()
    written = itertools.count()

    def write() -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            while not stopping.is_set():
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(INSERT, (b"first",))
                connection.execute(INSERT, (b"second",))
                connection.execute("COMMIT")
                next(written)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            make_backup(path, tmp_path / f"{number}.db")
    finally:
        stopping.set()
        thread.join()
    for number in range(5):
        copy = tmp_path / f"{number}.db"
        assert is_whole(copy)
        counted = "SELECT count(*) FROM relay_outbox WHERE payload = CAST('{}' AS BLOB)"
        assert ask(copy, counted.format("first")) == ask(copy, counted.format("second"))
    assert next(written) > 0


def test_progress_is_given_in_pages(tmp_path: Path) -> None:
    path, seen = filled(tmp_path / "relay.db", 3000, 4000), list[tuple[int, int]]()
    back_up(url(path), tmp_path / "backup.db", force=False, progress=lambda *now: seen.append(now))
    assert len(seen) > 1
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1] == (tmp_path / "backup.db").stat().st_size // 4096


@pytest.mark.parametrize("kind", ["file", "dangling link", "link to the outbox", "the outbox"])
def test_an_existing_file_is_not_overwritten(tmp_path: Path, kind: str) -> None:
    path, target = filled(tmp_path / "relay.db", 1), tmp_path / "backup.db"
    match kind:
        case "file":
            target.write_text("precious")
        case "dangling link":
            target.symlink_to(tmp_path / "nowhere")
        case "link to the outbox":
            target.symlink_to(path)
        case _:
            target = path
    before = digest(path)
    with pytest.raises(StoreError, match=r"exists; give the backup another name|is the outbox itself"):
        make_backup(path, target)
    if "outbox" in kind:
        with pytest.raises(StoreError, match="is the outbox itself"):
            make_backup(path, target, force=True)
    else:
        make_backup(path, target, force=True)
        assert is_whole(target)
        assert not target.is_symlink()
    assert digest(path) == before
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/full")])
def test_what_is_no_file_is_not_replaced_by_a_backup(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Not even with --force: root would replace a device by a file."""
    path, target = filled(tmp_path / "relay.db", 1), tmp_path / "backup.db"
    make(target)
    before = target.lstat()
    for force in (False, True):
        with pytest.raises(StoreError, match=r"backup.db is a \w+; give the backup another name"):
            make_backup(path, target, force=force)
    assert target.lstat() == before


def test_a_backup_of_no_outbox_is_refused(tmp_path: Path) -> None:
    change(tmp_path / "orders.db", "CREATE TABLE orders (id)")
    with pytest.raises(StoreError, match="holds no outbox"):
        make_backup(tmp_path / "orders.db", tmp_path / "backup.db")
    with pytest.raises(StoreError, match="there is no outbox at"):
        make_backup(tmp_path / "nothing.db", tmp_path / "backup.db")
    with pytest.raises(StoreError, match=r"backup.db.unfinished cannot be made"):
        make_backup(filled(tmp_path / "relay.db", 1), tmp_path / "nowhere" / "backup.db")
    assert not (tmp_path / "backup.db").exists()


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(os.urandom(path.stat().st_size // 2))


def test_a_damaged_outbox_is_not_backed_up(tmp_path: Path) -> None:
    path = filled(tmp_path / "relay.db", 500)
    damage(path)
    with pytest.raises(StoreError, match=r"relay.db is damaged"):
        make_backup(path, tmp_path / "backup.db")
    assert not list(tmp_path.glob("backup.db*"))


def test_a_full_disk_leaves_no_half_backup(tmp_path: Path, small_disk: Path) -> None:
    path = filled(tmp_path / "relay.db", 100, 20_000)
    with pytest.raises(StoreError, match=r"the disk is full under .*/backup.db.unfinished; free some space"):
        make_backup(path, small_disk / "backup.db")
    assert list(small_disk.iterdir()) == []


# --- restore --------------------------------------------------------------------------------------


def test_a_backup_is_put_back_and_what_differs_is_counted(tmp_path: Path) -> None:
    path, backup = filled(tmp_path / "relay.db", 10), tmp_path / "backup.db"
    deliver(path, 1)
    make_backup(path, backup)
    deliver(path, 2, 3, 4)
    change(path, "UPDATE relay_outbox SET state = 'parked' WHERE id = 5")
    change(path, "DELETE FROM relay_outbox WHERE id = 4")  # by retention
    for _ in range(3):
        change(path, INSERT, b"later")
    deliver(path, 11)
    before = digest(path)
    done = put_back(path, backup)
    assert done.compared == Comparison(sent_again=3, waiting_again=1, missing=3, missing_undelivered=2)
    assert done.states == {"pending": 9, "delivered": 1, "parked": 0, "dropped": 0}
    assert done.replaced is not None
    assert digest(done.replaced) == before
    assert pending(path) == 9
    assert is_whole(path)
    (what, selection) = ask(path, "SELECT what, selection FROM relay_audit")[0]
    assert (what, selection) == ("restore", f"backup {backup}")


def test_the_next_start_says_how_many_go_again_once(tmp_path: Path) -> None:
    path, backup = filled(tmp_path / "relay.db", 10), tmp_path / "backup.db"
    assert used_by_a_relay(path) is None
    make_backup(path, backup)
    deliver(path, 2, 3, 4)
    assert used_by_a_relay(path) is None
    put_back(path, backup)
    put_back(path, backup)
    assert used_by_a_relay(path) == RestoredBackup(sent_again=3, exact=True)
    assert used_by_a_relay(path) is None


@pytest.mark.parametrize("ends", ["regularly", "killed"])
def test_a_copy_that_was_put_back_by_hand_is_noticed_too(tmp_path: Path, ends: str) -> None:
    path, backup = filled(tmp_path / "relay.db", 400), tmp_path / "backup.db"
    make_backup(path, backup)
    deliver(path, *range(1, 301))

    async def use() -> None:
        outbox = await open_outbox(url(path), exclusive=True)
        await outbox.beat("relay", {})
        if ends == "regularly":
            await outbox.leave("relay")
        await outbox.close()

    asyncio.run(use())
    shutil.copy(backup, path)
    assert used_by_a_relay(path) == RestoredBackup(sent_again=300, exact=False)
    assert used_by_a_relay(path) is None


def test_an_operators_drop_is_no_restored_backup(tmp_path: Path) -> None:
    """However many are dropped: what was delivered is still there."""
    path = filled(tmp_path / "relay.db", 3000)
    deliver(path, 1)
    assert used_by_a_relay(path) is None
    change(
        path,
        "UPDATE relay_outbox SET state = 'dropped', settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
        " WHERE state = 'pending'",
    )
    assert used_by_a_relay(path) is None


def test_an_unreadable_record_is_no_restored_backup(tmp_path: Path) -> None:
    path, lock = filled(tmp_path / "relay.db", 3), tmp_path / "relay.db.lock"
    for content in ("7\n", "7\n{", "7\n[]", "7\n{}", '7\n{"delivered": 1, "newest": null, "x": 1}'):
        lock.write_text(content)
        assert used_by_a_relay(path) is None


def test_it_refuses_while_a_relay_runs(tmp_path: Path) -> None:
    path, backup = filled(tmp_path / "relay.db", 3), tmp_path / "backup.db"
    make_backup(path, backup)

    async def beside_a_relay() -> None:
        relay = await open_outbox(url(path), exclusive=True)
        with pytest.raises(StoreError, match=rf"another relay \(process {os.getpid()}\)"):
            await asyncio.to_thread(put_back, path, backup)
        await relay.close()

    asyncio.run(beside_a_relay())
    assert not list(tmp_path.glob("*replaced*"))


def test_it_refuses_while_a_program_has_the_outbox_open(tmp_path: Path, writer: Writer) -> None:
    """Also one that does nothing just now: it would write into the replaced file."""
    path, backup = tmp_path / "relay.db", tmp_path / "backup.db"
    make_backup(path, backup)
    writer.run("SELECT count(*) FROM relay_outbox")
    with pytest.raises(
        StoreError, match=rf"open in process {writer.process.pid} \(python.*nothing was changed"
    ):
        put_back(path, backup)
    writer.run(INSERT.replace("?", "'still used'"))
    assert pending(path) == 11
    writer.kill()
    assert put_back(path, backup).compared == Comparison(0, 0, 1, 1)


def as_text(path: Path) -> None:
    path.write_text("name,town\n" * 1000)


def as_empty(path: Path) -> None:
    path.write_bytes(b"")


def as_another_database(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE orders (id)")


def as_later_version(path: Path) -> None:
    change(path, "INSERT INTO relay_schema (version) VALUES (999)")


def as_truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (as_text, "is not a SQLite database"),
        (as_empty, "holds no outbox"),
        (as_another_database, "holds no outbox"),
        (as_later_version, "was made by a newer relay"),
        (as_truncated, "is damaged"),
        (damage, "is damaged"),
    ],
)
def test_what_is_no_whole_backup_changes_nothing(
    tmp_path: Path, spoil: Callable[[Path], None], text: str
) -> None:
    path, backup = filled(tmp_path / "relay.db", 500), tmp_path / "backup.db"
    make_backup(path, backup)
    spoil(backup)
    before = digest(path)
    with pytest.raises(StoreError, match=text) as caught:
        put_back(path, backup)
    assert "backup.db" in str(caught.value)
    assert str(caught.value).endswith("; nothing was changed")
    assert digest(path) == before
    assert not [file for file in tmp_path.iterdir() if "unfinished" in file.name or "replaced" in file.name]


def test_a_missing_backup_and_the_outbox_itself_are_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "relay.db", 1)
    with pytest.raises(StoreError, match="there is no backup at"):
        put_back(path, tmp_path / "backup.db")
    (tmp_path / "link.db").symlink_to(path)
    with pytest.raises(StoreError, match="is the outbox itself"):
        put_back(path, tmp_path / "link.db")


def test_a_backup_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """As on a medium of another machine: nothing is made beside it, and it stays as it is."""
    path, folder = filled(tmp_path / "relay.db", 3), tmp_path / "medium"
    folder.mkdir()
    make_backup(path, folder / "backup.db")
    before = digest(folder / "backup.db")
    mounted = subprocess.run(
        ["mount", "--bind", "-o", "ro", str(folder), str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        folder.chmod(0o500)
    try:
        put_back(path, folder / "backup.db")
    finally:
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)
        folder.chmod(0o700)
    assert digest(folder / "backup.db") == before
    assert [file.name for file in folder.iterdir()] == ["backup.db"]


def test_three_files_that_were_copied_together_are_a_backup(tmp_path: Path, writer: Writer) -> None:
    """What is only in the log of the copy counts."""
    writer.run(INSERT.replace("?", "'in the log'"))
    writer.kill()
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"relay.db{suffix}", tmp_path / f"copy.db{suffix}")
    put_back(tmp_path / "relay.db", tmp_path / "copy.db")
    assert pending(tmp_path / "relay.db") == 11


def test_a_link_stays_and_its_target_is_replaced_with_its_rights(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    real, link = tmp_path / "data" / "real.db", tmp_path / "relay.db"
    link.symlink_to(real)
    filled(real, 3)
    make_backup(link, tmp_path / "backup.db")
    real.chmod(0o660)
    change(real, INSERT, b"later")
    inode = real.stat().st_ino
    put_back(link, tmp_path / "backup.db")
    assert link.readlink() == real
    assert pending(real) == 3
    assert real.stat().st_ino != inode
    assert stat.S_IMODE(real.stat().st_mode) == 0o660
    assert [file.name for file in (tmp_path / "data").glob("*replaced*")] != []


@pytest.mark.parametrize("state", ["missing", "damaged", "no database", "log alone"])
def test_where_no_outbox_can_be_read_the_number_is_unknown(tmp_path: Path, state: str) -> None:
    path, backup = filled(tmp_path / "relay.db", 500), tmp_path / "backup.db"
    make_backup(path, backup)
    match state:
        case "missing":
            path.unlink()
        case "damaged":
            damage(path)
        case "no database":
            as_text(path)
        case _:
            path.rename(tmp_path / "relay.db-wal")
    done = put_back(path, backup)
    assert done.compared is None
    assert (done.replaced is None) == (state == "missing")
    assert pending(path) == 500
    assert not (tmp_path / "relay.db-wal").exists()
    assert is_whole(path)
    assert used_by_a_relay(path) == RestoredBackup(sent_again=None, exact=False)


def test_a_backup_of_the_release_before_is_upgraded(tmp_path: Path) -> None:
    path, old = filled(tmp_path / "relay.db", 1), tmp_path / "old.db"
    subprocess.run(
        [sys.executable, "-m", "relay", "outbox", "upgrade"],
        env=os.environ | released(tmp_path / "release") | {"RELAY_OUTBOX__URL": url(old)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    change(old, INSERT, b"old")
    put_back(path, old)
    assert pending(path) == 1
    assert ask(path, "SELECT max(version) FROM relay_schema") != [(1,)]
    assert ask(old, "SELECT max(version) FROM relay_schema") == [(1,)]


# --- a kill in the middle ---------------------------------------------------------------------------

_RESTORE = """
import os, sys
from pathlib import Path
left, begun = int(sys.argv[3]), False
def count(event, arguments):
    global left, begun
    begun = begun or event == "open" and str(arguments[0]).endswith(".lock")
    if begun and event in ("open", "os.rename", "os.remove", "os.link", "os.chmod", "os.chown", "sqlite3.connect"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(count)
from relay.outbox import restore
restore("sqlite:///" + sys.argv[1], Path(sys.argv[2]), who="x", progress=lambda *_: None)
"""


def restore_until_killed(path: Path, backup: Path, steps: int) -> int:
    return subprocess.run(
        [sys.executable, "-c", _RESTORE, str(path), str(backup), str(steps)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
    ).returncode


def test_a_kill_at_any_step_leaves_a_whole_outbox(tmp_path: Path) -> None:
    """Before each step that opens, names or removes a file: the old outbox or the restored one, never less."""
    backup, template = tmp_path / "backup.db", tmp_path / "template"
    template.mkdir()
    filled(template / "relay.db", 20)
    make_backup(template / "relay.db", backup)
    writer = Writer(template / "relay.db")
    for _ in range(5):
        writer.run(INSERT.replace("?", "'only in the log'"))
    writer.kill()
    seen = set[object]()
    for steps in itertools.count(0, 1 if LONG else 3):
        folder = tmp_path / f"killed-{steps}"
        shutil.copytree(template, folder)
        code = restore_until_killed(folder / "relay.db", backup, steps)
        assert is_whole(folder / "relay.db")
        assert pending(folder / "relay.db") in (20, 25)
        seen.add(pending(folder / "relay.db"))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        put_back(folder / "relay.db", backup)  # and again: what was left over is no hindrance
        assert pending(folder / "relay.db") == 20
        assert not list(folder.glob("*unfinished*"))
    assert seen == {20, 25}
