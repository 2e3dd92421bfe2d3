"""The guide's two sequences, request by request, and what arrives at the end of them."""

import json
import zlib
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from relay.core.retry import Schedule
from relay.sandbox import Sandbox, SandboxTenant
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import ORDER, SHIPMENT, OutboxRow, noise, order
from tests.support.postgres import Cluster
from tests.support.process import Station
from tests.support.sequence import OPENING, calls, said, short_pauses

ONE_AT_A_TIME = {f"RELAY_TENANTS__{GLOBEX}__MAX_IN_FLIGHT": "1"}
SCHEDULE = Schedule(0.1, 0.8)


async def test_prepare_once_then_post_after_post_without_pings(sandbox: Sandbox, station: Station) -> None:
    """Ping, versions, acceptedDocuments; then every message, and those that come later, without another ping."""
    async with station.relay(environment=ONE_AT_A_TIME):
        for _ in range(2):
            station.application.insert_all(OutboxRow(GLOBEX, order(n)) for n in range(5))
            await station.until_delivered(GLOBEX)
        assert said(sandbox.requests(GLOBEX)) == f"{OPENING} {'post ' * 10}".strip()


async def test_prepare_is_not_begun_without_a_message(sandbox: Sandbox, station: Station) -> None:
    """A tenant that never had a message costs ION nothing, while others deliver."""
    async with station.relay():
        station.application.insert(ACME)
        await station.until_delivered(ACME)
        assert sandbox.requests(GLOBEX) == []


async def test_post_fails_then_ping_and_versions_then_the_same_message(
    sandbox: Sandbox, station: Station
) -> None:
    """The guide's send cycle after a failure; the rest follows without pings."""
    sandbox.faults(call="post", status=503, skip=2, count=1)
    ids = station.application.insert_all(OutboxRow(GLOBEX, order(n)) for n in range(5))
    async with station.relay(environment=ONE_AT_A_TIME):
        await station.until_delivered(GLOBEX)
    seen, sentence = sandbox.requests(GLOBEX), f"{OPENING} post post post:503 ~1 ping versions post post post"
    assert said(seen) == calls(sentence)
    assert short_pauses(sentence, seen, SCHEDULE) == []
    assert [r.message_id for r in seen if r.call == "post"] == [*ids[:3], *ids[2:]]


async def test_412_leads_back_to_the_preparation(sandbox: Sandbox, station: Station) -> None:
    """An inactive connection point: initialise until it is active again, then the same message."""
    sandbox.tenant(GLOBEX).connection_point = "inactive"
    (message,) = station.application.insert_all([OutboxRow(GLOBEX, order(1))])
    async with station.relay(environment=ONE_AT_A_TIME):
        await sandbox.until(lambda: len(sandbox.requests(GLOBEX)) >= 9, within=15)
        assert said(sandbox.requests(GLOBEX)).startswith(" ".join(["ping versions accepted:412"] * 3))
        assert sandbox.record.count() == 0
        sandbox.tenant(GLOBEX).connection_point = "active"
        await station.until_delivered(GLOBEX)
    assert said(sandbox.requests(GLOBEX)).endswith(f"accepted:412 {OPENING} post")
    assert [taken.message_id for taken in sandbox.messages()] == [message]


async def test_a_document_that_is_withdrawn_and_added_again(sandbox: Sandbox, station: Station) -> None:
    """412 to a post of it: initialise, see it missing, send the others meanwhile; it goes once it is back."""
    async with station.relay(environment=ONE_AT_A_TIME) as relay:
        station.application.insert(GLOBEX, document=SHIPMENT)
        await station.until_delivered(GLOBEX)
        sandbox.tenant(GLOBEX).withdraw(SHIPMENT)
        (waiting,) = station.application.insert_all([OutboxRow(GLOBEX, order(1), SHIPMENT)])
        passing = station.application.insert_all(OutboxRow(GLOBEX, order(n)) for n in range(3))
        await station.event(relay, "documents.withheld", tenant=GLOBEX, documents=[SHIPMENT])
        await station.until(
            lambda: all(station.application.row(i)["state"] == "delivered" for i in passing),
            "the others to pass",
        )
        assert station.application.row(waiting)["state"] == "pending"
        await station.until_status(GLOBEX, "idle", "waiting to be accepted by ION: Sync.Shipment")
        begin = f"{OPENING} post post:412 {OPENING} post post post accepted"
        await station.until(
            lambda: said(sandbox.requests(GLOBEX)).startswith(begin),
            begin,
            show=lambda: said(sandbox.requests(GLOBEX)),
        )
        sandbox.tenant(GLOBEX).add(SHIPMENT)
        await station.until_delivered(GLOBEX)
        assert relay.said("documents.changed", added=[SHIPMENT])


@pytest.mark.parametrize("tenant", [ACME, GLOBEX])
async def test_payloads_arrive_byte_for_byte(sandbox: Sandbox, station: Station, tenant: str) -> None:
    """Text, unicode, every byte value, line ends, a boundary's look-alike; small, and large enough for DEFLATE."""
    payloads: list[bytes | str] = [
        b"{}",
        "naïve 東京 🚚\u2028\x00end",
        bytes(range(256)),
        b"\r\n--boundary--\r\n\r\n" * 50,
        noise(1, 20_000),
        order(7, 300_000),
        zlib.compress(order(8)),
        noise(2, 3_000_000),
    ]
    ids = station.application.insert_all(OutboxRow(tenant, payload) for payload in payloads)
    async with station.relay():
        await station.until_delivered(tenant)
    for message_id, payload in zip(ids, payloads, strict=True):
        wanted = payload.encode() if isinstance(payload, str) else payload
        assert sandbox.payload(tenant, message_id) == wanted
    encodings = [_parameters(sandbox, tenant, message_id)["encoding"] for message_id in ids]
    assert encodings == ["NONE", "NONE", "NONE", "NONE", "DEFLATE", "DEFLATE", "NONE", "DEFLATE"]


async def test_parameters_and_ids_arrive(sandbox: Sandbox, station: Station) -> None:
    """The message's own id, its sender and receiver, and every IMS property that the application gave."""
    given = {"variationId": 3, "accountingEntity": "12 Å", "custom_Colour": "grün", "documentId": "SO-1"}
    own = "ACME/SO 4711:-ION-:ä"
    parcel = OutboxRow(ACME, order(1), message_id=own, parameters=json.dumps(given))
    (message_id,) = station.application.insert_all([parcel])
    station.application.insert_plain("acme_prd", ORDER, "three columns are enough")
    async with station.relay():
        await station.until_delivered(ACME)
    assert message_id == own
    seen = _parameters(sandbox, ACME, own)
    assert given.items() <= seen.items()
    assert (seen["fromLogicalId"], seen["toLogicalId"]) == ("lid://acme.orders.1", "lid://default")
    plain = next(taken for taken in sandbox.messages(ACME) if taken.message_id != own)
    assert len(plain.message_id) == 32
    assert plain.message_id[12] == "4"  # a UUID of version 4, without hyphens
    assert sandbox.payload(ACME, plain.message_id) == b"three columns are enough"


async def test_one_token_serves_all_and_an_expired_one_is_renewed(sandbox: Sandbox, station: Station) -> None:
    """100 messages, one token; tokens are small quotas. When ION forgets it, one new one is fetched."""
    async with station.relay():
        station.application.insert_all(OutboxRow(ACME, order(n), key=f"k{n % 16}") for n in range(100))
        await station.until_delivered(ACME)
        assert sandbox.tokens.issued[ACME] == 1
        sandbox.tokens.revoke(sandbox.tenant(ACME))
        station.application.insert_all(OutboxRow(ACME, order(n), key=f"k{n % 16}") for n in range(100))
        await station.until_delivered(ACME)
        assert sandbox.tokens.issued[ACME] == 2
    assert sandbox.record.count() == 200


async def test_what_can_never_be_sent_is_parked_without_asking_ion(
    sandbox: Sandbox, station: Station
) -> None:
    """Larger than the tenant's limit, or parameters that IMS has no such type for; the next one goes."""
    station.environment[f"RELAY_TENANTS__{GLOBEX}__MAX_MESSAGE_BYTES"] = "10000"
    large, odd, fine = station.application.insert_all(
        [
            OutboxRow(GLOBEX, noise(1, 10_001)),
            OutboxRow(GLOBEX, b"x", parameters='{"variationId": "three"}'),
            OutboxRow(GLOBEX, noise(2, 10_000)),
        ]
    )
    async with station.relay() as relay:
        await station.until(
            lambda: station.application.row(fine)["state"] == "delivered", "the last delivered"
        )
        await station.until(lambda: station.application.states().get("parked") == 2, "two parked")
        assert len(relay.said("message.parked", tenant=GLOBEX)) == 2
    assert "10001 bytes" in station.application.row(large)["reason"]
    assert "variationId" in station.application.row(odd)["reason"]
    assert [taken.message_id for taken in sandbox.messages()] == [fine]


def _parameters(sandbox: Sandbox, tenant: str, message_id: str) -> dict[str, object]:
    content = sandbox.record.content(tenant, message_id)
    assert content is not None
    return dict(content.parameters)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_names_that_no_message_can_have_stop_no_other_document(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    odd = ["a\0b", "\ud800", "", "x" * 101]
    async with Sandbox([SandboxTenant("ACME", accepted=[*odd, ORDER], auth="oauth1")]) as sandbox:
        station = Station(tmp_path)
        station.environment |= sandbox.environment(tmp_path)
        async with AsyncExitStack() as stack:
            if store == "postgres":
                cluster: Cluster = request.getfixturevalue("postgres")
                station.environment["RELAY_OUTBOX__URL"] = await stack.enter_async_context(cluster.outbox())
            enqueue = ("enqueue", "--tenant", "ACME", "--document", ORDER, "-")
            assert (await station.command(*enqueue, stdin=b"<x/>")).code == 0
            relay = await stack.enter_async_context(station.relay())
            await sandbox.until(lambda: len(sandbox.messages()) == 1)
            line = await station.event(relay, "documents.ignored")
            assert (line["count"], line["code"]) == (4, "RELAY-109")
            assert "(4 invalid names ignored)" in (await station.command("check")).out
