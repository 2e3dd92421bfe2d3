"""What a worker may rely on, whichever endpoint it has: the scripted one is held to the truth here."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.core.replies import Accepted, NoReply, Reply, Versions
from relay.ion.client import IonClient
from relay.sandbox import Sandbox
from tests.contract.ion_clients import (
    DOCUMENTS,
    EndpointCase,
    SandboxCase,
    ScriptedCase,
    ask,
    connection,
    ionapi_source,
    message,
    oauth1_source,
    sandbox_tenant,
)
from tests.support.scripted import Call

CALLS: tuple[Call, ...] = ("ping", "versions", "accepted_documents", "post")
GETS = CALLS[:3]


@pytest.fixture(params=["scripted", "oauth2", "oauth1"])
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EndpointCase]:
    """The scripted endpoint; the real one with a token, and with signatures."""
    if request.param == "scripted":
        yield ScriptedCase()
        return
    async with Sandbox([sandbox_tenant()]) as sandbox:
        if request.param == "oauth2":
            plan = connection(ionapi_source(sandbox, tmp_path))
        else:
            direct = f"{sandbox.url}/api/ion/messaging/service"
            plan = connection(oauth1_source(sandbox), ion_url=direct)
        endpoint = IonClient(plan)
        try:
            yield SandboxCase(sandbox, endpoint)
        finally:
            await endpoint.close()


async def test_in_fine_faults_every_call_has_its_answer(case: EndpointCase) -> None:
    assert await case.endpoint.ping() == Reply(200)
    assert await case.endpoint.versions() == Versions(("v1", "v2", "v3"))
    assert await case.endpoint.accepted_documents() == Accepted(frozenset(DOCUMENTS))  # type: ignore[arg-type]
    assert await ask(case.endpoint, "post") == Reply(202)
    assert case.taken() == ["m1"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "status", [302, 400, 403, 404, 405, 408, 409, 412, 413, 415, 418, 429, 500, 502, 503, 504]
)
async def test_every_status_is_a_reply_with_its_code_and_words(
    case: EndpointCase, call: Call, status: int
) -> None:
    case.stage_status(call, status, 448, "the reason", None)
    assert await ask(case.endpoint, call) == Reply(status, "the reason", 448)
    assert case.taken() == []


@pytest.mark.parametrize("call", CALLS)
async def test_retry_after_comes_with_the_reply(case: EndpointCase, call: Call) -> None:
    case.stage_status(call, 503, 503, "later", 7)
    assert await ask(case.endpoint, call) == Reply(503, "later", 503, 7.0)


async def test_a_post_answered_401_is_that_reply_and_nothing_is_repeated(case: EndpointCase) -> None:
    assert await case.endpoint.ping() == Reply(200)
    case.stage_status("post", 401, 401, "expired", None)
    assert await ask(case.endpoint, "post") == Reply(401, "expired", 401)
    assert case.taken() == []


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_that_is_cut_is_no_reply(case: EndpointCase, call: Call) -> None:
    case.stage_cut(call)
    answer = await ask(case.endpoint, call)
    assert isinstance(answer, NoReply)
    assert "closed the connection" in answer.detail
    assert case.taken() == []


@pytest.mark.parametrize("call", CALLS)
async def test_a_success_that_is_cut_short_is_no_reply(case: EndpointCase, call: Call) -> None:
    """Also of a post: whether ION took it is not known."""
    case.stage_truncated(call)
    answer = await ask(case.endpoint, call)
    assert isinstance(answer, NoReply)
    assert "was cut" in answer.detail


@pytest.mark.parametrize("kind", ["not-json", "not-utf8", "wrong-types", "huge", "html", "empty"])
@pytest.mark.parametrize("call", ["versions", "accepted_documents"])
async def test_where_the_body_matters_nonsense_is_no_reply(case: EndpointCase, call: Call, kind: str) -> None:
    case.stage_nonsense(call, kind)
    answer = await ask(case.endpoint, call)
    assert isinstance(answer, NoReply)
    assert 0 < len(answer.detail) <= 300
    assert answer.detail.isprintable()


@pytest.mark.parametrize("kind", ["not-json", "not-utf8", "wrong-types", "huge", "html", "empty"])
@pytest.mark.parametrize("call", ["ping", "post"])
async def test_where_the_status_alone_matters_nonsense_is_a_success(
    case: EndpointCase, call: Call, kind: str
) -> None:
    """A 2xx means that ION took custody: sent again, the message would be there twice."""
    case.stage_nonsense(call, kind)
    answer = await ask(case.endpoint, call)
    assert isinstance(answer, Reply)
    assert 200 <= answer.status < 300
    assert case.taken() == (["m1"] if call == "post" else [])


async def test_posts_may_fly_together(case: EndpointCase) -> None:
    parcels = [await case.endpoint.pack(message(number)) for number in range(20)]
    answers = await asyncio.gather(*(case.endpoint.post(parcel) for parcel in parcels))
    assert answers == [Reply(202)] * 20
    assert sorted(case.taken()) == sorted(f"m{number}" for number in range(20))


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_may_be_cancelled_and_the_next_one_works(case: EndpointCase, call: Call) -> None:
    assert await case.endpoint.ping() == Reply(200)
    case.stage_slow(call, 30.0)
    cancelled = asyncio.create_task(ask(case.endpoint, call))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    other: Call = "versions" if call == "ping" else "ping"
    assert isinstance(await ask(case.endpoint, other), Reply | Versions)
    assert case.taken() == []


async def test_after_a_close_it_may_be_used_again(case: EndpointCase) -> None:
    """A worker that is restarted keeps its endpoint."""
    assert await case.endpoint.ping() == Reply(200)
    await case.endpoint.close()
    await case.endpoint.close()
    assert await ask(case.endpoint, "post") == Reply(202)


async def test_credentials_that_nobody_touched_have_not_changed(case: EndpointCase) -> None:
    assert not case.endpoint.credentials_changed()
    await case.endpoint.ping()
    assert not case.endpoint.credentials_changed()


async def test_a_post_carries_document_and_parameters(case: EndpointCase) -> None:
    """What is packed is what arrives: small, compressed, and built off the loop."""
    for number, size in enumerate((10, 10_000, 300_000)):
        payload = b"<x>" * size
        parameters = json.dumps({"variationId": number})
        parcel = await case.endpoint.pack(message(number, payload, parameters))
        assert await case.endpoint.post(parcel) == Reply(202)
        if isinstance(case, SandboxCase):
            assert case.sandbox.payload("ACME_PRD", f"m{number}") == payload
            content = case.sandbox.record.content("ACME_PRD", f"m{number}")
            assert content is not None
            assert content.parameters["variationId"] == number
            assert content.parameters["fromLogicalId"] == "lid://acme.orders.1"
            assert content.parameters["encoding"] == ("NONE" if size == 10 else "DEFLATE")
