"""The boxes of the list of messages: what is chosen there is changed, and never another tenant's message."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.sandbox import Sandbox, SandboxTenant
from tests.support.application import ORDER
from tests.support.process import Station
from tests.web.hostile import Caller
from tests.web.test_forms import Forms, opened

ACME, GLOBEX = "ACME_PRD", "GLOBEX_PRD"
SPLIT = " one\u2028two "
"""A message id that is one, wherever lines are split at more than line feeds; with spaces around it."""


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    """Two tenants with a message of the same id, and others; all parked."""
    tenants = [SandboxTenant(one, f"lid://{one.lower()}.orders.1", [ORDER]) for one in (ACME, GLOBEX)]
    async with Sandbox(tenants) as sandbox:
        sandbox.faults(call="post", status=400, text="BAD", error="refused")
        built = Station(tmp_path, {"RELAY_WEB__LISTEN": "127.0.0.1:0"})
        built.environment |= sandbox.environment(tmp_path)
        for tenant, message_id in ((ACME, "same"), (GLOBEX, "same"), (ACME, "two"), (ACME, SPLIT)):
            built.application.insert(tenant, "BAD", message_id=message_id)
        yield built


class Operator:
    """With a session of the page."""

    def __init__(self, caller: Caller) -> None:
        self.caller, self.cookie, self.mark = caller, "", ""

    async def choose(self, *values: str, what: str = "drop") -> tuple[int | None, str]:
        """The preview of these boxes."""
        _, text = await self.caller.ask("GET", "/messages?state=parked", Cookie=self.cookie)
        if not self.cookie:
            found = re.search(r"relay_session=[\w-]+", text)
            assert found is not None
            self.cookie = found[0]
        (boxes,) = [
            fields for _, _, fields in Forms(text).forms if any(name == "chosen" for name, _ in fields)
        ]
        assert [value for name, value in boxes if name == "chosen"].count(f"{ACME} same") <= 1
        self.mark = dict(boxes)["mark"]
        form = [("mark", self.mark), ("what", what), *(("chosen", value) for value in values)]
        return await self.caller.post("/messages/preview", form, Cookie=self.cookie)

    async def confirm(self, preview: str) -> None:
        """Press the button of the preview."""
        (fields,) = [fields for _, action, fields in Forms(preview).forms if action == "/messages/decide"]
        assert (await self.caller.post("/messages/decide", fields, Cookie=self.cookie))[0] == 303


async def test_only_the_chosen_messages_are_changed(station: Station) -> None:
    async with station.relay() as relay:
        operator = Operator(await opened(station, relay))
        await station.until(lambda: station.application.states() == {"parked": 4}, "four parked")
        status, text = await operator.choose(f"{ACME} same", f"{ACME} {SPLIT}")
        assert status == 200
        assert "2 messages would be dropped" in text
        await operator.confirm(text)
        states = station.application.ask("SELECT tenant_id, message_id, state FROM relay_outbox ORDER BY id")
        assert [(row["tenant_id"], row["message_id"], row["state"]) for row in states] == [
            (ACME, "same", "dropped"),
            (GLOBEX, "same", "parked"),
            (ACME, "two", "parked"),
            (ACME, SPLIT, "dropped"),
        ]


async def test_of_several_tenants_the_same_id_is_never_taken_by_mistake(station: Station) -> None:
    async with station.relay() as relay:
        operator = Operator(await opened(station, relay))
        await station.until(lambda: station.application.states() == {"parked": 4}, "four parked")
        status, text = await operator.choose(f"{ACME} two", f"{GLOBEX} same")
        assert status == 400
        assert "ACME_PRD has a message same too: show the messages of one tenant" in text
        status, text = await operator.choose(f"{ACME} two", f"{GLOBEX} same", f"{ACME} same")
        assert status == 200
        assert "3 messages would be dropped" in text
        for nothing in ((), ("",), ("nonsense",), (f"{ACME} ",), (" same",)):
            status, text = await operator.choose(*nothing)
            assert status == 400
            assert "check the boxes of messages" in text
        assert "There are no such messages" in (await operator.choose("%_ x\0"))[1]
        assert station.application.states() == {"parked": 4}
