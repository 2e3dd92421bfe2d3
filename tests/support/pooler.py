"""A real PgBouncer in front of a test's PostgreSQL: transaction mode, fewer connections than wanted."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.postgres import START_SECONDS, STOP_SECONDS, UNPRIVILEGED, free_port, unprivileged_group

_FETCHED = Path(__file__).parents[2] / ".venv" / "pgbouncer"
"""Where `make setup` puts Debian's package, with the libraries it needs."""

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:{_FETCHED}/usr/sbin")

_CONFIGURATION = """
[databases]
* = host={host} port={port} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
logfile = {folder}/log
"""


@contextlib.contextmanager
def pooled(url: str, size: int) -> Iterator[str]:
    """The same database through PgBouncer with `size` connections to the server; its URL."""
    if PROGRAM is None:
        pytest.skip("PgBouncer is not here, and no apt-get that brings it; install pgbouncer")
    parts = urlsplit(url)
    with TemporaryDirectory(prefix="relay-pooler-", ignore_cleanup_errors=True) as name:
        folder, listen = Path(name), free_port()
        settings = {"host": parts.hostname, "port": parts.port or 5432, "user": parts.username}
        text = _CONFIGURATION.format(**settings, listen=listen, size=size, folder=folder)
        (folder / "pgbouncer.ini").write_text(text)
        process = subprocess.Popen([PROGRAM, "-q", folder / "pgbouncer.ini"], **_as(folder))
        try:
            _wait_for(listen, process, folder / "log")
            yield parts._replace(netloc=f"{parts.username}@127.0.0.1:{listen}").geturl()
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _as(folder: Path) -> dict[str, Any]:
    """It refuses to run as root, like the server."""
    libraries = ":".join(str(found) for found in _FETCHED.glob("usr/lib/*-linux-gnu"))
    settings = {"env": {**os.environ, "LD_LIBRARY_PATH": libraries}}
    if os.geteuid() != 0:
        return settings
    shutil.chown(folder, UNPRIVILEGED)
    return {**settings, "user": UNPRIVILEGED, "group": unprivileged_group(), "extra_groups": []}


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PgBouncer did not start:\n{log.read_text()}")
        time.sleep(0.01)
