import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from relay.outbox import SqliteOutbox, open_outbox

Opener = Callable[..., Awaitable[SqliteOutbox]]


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    """Open an outbox that is closed at the end of the test."""
    made: list[SqliteOutbox] = []

    async def open_(path: Path, *, create: bool = True, exclusive: bool = False) -> SqliteOutbox:
        made.append(await open_outbox(f"sqlite:///{path}", create=create, exclusive=exclusive))
        return made[-1]

    yield open_
    for outbox in made:
        await outbox.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte. Needs root; elsewhere the test says that it did not run."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
