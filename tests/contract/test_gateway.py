"""The real client and a gateway's token service: quotas are small, so every token request is counted."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from relay.core import answers
from relay.core.model import DocumentName
from relay.core.replies import Accepted, NoReply, Reply, TokenRefused, TokenUnavailable, Versions, describe
from relay.ion.client import IonClient
from relay.ion.credentials import IonApiFile, OAuth1Source
from relay.ion.oauth import Secret
from relay.ion.transport import HttpResponse
from relay.observability import regular_file
from relay.observability.metrics import Meters
from relay.sandbox import Sandbox, SandboxTenant
from tests.contract.ion_clients import (
    DOCUMENTS,
    LOGICAL_ID,
    TENANT,
    ask,
    connection,
    ionapi_source,
    message,
    oauth1_source,
    sandbox_tenant,
)
from tests.support.scripted import Call

CALLS: tuple[Call, ...] = ("ping", "versions", "accepted_documents", "post")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """With this suite's tenant."""
    async with Sandbox([sandbox_tenant()]) as running:
        yield running


@pytest.fixture
def source(sandbox: Sandbox, tmp_path: Path) -> IonApiFile:
    """Its `.ionapi` file."""
    return ionapi_source(sandbox, tmp_path)


@pytest.fixture
async def connect(source: IonApiFile) -> AsyncIterator[Callable[..., IonClient]]:
    """Clients with it; closed at the end."""
    made: list[IonClient] = []

    def to(**changes: Any) -> IonClient:
        made.append(IonClient(connection(source, **changes)))
        return made[-1]

    yield to
    for client in made:
        await client.close()


@pytest.fixture
def client(connect: Callable[..., IonClient]) -> IonClient:
    """One of them."""
    return connect()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between the token requests of one fetch take no time here."""

    async def no_sleep(_: float) -> None:
        pass

    monkeypatch.setattr("backoff._async.asyncio", _Asyncio(no_sleep))


class _Asyncio:
    """The module as `backoff` sees it, with another sleep."""

    def __init__(self, sleep: Any) -> None:
        self.sleep, self.iscoroutinefunction = sleep, asyncio.iscoroutinefunction


@pytest.fixture
def service(client: IonClient, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the token service answer so."""

    def answer(
        status: int, body: str, content_type: str = "application/json", location: str | None = None
    ) -> None:
        response = HttpResponse(status, body.encode(), True, None, location, content_type)

        async def post(*_: object) -> HttpResponse:
            return response

        monkeypatch.setattr(client._transport, "post", post)

    return answer


def fetched(sandbox: Sandbox) -> int:
    """How many tokens were requested."""
    return len(sandbox.requests(call="token"))


def rewrite(source: IonApiFile, **changes: object) -> None:
    """Replace the file, as an operator who downloads a new one does."""
    found = json.loads(source.path.read_text())
    made = source.path.with_suffix(".new")
    made.write_text(json.dumps({**found, **changes}))
    made.replace(source.path)


# --- one token ---------------------------------------------------------------------------------------


async def test_fifty_calls_at_once_cause_one_token_request(sandbox: Sandbox, client: IonClient) -> None:
    posts = [await client.encode(message(number)) for number in range(25)]
    answers = await asyncio.gather(
        *(client.ping() for _ in range(25)), *(client.post(post) for post in posts)
    )
    assert answers == [Reply(200)] * 25 + [Reply(202)] * 25
    assert fetched(sandbox) == 1


async def test_one_token_serves_all_calls(sandbox: Sandbox, client: IonClient) -> None:
    for _ in range(3):
        for call in CALLS:
            assert not isinstance(await ask(client, call), NoReply)
    assert fetched(sandbox) == 1


async def test_the_first_caller_may_be_cancelled_while_the_token_is_fetched(
    sandbox: Sandbox, client: IonClient
) -> None:
    sandbox.faults(call="token", delay=0.05)
    first, second = asyncio.create_task(client.ping()), asyncio.create_task(client.ping())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == Reply(200)
    assert first.cancelled()
    assert fetched(sandbox) == 1


async def test_a_token_about_to_expire_is_renewed_before_it_does(
    sandbox: Sandbox, client: IonClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call gets a 401 meanwhile."""
    clock = 1000.0
    monkeypatch.setattr(client._tokens, "_now", lambda: clock)
    assert await client.ping() == Reply(200)
    clock += 0.89 * 7200
    assert await client.ping() == Reply(200)
    assert fetched(sandbox) == 1
    clock += 0.02 * 7200
    assert await client.ping() == Reply(200)
    assert fetched(sandbox) == 2
    assert {request.status for request in sandbox.requests()} == {200}


# --- a token that is rejected ------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS[:3])
async def test_an_expired_token_on_a_get_is_replaced_once_and_the_get_repeated(
    sandbox: Sandbox, client: IonClient, call: Call
) -> None:
    assert await client.ping() == Reply(200)
    sandbox.tokens.revoke(sandbox.tenant(TENANT))
    answer = await ask(client, call)
    assert isinstance(answer, Versions | Accepted) or answer == Reply(200)
    assert fetched(sandbox) == 2


async def test_a_token_that_only_posts_refuse_is_replaced_once(sandbox: Sandbox, client: IonClient) -> None:
    """Pings succeed: they do not check it, or the gateway has not heard of its revocation."""
    assert await client.ping() == Reply(200)
    sandbox.faults(call="post", status=401, code=401, error="revoked", count=1)
    assert await ask(client, "post") == Reply(401, "revoked", 401)
    assert fetched(sandbox) == 1
    assert await client.ping() == Reply(200)
    assert fetched(sandbox) == 2
    assert await ask(client, "post") == Reply(202)
    assert fetched(sandbox) == 2


async def test_a_token_that_posts_refuse_for_ever_is_not_fetched_in_a_loop(
    sandbox: Sandbox, client: IonClient
) -> None:
    sandbox.faults(call="post", status=401, code=401, error="revoked")
    for _ in range(20):
        assert await client.ping() == Reply(200)
        assert await ask(client, "post") == Reply(401, "revoked", 401)
    assert fetched(sandbox) == 2


async def test_posts_in_flight_that_are_all_refused_replace_the_token_once(
    sandbox: Sandbox, client: IonClient
) -> None:
    assert await client.ping() == Reply(200)
    sandbox.faults(call="post", status=401, code=401, error="revoked", count=8)
    posts = [await client.encode(message(number)) for number in range(8)]
    await asyncio.gather(*(client.post(post) for post in posts))
    assert await ask(client, "post") == Reply(202)
    assert fetched(sandbox) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_an_operator_who_acts_has_a_refused_token_replaced(
    sandbox: Sandbox, client: IonClient, status: int
) -> None:
    """Also after a 403: rights that were granted meanwhile may stand in new tokens only."""
    sandbox.faults(call="post", status=status, code=status, error="no")
    for _ in range(3):
        await ask(client, "post")
    before = fetched(sandbox)
    client.drop_refused_token()
    sandbox.clear_faults()
    assert await ask(client, "post") == Reply(202)
    assert fetched(sandbox) == before + 1
    client.drop_refused_token()
    assert await ask(client, "post") == Reply(202)
    assert fetched(sandbox) == before + 1


async def test_a_file_that_was_touched_has_a_refused_token_replaced(
    sandbox: Sandbox, source: IonApiFile, client: IonClient
) -> None:
    sandbox.faults(call="post", status=401, code=401, error="no")
    await ask(client, "post")
    await ask(client, "post")
    before = fetched(sandbox)
    source.path.touch()
    assert await client.ping() == Reply(200)
    assert fetched(sandbox) == before + 1


async def test_an_unchanged_file_whose_credentials_were_refused_is_no_news(
    sandbox: Sandbox, source: IonApiFile, client: IonClient
) -> None:
    good = json.loads(source.path.read_text())["cs"]
    rewrite(source, cs="wrong")
    assert isinstance(await client.ping(), TokenRefused)
    for _ in range(5):
        rewrite(source)
        assert not client.credentials_changed()
    assert fetched(sandbox) == 1
    rewrite(source, cs=good)
    assert client.credentials_changed()
    assert await client.ping() == Reply(200)
    rewrite(source)
    assert client.credentials_changed()


async def test_a_token_service_without_tokens_is_asked_ever_more_rarely(
    sandbox: Sandbox, client: IonClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(client._tokens, "_now", lambda: clock)
    sandbox.faults(call="token", body="wrong-types")
    for _ in range(600):
        answer = await client.ping()
        assert isinstance(answer, TokenUnavailable)
        assert answer.retry_after is not None
        clock += 1.0
    assert fetched(sandbox) == 5
    sandbox.clear_faults()
    client.drop_refused_token()
    assert await client.ping() == Reply(200)


async def test_an_expired_token_on_a_post_is_a_401_and_the_next_ping_replaces_it(
    sandbox: Sandbox, client: IonClient
) -> None:
    """A post is never repeated without a ping between."""
    assert await client.ping() == Reply(200)
    sandbox.tokens.revoke(sandbox.tenant(TENANT))
    answer = await ask(client, "post")
    assert isinstance(answer, Reply)
    assert answer.status == 401
    assert fetched(sandbox) == 1
    assert len(sandbox.requests(call="post")) == 1
    assert await client.ping() == Reply(200)
    assert await ask(client, "post") == Reply(202)
    assert fetched(sandbox) == 2


async def test_concurrent_calls_replace_an_expired_token_once(sandbox: Sandbox, client: IonClient) -> None:
    assert await client.ping() == Reply(200)
    sandbox.tokens.revoke(sandbox.tenant(TENANT))
    assert await asyncio.gather(*(client.ping() for _ in range(20))) == [Reply(200)] * 20
    assert fetched(sandbox) == 2


@pytest.mark.parametrize("call", CALLS)
async def test_a_fresh_token_that_is_rejected_is_a_401_and_not_fetched_again(
    sandbox: Sandbox, client: IonClient, call: Call
) -> None:
    """A new token would not help; the protocol halts the tenant."""
    for name in ("ping", "versions", "acceptedDocuments", "post"):
        sandbox.faults(call=name, status=401, code=401, error="not you")
    assert await ask(client, call) == Reply(401, "not you", 401)
    assert fetched(sandbox) == 1
    assert await ask(client, call) == Reply(401, "not you", 401)
    assert fetched(sandbox) == 2
    assert await ask(client, call) == Reply(401, "not you", 401)
    assert fetched(sandbox) == 2


# --- a token that is not issued -----------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
async def test_wrong_credentials_are_refused_after_one_request_and_not_shown(
    sandbox: Sandbox, source: IonApiFile, client: IonClient, call: Call
) -> None:
    rewrite(source, cs="canary-wrong-secret")
    answer = await ask(client, call)
    assert isinstance(answer, TokenRefused)
    assert answer.detail.startswith("the token service answers HTTP 401: invalid_client")
    assert "canary" not in answer.detail
    assert fetched(sandbox) == 1
    assert len(sandbox.requests()) == 1


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refusal_of_the_token_service_is_final(
    sandbox: Sandbox, client: IonClient, status: int
) -> None:
    sandbox.faults(call="token", status=status, error="no")
    answer = await client.ping()
    assert isinstance(answer, TokenRefused)
    assert f"HTTP {status}" in answer.detail
    assert fetched(sandbox) == 1


@pytest.mark.parametrize("status", [302, 404, 429, 503])
async def test_other_errors_of_the_token_service_are_not_retried(
    sandbox: Sandbox, client: IonClient, status: int
) -> None:
    sandbox.faults(call="token", status=status, retry_after=9)
    answer = await ask(client, "post")
    assert isinstance(answer, TokenUnavailable)
    assert answer.retry_after == 9.0
    assert f"HTTP {status}" in answer.detail
    assert fetched(sandbox) == 1
    assert sandbox.messages() == []


@pytest.mark.parametrize("faults", [{"status": 500}, {"status": 502}, {"status": 408}, {"cut": "before"}])
async def test_server_errors_of_the_token_service_are_retried_twice_and_no_more(
    sandbox: Sandbox, client: IonClient, faults: dict[str, Any]
) -> None:
    sandbox.faults(call="token", **faults)
    assert isinstance(await client.ping(), TokenUnavailable)
    assert fetched(sandbox) == 3


async def test_a_short_failure_of_the_token_service_is_bridged(sandbox: Sandbox, client: IonClient) -> None:
    sandbox.faults(call="token", status=502, count=2)
    assert await client.ping() == Reply(200)
    assert fetched(sandbox) == 3


@pytest.mark.parametrize("body", ["not-json", "not-utf8", "wrong-types", "huge", "html", "empty"])
async def test_an_unreadable_token_response_is_unavailable_and_not_retried(
    sandbox: Sandbox, client: IonClient, body: str
) -> None:
    sandbox.faults(call="token", body=body)
    answer = await client.ping()
    assert isinstance(answer, TokenUnavailable)
    assert len(answer.detail) <= 300
    assert fetched(sandbox) == 1


# --- the token service's words -----------------------------------------------------------------------


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_client", "unauthorized_client"])
async def test_a_refusal_with_a_success_is_a_refusal(
    client: IonClient, service: Callable[..., None], error: str
) -> None:
    service(200, json.dumps({"error": error, "error_description": "locked"}))
    assert await client.ping() == TokenRefused(f"the token service answers HTTP 200: {error}: locked")


async def test_another_error_with_a_success_is_a_failure(
    client: IonClient, service: Callable[..., None]
) -> None:
    service(200, json.dumps({"error": "temporarily_unavailable"}))
    assert await client.ping() == TokenUnavailable("HTTP 200: temporarily_unavailable")


@pytest.mark.parametrize("status", [200, 404])
async def test_the_title_of_a_page_is_shown(
    client: IonClient, service: Callable[..., None], status: int
) -> None:
    service(status, "<html><head><title>Sign in to ACME</title></head></html>", "text/html")
    assert await client.ping() == TokenUnavailable(f"HTTP {status}: an HTML page: Sign in to ACME")


async def test_the_title_of_a_refusal_is_shown(client: IonClient, service: Callable[..., None]) -> None:
    service(403, "<html><head><title>Request Rejected</title></head></html>", "text/html")
    expected = "the token service answers HTTP 403: an HTML page: Request Rejected"
    assert await client.ping() == TokenRefused(expected)


async def test_the_target_of_a_redirect_is_shown_without_its_path(
    client: IonClient, service: Callable[..., None]
) -> None:
    service(302, "", location="https://login.example/as?state=secret")
    assert await client.ping() == TokenUnavailable("HTTP 302: redirected to https://login.example")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("", "the answer has no access_token"),
        ("{}", "the answer has no access_token"),
        ('{"access_token": 5}', "the access_token is no text"),
        ('{"access_token": "two words"}', "the access_token cannot be sent in a header"),
        ('{"message": "not today"}', "not today"),
        ('["x"]', "the answer is a JSON array"),
        ("soon", "the answer is not JSON (4 bytes)"),
    ],
)
async def test_an_answer_of_another_shape_says_so(
    client: IonClient, service: Callable[..., None], body: str, what: str
) -> None:
    service(200, body)
    answer = await client.ping()
    assert isinstance(answer, TokenUnavailable)
    assert answer.detail == f'{what}; expected {{"access_token": "…"}}'


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw-deflate"])
async def test_compressed_answers_are_read_though_none_were_asked_for(
    sandbox: Sandbox, client: IonClient, encoding: str
) -> None:
    sandbox.faults(compress=encoding, call="*")
    assert await client.ping() == Reply(200)
    assert isinstance(await client.versions(), Versions)
    assert isinstance(await client.accepted_documents(), Accepted)
    assert await ask(client, "post") == Reply(202)
    assert fetched(sandbox) == 1
    for call in CALLS:
        sandbox.clear_faults()
        name = "acceptedDocuments" if call == "accepted_documents" else call
        sandbox.faults(compress=encoding, call=name, status=403, code=403, error="the reason")
        assert await ask(client, call) == Reply(403, "the reason", 403)


# --- clocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-3600, 0, 3600])
async def test_a_date_to_wait_for_is_measured_by_the_servers_clock(
    sandbox: Sandbox, client: IonClient, seconds: int
) -> None:
    assert await client.ping() == Reply(200)
    sandbox.faults(clock=seconds)
    sandbox.faults(call="ping", status=503, code=503, error="later", retry_after=120, retry_after_date=True)
    assert await client.ping() == Reply(503, "later", 503, 120.0)


@pytest.mark.parametrize(("hours", "words"), [(1, "60 minutes behind"), (-1, "60 minutes ahead of")])
@pytest.mark.parametrize("call", CALLS)
async def test_a_clock_that_is_an_hour_off_is_named_and_not_the_credentials(
    sandbox: Sandbox, call: Call, hours: int, words: str
) -> None:
    source, url = oauth1_source(sandbox), f"{sandbox.url}/api/ion/messaging/service"
    client = IonClient(connection(source, ion_url=url))
    sandbox.faults(clock=hours * 3600)
    answer = await ask(client, call)
    await client.close()
    assert f"this machine's clock is {words} the server's" in describe(answer)
    assert answers.row_of(answer) is answers.CLOCK


async def test_where_the_clock_is_right_it_is_the_credentials(sandbox: Sandbox) -> None:
    url = f"{sandbox.url}/api/ion/messaging/service"
    client = IonClient(connection(OAuth1Source("unknown", Secret("s")), ion_url=url))
    answer = await client.ping()
    await client.close()
    assert answers.row_of(answer) is answers.UNAUTHORISED
    assert "clock" not in describe(answer)


async def test_a_bearer_token_carries_no_time_of_this_machine(sandbox: Sandbox, client: IonClient) -> None:
    """The clock is named as a fact, and the credentials stay the first suspect."""
    sandbox.faults(clock=3600)
    sandbox.faults(call="ping", status=401, code=401, error="no")
    answer = await client.ping()
    assert describe(answer).endswith("no; this machine's clock is 60 minutes behind the server's")
    assert answers.row_of(answer) is answers.UNAUTHORISED


# --- grants and bases ---------------------------------------------------------------------------------


@pytest.mark.parametrize("service_account", [True, False])
@pytest.mark.parametrize("basic", [True, False])
async def test_both_grants_work_with_both_client_authentications(
    tmp_path: Path, service_account: bool, basic: bool
) -> None:
    tenant = SandboxTenant(TENANT, LOGICAL_ID, list(DOCUMENTS), service_account=service_account)
    async with Sandbox([tenant]) as sandbox:
        client = IonClient(connection(ionapi_source(sandbox, tmp_path), token_basic=basic, token_scope="s"))
        assert await ask(client, "post") == Reply(202)
        await client.close()


async def test_an_ion_url_overrides_the_base_of_the_file(
    sandbox: Sandbox, connect: Callable[..., IonClient]
) -> None:
    client = connect(ion_url=f"{sandbox.url}/api/ion/messaging/service")
    assert await client.ping() == Reply(200)
    assert sandbox.requests(call="ping")[0].target == "/api/ion/messaging/service/ping"


async def test_calls_that_a_wrapper_suite_does_not_forward_are_not_made(
    sandbox: Sandbox, connect: Callable[..., IonClient]
) -> None:
    sandbox.faults(wrapper=True)
    client = connect()
    assert {answers.row_of(await ask(client, call)) for call in CALLS[:3]} == {answers.UNEXPECTED}
    made = len(sandbox.requests())
    named = frozenset({DocumentName("Sync.Shipment")})
    client = connect(skipped=frozenset({"ping", "versions", "acceptedDocuments"}), documents=named)
    assert await client.ping() == Reply(200)
    assert answers.is_fine(await client.versions())
    assert await client.accepted_documents() == Accepted(named)
    assert len(sandbox.requests()) == made
    assert await ask(client, "post") == Reply(202)


async def test_a_skipped_ping_reads_the_credentials_nevertheless(
    source: IonApiFile, connect: Callable[..., IonClient]
) -> None:
    source.path.write_text("{")
    client = connect(skipped=frozenset({"ping"}))
    assert isinstance(await client.ping(), TokenRefused)
    assert isinstance(await client.versions(), TokenRefused)


# --- credentials that change --------------------------------------------------------------------------


async def test_a_ping_reads_credentials_that_changed_on_disk(
    sandbox: Sandbox, source: IonApiFile, client: IonClient
) -> None:
    good = json.loads(source.path.read_text())["cs"]
    rewrite(source, cs="wrong")
    assert isinstance(await client.ping(), TokenRefused)
    assert not client.credentials_changed()
    rewrite(source, cs=good)
    assert client.credentials_changed()
    assert await client.ping() == Reply(200)
    assert not client.credentials_changed()


async def test_new_credentials_mean_a_new_token(
    sandbox: Sandbox, source: IonApiFile, client: IonClient
) -> None:
    assert await client.ping() == Reply(200)
    rewrite(source, cs="wrong")
    assert await ask(client, "post") == Reply(202)
    assert isinstance(await client.ping(), TokenRefused)
    assert isinstance(await ask(client, "post"), TokenRefused)


async def test_an_unchanged_file_with_a_new_timestamp_costs_no_token(
    sandbox: Sandbox, source: IonApiFile, client: IonClient
) -> None:
    assert await client.ping() == Reply(200)
    rewrite(source)
    assert client.credentials_changed()
    assert await client.ping() == Reply(200)
    assert not client.credentials_changed()
    assert fetched(sandbox) == 1


async def test_the_last_tokens_are_masked_too(sandbox: Sandbox, client: IonClient) -> None:
    """A post in flight that is answered after its token was replaced may echo it."""
    assert await client.ping() == Reply(200)
    (token,) = sandbox.tokens._grants
    sandbox.faults(call="post", status=401, code=401, error=f"no {token}")
    assert await ask(client, "post") == Reply(401, "no ***", 401)
    assert await client.ping() == Reply(200)
    assert await ask(client, "post") == Reply(401, "no ***", 401)
    assert fetched(sandbox) == 2


@pytest.mark.parametrize("call", CALLS)
async def test_the_file_of_another_tenant_is_refused_by_name(
    sandbox: Sandbox, source: IonApiFile, client: IonClient, call: Call
) -> None:
    """With it, documents would reach the other tenant."""
    good = source.path.read_bytes()
    rewrite(source, ti="GLOBEX_PRD")
    answer = await ask(client, call)
    assert isinstance(answer, TokenRefused)
    assert f"the .ionapi file is of GLOBEX_PRD, not of {TENANT}" in answer.detail
    assert sandbox.requests() == []
    source.path.write_bytes(good)
    assert client.credentials_changed()
    assert await client.ping() == Reply(200)


async def test_the_tenant_of_a_file_is_compared_without_case(
    source: IonApiFile, connect: Callable[..., IonClient]
) -> None:
    rewrite(source, ti=TENANT.lower())
    assert not isinstance(await connect().ping(), TokenRefused)


async def test_a_file_may_be_meant_to_be_of_another_tenant(
    sandbox: Sandbox, source: IonApiFile, connect: Callable[..., IonClient]
) -> None:
    """Then it must be that one's, and no other's."""
    rewrite(source, ti="GLOBEX_PRD")
    url = f"{sandbox.url}/api/ion/messaging/service"
    assert await connect(ion_url=url, ionapi_tenant="globex_prd").ping() == Reply(200)
    rewrite(source, ti=TENANT)
    assert isinstance(await connect(ion_url=url, ionapi_tenant="globex_prd").ping(), TokenRefused)


async def test_blanks_that_were_pasted_along_are_no_part_of_the_file(
    source: IonApiFile, client: IonClient
) -> None:
    found = json.loads(source.path.read_text())
    rewrite(source, **{name: f" {found[name]}\r\n" for name in ("ti", "ci", "cs", "iu", "pu", "ot")})
    assert await ask(client, "post") == Reply(202)


@pytest.mark.parametrize("name", ["iu", "pu"])
async def test_a_host_of_the_file_that_is_not_ascii_is_refused(
    source: IonApiFile, client: IonClient, name: str
) -> None:
    rewrite(source, **{name: "https://b\u00fccher.invalid"})
    answer = await client.ping()
    assert isinstance(answer, TokenRefused)
    assert f'"{name}" in the .ionapi file has the character U+00FC' in answer.detail


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is not JSON"),
        (b'{"ti": "ACME', "is not JSON"),
        (b"\xff\xfe\xff", "is not UTF-8 text"),
        (b"{}", 'lacks "ti"'),
        (b" " * 100_000, "it is larger than 65536 bytes"),
        ("directory", "it is a directory, not a regular file"),
    ],
)
@pytest.mark.parametrize("call", CALLS)
async def test_an_unusable_file_is_refused_by_name_until_it_is_fixed(
    sandbox: Sandbox, source: IonApiFile, client: IonClient, call: Call, content: object, error: str
) -> None:
    good = source.path.read_bytes()
    source.path.unlink()
    if content == "directory":
        source.path.mkdir()
    elif isinstance(content, bytes):
        source.path.write_bytes(content)
    answer = await ask(client, call)
    assert isinstance(answer, TokenRefused)
    assert str(source.path)[-20:] in answer.detail
    assert error in answer.detail
    assert sandbox.requests() == []
    if content == "directory":
        source.path.rmdir()
    source.path.write_bytes(good)
    assert client.credentials_changed()
    assert await client.ping() == Reply(200)


async def test_a_file_that_breaks_before_a_token_is_due_is_refused_by_name(
    sandbox: Sandbox, source: IonApiFile, client: IonClient
) -> None:
    """It is read again before a token is fetched, whichever call needs it."""
    assert await client.ping() == Reply(200)
    source.path.write_text("{")
    client._tokens.clear()
    answer = await ask(client, "post")
    assert isinstance(answer, TokenRefused)
    assert "is not JSON" in answer.detail
    assert fetched(sandbox) == 1


async def test_a_change_of_permissions_counts_as_a_change(source: IonApiFile, client: IonClient) -> None:
    """`chmod` changes neither content nor time of content, and is how unreadable files are fixed."""
    await client.ping()
    source.path.chmod(0o640)
    assert client.credentials_changed()


async def test_an_unreadable_credential_file_is_read_again_at_every_ping(
    sandbox: Sandbox, source: IonApiFile, client: IonClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cause leaves no trace on the file (a mount, an ACL), the slow probe must notice the fix."""
    read = regular_file.read_regular

    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(regular_file, "read_regular", refuse)
    answer = await client.ping()
    assert isinstance(answer, TokenRefused)
    assert "cannot be read: Permission denied" in answer.detail
    monkeypatch.setattr(regular_file, "read_regular", read)
    assert await client.ping() == Reply(200)


async def test_oauth1_keys_may_be_in_files_and_change_there(sandbox: Sandbox, tmp_path: Path) -> None:
    given = oauth1_source(sandbox)
    key, secret = tmp_path / "key", tmp_path / "secret"
    key.write_text(f"{given.consumer_key}\n")
    secret.write_text("wrong")
    url = f"{sandbox.url}/api/ion/messaging/service"
    client = IonClient(connection(OAuth1Source(key, secret), ion_url=url))
    answer = await client.ping()
    assert isinstance(answer, Reply)
    assert answer.status == 401
    assert isinstance(given.consumer_secret, Secret)
    secret.write_text(given.consumer_secret.reveal() + "\r\n")
    assert client.credentials_changed()
    assert await client.ping() == Reply(200)
    await client.close()


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\x00"])
async def test_a_key_file_without_one_line_of_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    client = IonClient(connection(OAuth1Source("key", path), ion_url="http://127.0.0.1:1/s"))
    answer = await client.ping()
    assert isinstance(answer, TokenRefused)
    assert answer.detail == f"{path}: does not contain a single line of text; write only the key into it"


async def test_a_missing_key_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "key"
    client = IonClient(connection(OAuth1Source(path, Secret("s")), ion_url="http://127.0.0.1:1/s"))
    answer = await client.ping()
    assert isinstance(answer, TokenRefused)
    assert answer.detail.startswith(f"{path}: cannot be read: No such file or directory")


async def test_oauth1_keys_without_an_ion_url_are_refused_with_a_fix() -> None:
    client = IonClient(connection(OAuth1Source("key", Secret("s"))))
    assert await client.ping() == TokenRefused("OAuth 1 keys need an ION URL; set the tenant's ION_URL")


async def test_an_invalid_ion_url_is_refused_with_a_fix() -> None:
    client = IonClient(connection(OAuth1Source("key", Secret("s")), ion_url="http://[::1/s"))
    answer = await client.ping()
    assert isinstance(answer, TokenRefused)
    assert "the ION URL cannot be used" in answer.detail


# --- secrets ------------------------------------------------------------------------------------------


async def test_no_secret_is_in_any_answer_log_or_representation(
    sandbox: Sandbox, client: IonClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Every secret of the tenant and every token, with a server that echoes them all in its errors."""
    caplog.set_level(0)
    assert await client.ping() == Reply(200)
    credentials = sandbox.tenant(TENANT).credentials
    (token,) = sandbox.tokens._grants
    account = [credentials.client_secret, credentials.username, credentials.password]
    for name in ("ping", "versions", "acceptedDocuments", "post"):
        sandbox.faults(call=name, status=403, code=403, error=" ".join([*account, token]))
    sandbox.faults(call="token", status=403, error=" ".join(account))
    shown: list[str] = []
    for call in CALLS:
        answer = await ask(client, call)
        assert isinstance(answer, Reply)
        assert answer.detail == "*** *** *** ***"
        shown += [repr(answer), describe(answer)]
    shown += [repr(client), repr(vars(client)), repr(vars(client._tokens))]
    client._tokens.clear()
    refused = await client.ping()
    assert isinstance(refused, TokenRefused)
    assert "*** *** ***" in refused.detail
    shown += [repr(refused), describe(refused), caplog.text]
    assert not [text for text in shown for canary in [*account, token] if canary in text]


# --- metrics ------------------------------------------------------------------------------------------


async def test_every_request_is_counted_including_that_for_a_token(
    sandbox: Sandbox, source: IonApiFile
) -> None:
    meters = Meters()
    client = IonClient(connection(source), meter=meters.of(TENANT))
    for call in CALLS:
        await ask(client, call)
    await client.close()
    await ask(client, "ping")
    await client.close()
    counted = {
        call: meters.requests.get((TENANT, call, "2xx"))
        for call in ("token", "ping", "versions", "acceptedDocuments", "post")
    }
    assert counted == {"token": 2, "ping": 2, "versions": 1, "acceptedDocuments": 1, "post": 1}
    assert sum(counted.values()) == len(sandbox.requests())


async def test_a_call_begins_when_it_has_its_token(sandbox: Sandbox, source: IonApiFile) -> None:
    """The time of the token request does not count towards that of the call."""
    requests: list[int] = []
    client = IonClient(connection(source), begin=lambda: requests.append(len(sandbox.requests())))
    await client.ping()
    await client.versions()
    await client.close()
    assert requests == [1, 2]


async def test_a_token_service_that_refuses_is_counted_by_its_status(source: IonApiFile) -> None:
    meters = Meters()
    rewrite(source, cs="wrong")
    client = IonClient(connection(source), meter=meters.of(TENANT))
    await client.ping()
    await client.close()
    assert meters.requests.get((TENANT, "token", "4xx")) == 1
    assert meters.requests.get((TENANT, "ping", "none")) == 0


async def test_no_answer_is_counted_as_none() -> None:
    meters = Meters()
    client = IonClient(
        connection(OAuth1Source("key", Secret("s")), ion_url="http://127.0.0.1:1/s"), meter=meters.of(TENANT)
    )
    await client.ping()
    await client.close()
    assert meters.requests.get((TENANT, "ping", "none")) == 1
