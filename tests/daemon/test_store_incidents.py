"""What is wrong with the store itself: each incident is opened once, and resolved once it is over."""

import io
import json

import pytest

from relay.core.ports import StoreIncident
from relay.daemon.store_incidents import StoreIncidents
from relay.observability import logs
from relay.observability.incidents import Incidents

LAG = StoreIncident("sequence", "the next id of relay_outbox would be 1", "relay outbox upgrade")
QUEUE = StoreIncident("notifications", "the queue is 50% full", "end the session")


class Timer:
    def cancel(self) -> None:
        pass


class FaultyStore:
    """A store with the incidents that the test names."""

    def __init__(self) -> None:
        self.now: list[StoreIncident] = []

    async def incidents(self) -> list[StoreIncident]:
        return self.now


@pytest.fixture
def log() -> io.StringIO:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    return stream


async def test_each_kind_is_opened_once_and_resolved_by_itself(log: io.StringIO) -> None:
    store = FaultyStore()
    incidents = StoreIncidents(
        store,  # type: ignore[arg-type]  # of a store it needs this method alone
        lambda: Incidents(logs.logger(), None, lambda: 0.0, 60.0, lambda _seconds, _callback: Timer()),
    )
    for found in ([], [LAG], [LAG], [LAG, QUEUE], [QUEUE], [QUEUE], [], [], [LAG]):
        store.now = list(found)
        await incidents.ask()
    incidents.close()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["event"], line.get("kind") or line["kinds"], line.get("code")) for line in lines] == [
        ("incident.opened", "sequence", "RELAY-159"),
        ("incident.opened", "notifications", "RELAY-160"),
        ("incident.resolved", ["sequence"], None),
        ("incident.resolved", ["notifications"], None),
        ("incident.opened", "sequence", "RELAY-159"),
    ]
    assert lines[0]["detail"] == LAG.detail
    assert lines[0]["hint"] == LAG.hint
