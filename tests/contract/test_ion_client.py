"""The contract of the port `Ion`, which also holds the scripted client to the behaviour of the real one."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.core.answers import FOREIGN, row_of
from relay.core.replies import Accepted, NoReply, Reply, Versions
from relay.ion.client import IonClient
from relay.sandbox import Sandbox
from tests.contract.ion_clients import (
    DOCUMENTS,
    IonCase,
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
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IonCase]:
    """The scripted client; the real one with OAuth 2, and with OAuth 1."""
    if request.param == "scripted":
        yield ScriptedCase()
        return
    async with Sandbox([sandbox_tenant()]) as sandbox:
        if request.param == "oauth2":
            settings = connection(ionapi_source(sandbox, tmp_path))
        else:
            direct = f"{sandbox.url}/api/ion/messaging/service"
            settings = connection(oauth1_source(sandbox), ion_url=direct)
        client = IonClient(settings)
        try:
            yield SandboxCase(sandbox, client)
        finally:
            await client.close()


async def test_in_normal_operation_every_call_has_its_answer(case: IonCase) -> None:
    assert await case.client.ping() == Reply(200)
    assert await case.client.versions() == Versions(("v1", "v2", "v3"))
    assert await case.client.accepted_documents() == Accepted(frozenset(DOCUMENTS))  # type: ignore[arg-type]
    assert await ask(case.client, "post") == Reply(202)
    assert case.taken() == ["m1"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "status", [302, 400, 403, 404, 405, 408, 409, 412, 413, 415, 418, 429, 500, 502, 503, 504]
)
async def test_every_status_is_a_reply_with_its_code_and_text(case: IonCase, call: Call, status: int) -> None:
    case.stage_status(call, status, 448, "the reason", None)
    assert await ask(case.client, call) == Reply(status, "the reason", 448)
    assert case.taken() == []


@pytest.mark.parametrize("call", CALLS)
async def test_retry_after_comes_with_the_reply(case: IonCase, call: Call) -> None:
    case.stage_status(call, 503, 503, "later", 7)
    assert await ask(case.client, call) == Reply(503, "later", 503, 7.0)


async def test_a_post_answered_401_is_that_reply_and_nothing_is_repeated(case: IonCase) -> None:
    assert await case.client.ping() == Reply(200)
    case.stage_status("post", 401, 401, "expired", None)
    assert await ask(case.client, "post") == Reply(401, "expired", 401)
    assert case.taken() == []


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_whose_connection_breaks_is_no_reply(case: IonCase, call: Call) -> None:
    case.stage_cut(call)
    answer = await ask(case.client, call)
    assert isinstance(answer, NoReply)
    assert "closed the connection" in answer.detail
    assert case.taken() == []


@pytest.mark.parametrize("call", CALLS)
async def test_a_truncated_success_is_no_reply(case: IonCase, call: Call) -> None:
    """Also of a post: whether ION took custody is unknown."""
    case.stage_truncated(call)
    answer = await ask(case.client, call)
    assert isinstance(answer, NoReply)
    assert "was cut" in answer.detail


@pytest.mark.parametrize("kind", ["not-json", "not-utf8", "wrong-types", "huge", "empty"])
@pytest.mark.parametrize("call", ["versions", "accepted_documents"])
async def test_where_the_body_matters_an_unreadable_one_is_no_reply(
    case: IonCase, call: Call, kind: str
) -> None:
    case.stage_nonsense(call, kind)
    answer = await ask(case.client, call)
    assert isinstance(answer, NoReply)
    assert 0 < len(answer.detail) <= 300
    assert answer.detail.isprintable()


@pytest.mark.parametrize("kind", ["not-json", "not-utf8", "wrong-types", "huge", "empty"])
@pytest.mark.parametrize("call", ["ping", "post"])
async def test_where_only_the_status_matters_an_unreadable_body_is_a_success(
    case: IonCase, call: Call, kind: str
) -> None:
    """A 2xx means that ION took custody: sent again, the message would be duplicated."""
    case.stage_nonsense(call, kind)
    answer = await ask(case.client, call)
    assert isinstance(answer, Reply)
    assert 200 <= answer.status < 300
    assert case.taken() == (["m1"] if call == "post" else [])


@pytest.mark.parametrize("call", CALLS)
async def test_a_page_is_no_success(case: IonCase, call: Call) -> None:
    """A firewall or gateway answered; ION has not got the message."""
    case.stage_nonsense(call, "request-rejected")
    answer = await ask(case.client, call)
    assert isinstance(answer, Reply)
    assert row_of(answer) is FOREIGN
    assert "Request Rejected" in answer.detail
    assert case.taken() == []


async def test_posts_may_be_concurrent(case: IonCase) -> None:
    posts = [await case.client.encode(message(number)) for number in range(20)]
    answers = await asyncio.gather(*(case.client.post(post) for post in posts))
    assert answers == [Reply(202)] * 20
    assert sorted(case.taken()) == sorted(f"m{number}" for number in range(20))


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_may_be_cancelled_and_the_next_one_works(case: IonCase, call: Call) -> None:
    assert await case.client.ping() == Reply(200)
    case.stage_slow(call, 30.0)
    cancelled = asyncio.create_task(ask(case.client, call))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    other: Call = "versions" if call == "ping" else "ping"
    assert isinstance(await ask(case.client, other), Reply | Versions)
    assert case.taken() == []


async def test_after_a_close_it_may_be_used_again(case: IonCase) -> None:
    """A restarted worker keeps its client."""
    assert await case.client.ping() == Reply(200)
    await case.client.close()
    await case.client.close()
    assert await ask(case.client, "post") == Reply(202)


async def test_unmodified_credentials_have_not_changed(case: IonCase) -> None:
    assert not case.client.credentials_changed()
    await case.client.ping()
    assert not case.client.credentials_changed()


async def test_a_post_carries_document_and_parameters(case: IonCase) -> None:
    """What was encoded is what arrives: uncompressed, compressed, and encoded in a thread."""
    for number, size in enumerate((10, 10_000, 300_000)):
        payload = b"<x>" * size
        parameters = json.dumps({"variationId": number})
        encoded = await case.client.encode(message(number, payload, parameters))
        assert await case.client.post(encoded) == Reply(202)
        if isinstance(case, SandboxCase):
            assert case.sandbox.payload("ACME_PRD", f"m{number}") == payload
            content = case.sandbox.record.content("ACME_PRD", f"m{number}")
            assert content is not None
            assert content.parameters["variationId"] == number
            assert content.parameters["fromLogicalId"] == "lid://acme.orders.1"
            assert content.parameters["encoding"] == ("NONE" if size == 10 else "DEFLATE")
