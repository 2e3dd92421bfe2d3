"""An outbox on a PostgreSQL cluster: of the hosts in the URL, the one that accepts writes is used."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from relay.core.model import Delivered
from relay.core.ports import StoreError
from relay.outbox import open_outbox, upgrade
from relay.outbox.postgres import database
from tests.support.pgstore import Open, draft, messages, texts
from tests.support.postgres import Server, connected, followed, own_server, promote, standby


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary with an outbox, and its standby."""
    with own_server() as first:
        upgrade(first.url)
        with standby(first) as second:
            yield first, second


def of_both(first: Server, second: Server) -> str:
    return f"postgresql://postgres@127.0.0.1:{first.port},127.0.0.1:{second.port}/postgres"


async def test_a_primary_that_fell_silent_does_not_hide_the_standby_that_was_promoted(
    pair: tuple[Server, Server], opened_there: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is refused, nothing is answered, as where a machine hangs or the network swallows all."""
    first, second = pair
    outbox = await opened_there(of_both(first, second))
    await asyncio.gather(*(outbox.add([draft(f"{i}")]) for i in range(8)))  # on all its connections
    await followed(first)
    for name, seconds in {"CALL_SECONDS": 1.0, "CONNECT_SECONDS": 0.6, "CLOSE_SECONDS": 0.1}.items():
        monkeypatch.setattr(database, name, seconds)
    first.freeze()
    try:
        await promote(second)
        with pytest.raises(StoreError, match="did not answer") as caught:
            await texts(outbox)
        assert not caught.value.lasting
        found = await messages(outbox)  # no other connection is tried that fell silent like the first
        await outbox.settle([(message.key, Delivered()) for message in found])
        assert await texts(outbox) == []
        opened = await opened_there(of_both(first, second))
        assert await texts(opened) == []
        await opened.close()
        await outbox.close()
    finally:
        first.thaw()
    async with connected(second.url) as connection:
        states = await connection.fetch("SELECT state FROM relay_outbox")
        assert [row[0] for row in states] == ["delivered"] * 8


async def test_of_a_dead_primary_and_a_standby_the_primarys_error_is_reported(
    pair: tuple[Server, Server],
) -> None:
    """That a standby refuses writes is normal; the operator has to fix the other one."""
    first, second = pair
    await asyncio.to_thread(first.stop, signal.SIGQUIT)
    for url in (of_both(first, second), of_both(second, first)):
        with pytest.raises(StoreError, match=r"lost or refused|cannot be reached") as caught:
            await open_outbox(url)
        assert not caught.value.lasting
    with pytest.raises(StoreError, match="read-only, as a standby is"):
        await open_outbox(second.url)
