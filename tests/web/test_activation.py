"""Both ends by themselves: the simulator activates the connection point of a relay that is asked by ION."""

import time

import pytest
from aiohttp import web

from relay.core.model import TenantId
from relay.ion.inbound_auth import InboundVerifier, Key
from relay.ion.oauth import Secret
from relay.sandbox.activation import Application, Visit, visit
from relay.web.inbound import InboundContext, application
from tests.web.test_inbound import Said


@pytest.mark.parametrize(
    ("secret", "hindrance", "seen"),
    [
        ("secret", None, [("ping", 200), ("versions", 200), ("protocol", 200)]),
        ("guessed", None, [("ping", 401)]),
        ("secret", "the relay is stopping", [("ping", 503)]),
    ],
)
async def test_the_stand_in_and_the_relay_agree_on_what_a_signed_call_is(
    secret: str, hindrance: str | None, seen: list[tuple[str, int]]
) -> None:
    async def why() -> str | None:
        return hindrance

    verifier = InboundVerifier(lambda: {"key": Key(TenantId("ACME_PRD"), Secret("secret"))}, 300)
    runner = web.AppRunner(application(InboundContext(verifier, None, why, Said(), time.time)))  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/ACME_PRD"
        visits: list[Visit] = await visit(Application(url, "key", secret))
    finally:
        await runner.cleanup()
    assert [(one.call, one.status) for one in visits] == seen
