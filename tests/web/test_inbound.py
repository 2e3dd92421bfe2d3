"""ION calls the relay: what it is answered, and who else is turned away."""

import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from oauthlib.oauth1 import Client

from relay.core.model import TenantId
from relay.ion.inbound_auth import InboundVerifier, Key
from relay.ion.oauth import Secret
from relay.web.inbound import InboundContext, application

KEYS = {
    "acme-key": Key(TenantId("ACME_PRD"), Secret("acme-secret")),
    "globex-key": Key(TenantId("GLOBEX_TST"), Secret("globex-secret")),
}


class Said:
    """Records the kinds of reported incidents."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def report(self, kind: str, *, detail: str, fault: str, hint: str) -> None:
        assert detail
        assert fault
        assert hint
        self.kinds.append(kind)

    def resolved(self) -> None:
        self.kinds.append("resolved")


class Ion:
    """A caller, as ION or not."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base, self.session = base, session
        self.hindrance: str | None = None
        self.said = Said()

    async def call(
        self,
        path: str,
        *,
        key: str = "acme-key",
        secret: str = "acme-secret",
        method: str = "GET",
        signs: str | None = None,
    ) -> tuple[int, object, aiohttp.ClientResponse]:
        client = Client(key, secret, signature_method="HMAC-SHA256")
        _, headers, _ = client.sign(signs or self.base + path, method)  # type: ignore[arg-type]
        async with self.session.request(method, self.base + path, headers=headers) as answer:
            body = None if method == "HEAD" else await answer.json()
            return answer.status, body, answer


async def serve(base_url: str | None = None) -> AsyncIterator[Ion]:
    async with aiohttp.ClientSession() as session:
        ion = Ion("", session)

        async def hindrance() -> str | None:
            return ion.hindrance

        context = InboundContext(
            InboundVerifier(lambda: KEYS, 300),
            base_url,
            hindrance,
            ion.said,  # type: ignore[arg-type]
            time.time,
        )
        runner = web.AppRunner(application(context))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ion.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield ion
        await runner.cleanup()


@pytest.fixture
async def ion() -> AsyncIterator[Ion]:
    async for one in serve():
        yield one


@pytest.fixture
async def behind_a_proxy() -> AsyncIterator[Ion]:
    async for one in serve("https://relay.example.com/ion"):
        yield one


async def test_ion_pings_and_is_answered(ion):
    status, body, _ = await ion.call("/ACME_PRD/service/ping")
    assert (status, body) == (200, {"status": "OK", "code": 200})
    assert ion.said.kinds == []


async def test_it_is_told_the_version_and_the_protocol_of_infors_sample(ion):
    assert (await ion.call("/ACME_PRD/service/versions"))[1] == {"supportedVersions": ["v3"]}
    assert (await ion.call("/ACME_PRD/service/protocol"))[1] == {
        "version": "v3",
        "messageMethod": "multipartMessage",
        "supportedEncoding": "DEFLATE",
        "supportedCharacterSet": "UTF-8",
        "hasDiscovery": False,
    }


async def test_a_tenant_in_lower_case_is_the_same_tenant(ion):
    assert (await ion.call("/acme_prd/service/ping"))[0] == 200


async def test_a_head_request_is_answered_too(ion):
    assert (await ion.call("/ACME_PRD/service/ping", method="HEAD"))[0] == 200


async def test_a_relay_that_would_accept_no_work_says_so(ion):
    ion.hindrance = "the relay is stopping"
    status, body, answer = await ion.call("/ACME_PRD/service/ping")
    assert status == 503
    assert "stopping" in str(body)
    assert answer.headers["Retry-After"]


async def test_a_wrong_key_or_secret_is_refused_with_the_scheme_that_is_asked_for(ion):
    for wrong in ({"key": "unknown"}, {"secret": "guessed"}):
        status, _, answer = await ion.call("/ACME_PRD/service/ping", **wrong)
        assert status == 401
        assert answer.headers["WWW-Authenticate"].startswith("OAuth")
    assert ion.said.kinds == ["inbound", "inbound"]


async def test_nobody_learns_whether_a_tenant_exists(ion):
    """Without a right signature every tenant looks the same."""
    _, known, _ = await ion.call("/ACME_PRD/service/ping", secret="guessed")
    status, unknown, _ = await ion.call("/NOSUCH/service/ping", secret="guessed")
    assert status == 401
    assert known == unknown


@pytest.mark.parametrize("path", ["/ACME_PRD/service/ping", "/NOSUCH/service/ping"])
async def test_the_key_of_another_tenant_is_forbidden(ion, path):
    assert (await ion.call(path, key="globex-key", secret="globex-secret"))[0] == 403


async def test_a_document_is_not_taken(ion):
    for path in ("/ACME_PRD/service/v3/multipartMessage", "/ACME_PRD/service"):
        status, body, _ = await ion.call(path, method="POST")
        assert status == 501
        assert "receives none" in str(body)


async def test_anything_else_is_not_found(ion):
    for path in ("/", "/livez", "/metrics", "/ACME-PRD/service/ping", f"/{'A' * 23}/service/ping"):
        assert (await ion.call(path))[0] == 404


async def test_a_ping_is_a_get(ion):
    status, _, answer = await ion.call("/ACME_PRD/service/ping", method="POST")
    assert status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


async def test_behind_a_proxy_ion_signs_the_address_that_it_was_told(behind_a_proxy):
    path = "/ACME_PRD/service/ping"
    told = "https://relay.example.com/ion" + path
    assert (await behind_a_proxy.call(path, signs=told))[0] == 200
    assert (await behind_a_proxy.call(path))[0] == 401


async def test_a_caller_that_is_refused_again_and_again_is_told_no_more_but_ion_is_let_in(ion):
    seen = [(await ion.call("/ACME_PRD/service/ping", secret="guessed"))[0] for _ in range(25)]
    assert seen == [401] * 20 + [429] * 5
    assert (await ion.call("/ACME_PRD/service/ping"))[0] == 200
