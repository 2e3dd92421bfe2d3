"""A token that is revoked while messages flow, where posts alone check it: what waits, and for how long."""

import time

from relay.sandbox import Sandbox
from tests.e2e.conftest import ACME
from tests.support.application import OutboxRow, order
from tests.support.process import Station


async def test_a_token_that_posts_alone_refuse_delays_nobody(sandbox: Sandbox, station: Station) -> None:
    """The rest of the backlog follows with one new token, without an operator."""
    async with station.relay():
        sandbox.faults(tenant=ACME, call="post", skip=211, count=1, tokens="revoke-for-posts")
        station.application.insert_all(OutboxRow(ACME, order(n), key=f"k{n % 20}") for n in range(600))
        await station.until_delivered(ACME)
        delivered = time.monotonic()

    posts, tokens = sandbox.requests(ACME, "post"), sandbox.requests(ACME, "token")
    refused = [post for post in posts if post.status == 401]
    print(  # noqa: T201
        f"\nthe rest of 600 delivered {delivered - refused[0].began:.2f} s after the token was revoked;"
        f" posts refused: {len(refused)}, tokens: {len(tokens)}"
    )
    assert 1 <= len(refused) <= 8, "those that were in flight"
    assert len(tokens) == 2
    assert sandbox.record.sent_twice() == []


async def test_a_message_that_is_refused_whatever_the_token_uses_no_quota(
    sandbox: Sandbox, station: Station
) -> None:
    """A firewall answers 401 to its content; all others are delivered meanwhile."""
    async with station.relay():
        sandbox.faults(tenant=ACME, call="post", text="canary", status=401)
        station.application.insert_all([OutboxRow(ACME, b"<order>canary</order>", key="canary")])
        station.application.insert_all(OutboxRow(ACME, order(n), key=f"k{n % 20}") for n in range(200))
        states = {"delivered": 200, "parked": 1}
        await station.until(
            lambda: station.application.states(ACME) == states, "the message parked", within=60
        )
    refused = [post for post in sandbox.requests(ACME, "post") if post.status == 401]
    assert len(refused) >= 5
    assert len(sandbox.requests(ACME, "token")) <= 7
    assert {violation.kind for violation in sandbox.violations} <= {"post-without-ping"}
    sandbox.clear_record()  # the failure is one message's own: the others need no ping after it
