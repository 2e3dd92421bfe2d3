"""The outbox becomes an earlier copy of itself under a relay at work: each message of the copy is sent."""

import asyncio
from copy import deepcopy

import pytest

from relay.core.model import Draft, MessageId, OrderingKey
from relay.core.ports import StoreError
from tests.simulation.harness import ACME, ORDER, World, violations, world
from tests.support.memory import Shelf
from tests.support.virtual import run

KEYS = ("a", "b", None, "c")


def copied(shelf: Shelf) -> Shelf:
    """The rows as they are now, for an outbox that lost everything else."""
    return Shelf(shelf.clock, rows=deepcopy(shelf.rows), last_row=shelf.last_row)


def insert_others(place: World, count: int) -> list[MessageId]:
    """Messages that no store had before; their ids."""
    ids = [MessageId(f"another-{number}") for number in range(count)]
    for number, message_id in enumerate(ids):
        key = KEYS[number % len(KEYS)]
        ordering_key = None if key is None else OrderingKey(key)
        place.outbox.insert(Draft(ACME, ORDER, b"<doc/>", message_id=message_id, ordering_key=ordering_key))
    return ids


@pytest.mark.parametrize("ordering", ["key", "tenant", "none"])
@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.12, 0.3, 0.55, 2.0])
@pytest.mark.parametrize("away", [False, True], ids=["", "while settlements wait"])
def test_what_gets_the_id_of_a_lost_message_is_sent(ordering: str, seconds: float, away: bool) -> None:
    """Whatever the relay had read, posted or settled of the rows that are lost."""

    async def scene() -> None:
        place = world(ordering=ordering, max_in_flight=4)
        await place.start()
        kept = place.insert(*KEYS)
        await place.all_settled()
        copy = copied(place.outbox.shelf)
        place.insert(*KEYS * 10)
        await asyncio.sleep(seconds)
        place.outbox.broken = StoreError("it is away") if away else None
        await asyncio.sleep(0.2)
        place.outbox.broken = None
        place.outbox.replace(copy)
        others = insert_others(place, 40)
        await place.all_settled(within=120)
        assert place.rows("delivered") == [*kept, *others]
        assert set(others) <= set(place.arrived())
        assert [one for one in place.arrived() if one in others] == others or ordering != "tenant"
        assert violations(place.requests) == []
        await place.stop()

    run(scene())


def test_a_pause_that_the_copy_does_not_have_is_over_and_one_that_it_has_holds() -> None:
    """What operators decided is part of the store."""

    async def scene() -> None:
        place = world()
        await place.start()
        place.insert("a")
        await place.all_settled()
        unpaused = copied(place.outbox.shelf)
        await place.outbox.pause(ACME, "because")
        await place.until(lambda: place.state[0] == "paused")
        paused = copied(place.outbox.shelf)
        paused.controls = deepcopy(place.outbox.shelf.controls)
        place.outbox.replace(unpaused)
        insert_others(place, 3)
        await place.all_settled(within=120)
        place.outbox.replace(paused)
        insert_others(place, 3)
        await place.until(lambda: place.state == ("paused", "because"), within=120)
        assert len(place.rows("pending")) == 3
        await place.stop()

    run(scene())
