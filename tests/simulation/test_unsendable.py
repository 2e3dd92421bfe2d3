"""A message of which no post can be made is parked with the reason, and keeps no other waiting."""

import asyncio

import pytest

from relay.core.model import DocumentName, Draft, Message
from relay.core.ports import EncodedPost
from relay.core.protocol import Policy
from relay.core.replies import Accepted
from tests.simulation.harness import ACME, ORDER, World, world
from tests.support.scripted import ScriptedIon
from tests.support.virtual import run

PARAMETERS = {
    '{"source": 1e999}': "parameters: contain a value that JSON cannot hold",
    '{"custom_A": "\\ud800"}': "parameters: contain half of a surrogate pair",
    '{"variationId": ' + "9" * 5000 + "}": "parameters: contain a number of thousands of digits",
    '{"source": ' + "[" * 990 + "]" * 990 + "}": "parameters: are nested more than 100 levels deep",
    '{"source": ' + "[" * 3000 + "]" * 3000 + "}": "parameters: are nested more than 100 levels deep",
    '{"custom_A": "' + "x" * 70_000 + '"}': "parameters: have more than 65536 characters",
    '{"a\\u0000\\n": 1}': "parameters.a\\u0000\\n: is not an IMS property",
}


async def scene_with(w: World, *, odd: str, parameters: str | None = None) -> None:
    """An odd message in a lane of its own, and good ones before and behind it in other lanes."""
    ids = w.insert("a", odd, "b")
    for row in w.outbox.rows:
        if row.message_id == ids[1] and parameters is not None:
            row.parameters = parameters
    await w.start()
    async with asyncio.timeout(60):
        while len(w.rows("delivered")) < 2:  # noqa: ASYNC110  (virtual time)
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("parameters", PARAMETERS, ids=PARAMETERS.values())
def test_parameters_that_cannot_be_sent_park_their_message_alone(parameters: str) -> None:
    async def scene() -> None:
        w = world()
        await scene_with(w, odd="odd", parameters=parameters)
        await w.all_settled()
        (parked,) = [row for row in w.outbox.rows if row.state == "parked"]
        assert (parked.reason or "").startswith(PARAMETERS[parameters])
        assert (parked.reason or "").isprintable()
        assert len(w.calls("post")) == 2
        await w.stop()

    run(scene())


@pytest.mark.parametrize("size", [20, 300_000])
@pytest.mark.parametrize("is_opaque", [True, False])
def test_a_document_that_contradicts_utf_8_is_parked_unless_it_is_opaque(size: int, is_opaque: bool) -> None:
    async def scene() -> None:
        w = world(opaque=("Sync.Sales*",) if is_opaque else ())
        payload = ("<a/>" + " " * size).encode("utf-16")
        w.outbox.insert(Draft(ACME, ORDER, payload))
        await w.start()
        await w.all_settled()
        await w.stop()
        (row,) = w.outbox.rows
        assert row.state == ("delivered" if is_opaque else "parked")
        assert is_opaque or (row.reason or "").startswith(
            "payload: is UTF-16, and is sent as UTF-8; convert it"
        )
        assert len(w.calls("post")) == is_opaque

    run(scene())


def test_a_document_that_its_tenant_wants_checked_is_parked_with_the_place_of_the_fault() -> None:
    async def scene() -> None:
        w = world(check="well-formed", opaque=("My_Scan",))
        for payload, document in (
            (b"<a><b></a>", ORDER),
            (b"<a/>", ORDER),
            (b"any", DocumentName("My_Scan")),
        ):
            w.outbox.insert(Draft(ACME, document, payload))
        w.ion.queue("accepted_documents", Accepted(frozenset({ORDER, DocumentName("My_Scan")})))
        await w.start()
        await w.all_settled()
        await w.stop()
        assert [row.state for row in w.outbox.rows] == ["parked", "delivered", "delivered"]
        assert "mismatched tag: line 1, column 9" in (w.outbox.rows[0].reason or "")

    run(scene())


@pytest.mark.parametrize(
    "error", [ValueError("\x00\ud800"), RecursionError(), KeyError("a"), OverflowError("o" * 5000)]
)
def test_whatever_goes_wrong_while_a_post_is_made_parks_the_message(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in ways that nobody foresaw: the same row would end the worker again at each start."""
    make = ScriptedIon.encode

    async def encode(ion: ScriptedIon, message: Message) -> EncodedPost:
        if message.ordering_key == "odd":
            raise error
        return await make(ion, message)

    monkeypatch.setattr(ScriptedIon, "encode", encode)

    async def scene() -> None:
        w = world()
        await scene_with(w, odd="odd")
        await w.all_settled()
        (parked,) = [row for row in w.outbox.rows if row.state == "parked"]
        assert f"no post can be made of it ({type(error).__name__}" in (parked.reason or "")
        assert (parked.reason or "").isprintable()
        assert w.meters.parked.get((ACME, "unsendable")) == 1
        await w.stop()

    run(scene())


def test_where_nothing_is_parked_it_waits_and_the_others_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    make = ScriptedIon.encode

    async def encode(ion: ScriptedIon, message: Message) -> EncodedPost:
        if message.ordering_key == "odd":
            raise ValueError
        return await make(ion, message)

    monkeypatch.setattr(ScriptedIon, "encode", encode)

    async def scene() -> None:
        w = world(policy=Policy("park", park_nothing=True, max_attempts=10))
        await scene_with(w, odd="odd")
        (left,) = w.rows("pending")
        (row,) = [one for one in w.outbox.rows if one.message_id == left]
        await w.until(lambda: row.attempts > 3)
        assert "no post can be made of it" in (row.reason or "")
        await w.stop()

    run(scene())
