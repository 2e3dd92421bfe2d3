"""`relay outbox copy`: its output, what it refuses, and that a killed copy can be resumed."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from urllib.parse import urlsplit

import pytest

from relay.core.model import DocumentName, Draft, TenantId
from relay.core.ports import StoreError
from relay.outbox import open_outbox, transfer
from tests.cli.conftest import ROOT, Operator
from tests.support.postgres import PASSWORD, Cluster

MANY = 20_000


async def enqueue(url: str, count: int) -> None:
    outbox = await open_outbox(url)
    documents = [Draft(TenantId("ACME"), DocumentName("Sync.SalesOrder"), b"x" * 500) for _ in range(count)]
    await outbox.add(documents)
    await outbox.close()


async def stored(url: str) -> int:
    """Messages in the outbox, 0 where it is not there yet."""
    with suppress(StoreError):
        outbox = await open_outbox(url, create=False)
        try:
            return sum(count.pending for count in (await outbox.counts()).values())
        finally:
            await outbox.close()
    return 0


async def wholes(url: str) -> list[tuple[object, ...]]:
    outbox = await open_outbox(url)
    try:
        return [row.whole async for batch in transfer._batches(outbox.transfer) for row in batch]
    finally:
        await outbox.close()


def test_the_result_is_a_summary_by_state(operator: Operator, tmp_path: Path) -> None:
    source, target = f"sqlite:///{tmp_path / 'from.db'}", f"sqlite:///{tmp_path / 'to.db'}"
    asyncio.run(enqueue(source, 3))
    ran = operator.run("outbox", "copy", source, target)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "state      from  to",
        "pending    3     3",
        "delivered  0     0",
        "parked     0     0",
        "dropped    0     0",
        f"{source} was copied to {target}: 3 rows in this run",
    ]


def test_json_has_the_counts(operator: Operator, tmp_path: Path) -> None:
    source, target = f"sqlite:///{tmp_path / 'from.db'}", f"sqlite:///{tmp_path / 'to.db'}"
    asyncio.run(enqueue(source, 2))
    states = {"pending": 2, "delivered": 0, "parked": 0, "dropped": 0}
    ran = operator.run("outbox", "copy", "--json", source, target)
    places = {"source": str(tmp_path / "from.db"), "target": str(tmp_path / "to.db")}
    assert ran.json == {"written": 2, "complete": True, "from": states, "to": states, **places}
    assert operator.run("outbox", "copy", "--json", source, target).json["written"] == 0


def test_an_outbox_cannot_be_copied_onto_itself(operator: Operator, tmp_path: Path) -> None:
    ran = operator.run("outbox", "copy", f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/a.db")
    assert (ran.code, ran.out, ran.err) == (2, "", "relay: FROM and TO are the same outbox\n")


def test_nor_by_a_link(operator: Operator, tmp_path: Path) -> None:
    """Also with `--force`, which would open it twice."""
    asyncio.run(enqueue(f"sqlite:///{tmp_path}/a.db", 1))
    (tmp_path / "b.db").symlink_to(tmp_path / "a.db")
    (tmp_path / "c.db").hardlink_to(tmp_path / "a.db")
    for other in "bc":
        ran = operator.run(
            "outbox", "copy", "--force", f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/{other}.db"
        )
        assert (ran.code, ran.err) == (2, "relay: FROM and TO are the same outbox\n")


def test_a_missing_source_is_an_error(operator: Operator, tmp_path: Path) -> None:
    ran = operator.run("outbox", "copy", f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db")
    assert (ran.code, ran.out) == (1, "")
    assert "there is no outbox at" in ran.err
    assert not (tmp_path / "b.db").exists()


def test_a_target_with_other_content_is_refused(operator: Operator, tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
    for url in urls:
        asyncio.run(enqueue(url, 1))
    ran = operator.run("outbox", "copy", *urls)
    assert (ran.code, ran.out) == (1, "")
    assert "tenant ACME (row 1), which" in ran.err


def test_a_relay_that_runs_on_the_source_is_reported(operator: Operator, tmp_path: Path) -> None:
    """Detected by its lock, which is correct right after a kill too; `--force` copies anyway."""
    source, target = f"sqlite:///{tmp_path / 'from.db'}", f"sqlite:///{tmp_path / 'to.db'}"
    asyncio.run(enqueue(source, 1))

    async def copied_beside_a_relay(*options: str) -> tuple[int, str]:
        relay = await open_outbox(source, exclusive=True)
        try:
            ran = await asyncio.to_thread(operator.start, "outbox", "copy", *options, source, target)
        finally:
            await relay.close()
        return ran.returncode, ran.stderr

    code, err = asyncio.run(copied_beside_a_relay())
    assert code == 1
    assert "another relay (process" in err
    assert asyncio.run(copied_beside_a_relay("--force"))[0] == 0


def test_a_terminal_shows_the_progress(operator: Operator, tmp_path: Path) -> None:
    """On stderr, and removed at the end; stdout has only the result."""
    source, target = f"sqlite:///{tmp_path / 'from.db'}", f"sqlite:///{tmp_path / 'to.db'}"
    asyncio.run(enqueue(source, 1200))
    keyboard, screen = os.openpty()
    try:
        ran = operator.start(
            "outbox", "copy", source, target, capture_output=False, stdout=PIPE, stdin=DEVNULL, stderr=screen
        )
        seen = os.read(keyboard, 10_000).decode().replace("\r\n", "\n")
    finally:
        os.close(keyboard)
        os.close(screen)
    assert ran.returncode == 0
    assert [line.strip() for line in seen.split("\r")[-4:]] == [
        "500 of 1,200 messages",
        "1,000 of 1,200 messages",
        "1,200 of 1,200 messages",
        "\x1b[K",
    ]
    assert ran.stdout.startswith("state ")


@pytest.fixture
def database_url(postgres: Cluster) -> Iterator[str]:
    """An empty outbox on PostgreSQL, for a test that is no coroutine."""
    with asyncio.Runner() as runner:
        made = postgres.outbox()
        yield runner.run(made.__aenter__())
        runner.run(made.__aexit__(None, None, None))


@pytest.mark.parametrize("direction", ["to postgres", "to sqlite"])
def test_a_killed_copy_resumes_when_run_again(
    operator: Operator, tmp_path: Path, database_url: str, direction: str
) -> None:
    """Two kill -9 in the middle; then every row is there once, unchanged."""
    file = f"sqlite:///{tmp_path / 'outbox.db'}"
    source, target = (file, database_url) if direction == "to postgres" else (database_url, file)
    asyncio.run(enqueue(source, MANY))
    before = 0
    for _ in range(2):
        command = [sys.executable, "-m", "relay", "outbox", "copy", source, target]
        with Popen(command, cwd=ROOT, stdout=DEVNULL, stderr=DEVNULL) as copier:
            while asyncio.run(stored(target)) == before and copier.poll() is None:
                pass
            copier.send_signal(signal.SIGKILL)
        assert copier.returncode == -signal.SIGKILL, "the copy completed before it was killed"
        assert before < asyncio.run(stored(target)) < MANY
        before = asyncio.run(stored(target))
    ran = operator.run("outbox", "copy", "--json", source, target)
    assert (ran.code, ran.json["complete"]) == (0, True)
    assert ran.json["written"] == MANY - before
    assert asyncio.run(wholes(target)) == asyncio.run(wholes(source))


def test_the_tables_are_those_of_the_settings_and_no_password_is_printed(
    operator: Operator, tmp_path: Path, postgres: Cluster, database_url: str
) -> None:
    """Another schema and prefix; the default tables stay empty."""
    source = f"sqlite:///{tmp_path / 'from.db'}"
    asyncio.run(enqueue(source, 2))
    with_password = database_url.replace("://postgres@", f"://postgres:{PASSWORD}@")
    operator.set({"RELAY_OUTBOX__URL": with_password, "RELAY_OUTBOX__SCHEMA": "elsewhere"})
    operator.set({"RELAY_OUTBOX__PREFIX": "ion_"})
    assert operator.run("outbox", "upgrade").code == 0
    ran = operator.run("outbox", "copy", source, with_password)
    assert (ran.code, ran.err) == (0, "")
    assert PASSWORD not in ran.out
    assert asyncio.run(stored(database_url)) == 0
    statement = "DO $$ BEGIN ASSERT (SELECT count(*) FROM elsewhere.ion_outbox) = 2; END $$"
    asyncio.run(postgres.execute(statement, database=urlsplit(database_url).path[1:]))
