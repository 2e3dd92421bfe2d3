"""A file has one relay, whatever names lead to it; what stands in the way of the lock file stays as it is."""

import asyncio
import json
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from relay.core.model import DocumentName, Draft, TenantId
from relay.core.ports import StoreError
from relay.outbox import open_outbox
from relay.outbox.sqlite import sole_relay
from relay.outbox.sqlite.file_lock import FileLock
from tests.cli.conftest import ROOT
from tests.outbox.conftest import Opener
from tests.support.process import released

OTHER_KERNEL = "00000000-1111-2222-3333-444444444444"

_HOLD = """
import asyncio, sys
from relay.outbox import open_outbox
async def hold():
    outbox = await open_outbox(sys.argv[1], exclusive=True)
    await outbox.beat("first", {"host": "host-a", "pid": "77"})
    print("held", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await outbox.close()
asyncio.run(hold())
"""


class Holder:
    """Another process that has the outbox as its one relay, until it is released or killed."""

    def __init__(self, path: Path, *, before: tuple[str, ...] = (), pythonpath: str = str(ROOT)) -> None:
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", _HOLD, f"sqlite:///{path}"],
            env=os.environ | {"PYTHONPATH": pythonpath},
            cwd=path.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.holds = self.process.stdout.readline() == "held\n"
        if not self.holds:
            self.end()

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> None:
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()


def symlink(path: Path) -> Path:
    link = path.with_name("link.db")
    link.symlink_to(path)
    return link


def hard_link(path: Path) -> Path:
    link = path.parent / "elsewhere"
    link.mkdir()
    (link / "other.db").hardlink_to(path)
    return link / "other.db"


def same_without_lock_file(path: Path) -> Path:
    path.with_name(path.name + ".lock").unlink()
    return path


def same_with_new_lock_file(path: Path) -> Path:
    same_without_lock_file(path)
    path.with_name(path.name + ".lock").write_text("")
    return path


def linked_folder(path: Path) -> Path:
    link = path.parent.with_name("folder-link")
    link.symlink_to(path.parent)
    return link / path.name


def relative(path: Path) -> Path:
    return Path(os.path.relpath(path))


@pytest.mark.parametrize(
    "other_name",
    [symlink, hard_link, same_without_lock_file, same_with_new_lock_file, linked_folder, relative],
)
async def test_no_other_name_lets_in_a_second_relay(
    opened: Opener, tmp_path: Path, other_name: Callable[[Path], Path]
) -> None:
    folder = tmp_path / "outboxes"
    folder.mkdir()
    path = folder / "relay.db"
    holder = await asyncio.to_thread(Holder, path)
    try:
        other = other_name(path)
        with pytest.raises(StoreError, match=r"another relay \((process \d+|relay status names it.*)\) uses"):
            await opened(other, exclusive=True)
        await opened(other)  # other commands are not kept out
    finally:
        holder.end()
    await opened(other, exclusive=True)


@pytest.mark.parametrize("other_name", [symlink, hard_link, same_without_lock_file])
async def test_nor_within_one_process(
    opened: Opener, tmp_path: Path, other_name: Callable[[Path], Path]
) -> None:
    path = tmp_path / "relay.db"
    first = await opened(path, exclusive=True)
    other = other_name(path)
    with pytest.raises(StoreError, match=rf"another relay \(process {os.getpid()}\)"):
        await opened(other, exclusive=True)
    await first.close()


async def test_a_bind_mount_in_another_mount_namespace_is_the_same_file(
    opened: Opener, tmp_path: Path
) -> None:
    """As two containers that mount one volume at different places."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    script = f'mount --bind "{here}" "{there}" && exec "$@"'
    unshare = ("unshare", "--mount", "sh", "-c", script, "sh")
    tried = await asyncio.to_thread(subprocess.run, [*unshare, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"cannot make a mount namespace: {tried.stderr.decode().strip()}")
    (await open_and_close(here / "relay.db")).unlink()  # each mount has its own lock file, at worst
    holder = await asyncio.to_thread(Holder, there / "relay.db", before=unshare)
    try:
        (here / "relay.db.lock").unlink()
        with pytest.raises(StoreError, match="another relay"):
            await opened(here / "relay.db", exclusive=True)
    finally:
        holder.end()


async def open_and_close(path: Path) -> Path:
    outbox = await open_outbox(f"sqlite:///{path}", exclusive=True)
    await outbox.close()
    return path.with_name(path.name + ".lock")


async def test_a_killed_relay_leaves_nothing_that_holds_up_the_next(opened: Opener, tmp_path: Path) -> None:
    """Its heartbeat is fresh, and its number may be anybody's by now."""
    path = tmp_path / "relay.db"
    holder = await asyncio.to_thread(Holder, path)
    holder.kill()
    await opened(path, exclusive=True)


async def test_a_relay_of_the_release_before_is_excluded_and_excludes(opened: Opener, tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    first = await opened(path, exclusive=True)
    old = released(tmp_path / "old")["PYTHONPATH"]
    assert not (await asyncio.to_thread(Holder, path, pythonpath=old)).holds
    await first.close()
    path.unlink()
    holder = await asyncio.to_thread(Holder, path, pythonpath=old)
    try:
        assert holder.holds
        with pytest.raises(StoreError, match=rf"another relay \(process {holder.process.pid}\)"):
            await opened(path, exclusive=True)
    finally:
        holder.end()


# --- the lock file --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["symlink", "dangling symlink", "hard link", "another file", "folder", "pipe"]
)
async def test_what_is_no_lock_file_is_refused_and_left_as_it_is(
    opened: Opener, tmp_path: Path, kind: str
) -> None:
    path, lock, target = tmp_path / "relay.db", tmp_path / "relay.db.lock", tmp_path / "precious.txt"
    target.write_text("12\nprecious")
    match kind:
        case "symlink":
            lock.symlink_to(target)
        case "dangling symlink":
            lock.symlink_to(tmp_path / "nowhere")
        case "hard link":
            lock.hardlink_to(target)
        case "another file":
            lock.write_text("precious")
        case "folder":
            lock.mkdir()
        case _:
            os.mkfifo(lock)
    before = lock.lstat()
    with pytest.raises(StoreError, match=r"relay.db.lock is not a lock file of a relay.*remove it"):
        await opened(path, exclusive=True)
    assert target.read_text() == "12\nprecious"
    assert not (tmp_path / "nowhere").exists()
    assert not path.exists()
    after = lock.lstat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    )


async def test_the_lock_file_of_an_older_relay_is_taken_over(opened: Opener, tmp_path: Path) -> None:
    lock = tmp_path / "relay.db.lock"
    lock.write_text("4711\n")
    await opened(tmp_path / "relay.db", exclusive=True)
    assert lock.read_text().split()[0] == str(os.getpid())


async def test_what_root_makes_belongs_to_the_owner_of_the_outbox(opened: Opener, tmp_path: Path) -> None:
    """A command of root's, such as a restore, does not shut out the relay's own user."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = tmp_path / "relay.db"
    await (await opened(path)).close()
    os.chown(path, 10001, 10002)
    await opened(path, exclusive=True)
    found = (tmp_path / "relay.db.lock").stat()
    assert (found.st_uid, found.st_gid) == (10001, 10002)


async def test_a_link_without_a_target_makes_the_target(opened: Opener, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "relay.db").symlink_to(tmp_path / "data" / "real.db")
    await opened(tmp_path / "relay.db", exclusive=True)
    assert (tmp_path / "data" / "real.db.lock").exists()
    assert not (tmp_path / "relay.db.lock").exists()


# --- the file is replaced -------------------------------------------------------------------------


def test_the_lock_goes_with_the_file_that_is_used(tmp_path: Path) -> None:
    path, aside, link = tmp_path / "relay.db", tmp_path / "aside.db", tmp_path / "link.db"
    lock = FileLock(path, create=True)
    path.rename(aside)
    path.write_bytes(b"")
    lock.follow()
    link.hardlink_to(path)
    with pytest.raises(StoreError, match="another relay"):
        FileLock(link, create=False)
    FileLock(aside, create=False).release()
    lock.release()
    FileLock(link, create=False).release()


def test_the_lock_follows_a_link_that_leads_to_another_file(tmp_path: Path) -> None:
    link, first, second = tmp_path / "relay.db", tmp_path / "first.db", tmp_path / "second.db"
    link.symlink_to(first)
    lock = FileLock(link, create=True)
    second.write_bytes(b"")
    link.unlink()
    link.symlink_to(second)
    lock.follow()
    with pytest.raises(StoreError, match="another relay"):
        FileLock(second, create=False)
    lock.release()
    FileLock(second, create=False).release()


async def test_what_is_read_by_a_link_is_what_the_relay_has_committed(opened: Opener, tmp_path: Path) -> None:
    """`relay check` reads a file without a change, and with the log of the relay that uses it."""
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "relay.db")
    used = await opened(tmp_path / "relay.db", exclusive=True)
    await used.add([Draft(TenantId("ACME"), DocumentName("Sync.SalesOrder"), b"x")])
    seen = await open_outbox(f"sqlite:///{link}", create=False, reading=True)
    assert (await seen.notification()).pending == {"ACME"}
    await seen.close()


async def test_a_log_without_its_index_is_read_too(opened: Opener, tmp_path: Path) -> None:
    """As in a copy of the file and its log that was made by hand."""
    used = await opened(tmp_path / "relay.db", exclusive=True)
    await used.add([Draft(TenantId("ACME"), DocumentName("Sync.SalesOrder"), b"x")])
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"relay.db{suffix}", tmp_path / f"copy.db{suffix}")
    seen = await open_outbox(f"sqlite:///{tmp_path / 'copy.db'}", create=False, reading=True)
    assert (await seen.notification()).pending == {"ACME"}
    await seen.close()


def posix_locks(path: Path) -> list[str]:
    """This process' own on the file."""
    inode, pid = f":{path.stat().st_ino} ", f" {os.getpid()} "
    lines = Path("/proc/locks").read_text().splitlines()
    return [line for line in lines if inode in line and pid in line and "POSIX" in line]


async def test_a_descriptor_of_the_lock_does_not_drop_the_locks_of_sqlite(
    opened: Opener, tmp_path: Path
) -> None:
    """A refused second start in one process closes nothing that belongs to the first."""
    path = tmp_path / "relay.db"
    first = await opened(path, exclusive=True)
    await first.beat("first", {})
    with pytest.raises(StoreError):
        await opened(hard_link(path), exclusive=True)
    assert posix_locks(path)


# --- heartbeats of other machines -------------------------------------------------------------------


def beat(path: Path, seconds_ago: float, **details: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT OR REPLACE INTO relay_relays (relay, token, details, beat_at)"
            " VALUES ('other', 'x', ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?))",
            (json.dumps({"host": "host-b", "pid": "7", **details}), f"{-seconds_ago} seconds"),
        )


async def test_a_relay_of_another_machine_is_a_refusal_while_it_beats(opened: Opener, tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    await open_and_close(path)
    beat(path, 3, boot_id=OTHER_KERNEL)
    with pytest.raises(StoreError, match=r"another relay \(other: process 7 on host-b\).* 3 s old.* in 12 s"):
        await opened(path, exclusive=True)
    beat(path, 16, boot_id=OTHER_KERNEL)
    await opened(path, exclusive=True)


@pytest.mark.parametrize("details", [{"boot_id": "own"}, {"boot_id": ""}, {"host": "own", "pid": "own"}])
async def test_a_dead_relay_of_this_machine_holds_up_nothing(
    opened: Opener, tmp_path: Path, details: dict[str, str]
) -> None:
    """Also one whose container had another host name, or whose number this process has now."""
    path = tmp_path / "relay.db"
    await open_and_close(path)
    own = {"boot_id": sole_relay.boot_id(), "host": socket.gethostname(), "pid": str(os.getpid())}
    beat(path, 1, **{name: own[name] if value == "own" else value for name, value in details.items()})
    await opened(path, exclusive=True)


async def test_a_heartbeat_from_the_future_is_nobodys(opened: Opener, tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    await open_and_close(path)
    beat(path, -3600, boot_id=OTHER_KERNEL)
    await opened(path, exclusive=True)


async def test_a_relay_of_0_1_0_counts_while_its_process_is_there(opened: Opener, tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    await open_and_close(path)
    other = await asyncio.to_thread(Holder, tmp_path / "other.db")
    beat(path, 1, host=socket.gethostname(), pid=str(other.process.pid))
    with pytest.raises(StoreError, match=rf"process {other.process.pid} on {socket.gethostname()}"):
        await opened(path, exclusive=True)
    other.end()
    await opened(path, exclusive=True)


async def test_a_limit_of_open_files_that_leaves_one_is_named(opened: Opener, tmp_path: Path) -> None:
    """The lock file can be opened, the outbox itself cannot: no right is missing."""
    path = tmp_path / "relay.db"
    await opened(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)  # the next one that is free
    os.close(lowest)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))
        with pytest.raises(StoreError, match=rf"too many open files \(limit {lowest + 1}\)"):
            FileLock(path, create=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
