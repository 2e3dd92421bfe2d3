"""Client of a tenant's ION: the four IMS calls with their credentials, and each response as an answer.

What an answer means is decided in `answers.py`; `wire.py` has the requests' bytes, `response_bodies.py` reads
those of the responses, `transport.py` is the HTTP client.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Literal

from typing_extensions import override

from relay import __version__
from relay.core import answers, replies
from relay.core.answers import FaultOwner
from relay.core.model import TRACEPARENT, DocumentName, LogicalId, Message, TenantId
from relay.core.ports import EncodedPost, Ion
from relay.core.replies import Accepted, Answer, NoReply, Reply, TokenRefused, TokenUnavailable, Versions
from relay.ion import oauth, response_bodies, server_times, wire
from relay.ion.auth import Endpoint, ServiceAddress, open_address
from relay.ion.connections import Connections
from relay.ion.credentials import CredentialSource, Fingerprint, fingerprint
from relay.ion.masking import SecretMask
from relay.ion.network import Network, Way
from relay.ion.oauth import IonApi, OAuth1Keys, Token
from relay.ion.token_service import TokenService
from relay.ion.tokens import NoToken, TokenCache, TokenResult
from relay.ion.transport import HttpResponse, TimeLimits, Transport
from relay.observability.metrics import Meter

_MAX_BODY, _MAX_DOCUMENTS_BODY = 64 * 1024, 4 * 1024 * 1024
"""Bytes of a response that are read; the larger limit is for the list of accepted documents."""

_ENCODE_IN_THREAD_FROM = 64 * 1024
"""Bytes of payload from which a body is compressed and built in a thread."""

_USER_AGENT = f"ion-relay/{__version__}"


@dataclass(frozen=True, slots=True)
class IonConnection:
    """How to reach a tenant's ION. Durations in seconds, sizes in bytes, `least_rate` in bytes a second.

    `ion_url`: the service's URL; None: the one behind the `.ionapi` file's gateway. `rate_limit`: requests
    a second. `token_basic`: client credentials as HTTP Basic instead of in the form. `tokens_a_day`: the
    licence's quota; None: unknown. `ionapi_tenant`: whose `.ionapi` file it is; None: this tenant's.
    `skipped`: calls that are not made, as if they succeeded; acceptedDocuments as if it named `documents`.
    """

    tenant_id: TenantId
    logical_id: LogicalId
    credentials: CredentialSource
    ion_url: str | None
    connect_seconds: float
    read_seconds: float
    total_seconds: float
    least_rate: int
    rate_limit: float | None
    deflate_from: int
    token_basic: bool
    token_scope: str | None
    network: Network
    tokens_a_day: int | None
    ionapi_tenant: str | None
    skipped: frozenset[str]
    documents: frozenset[DocumentName]


_USUAL_BYTES = 256


@lru_cache(maxsize=64)
def _is_usual(status: int, body: bytes, content_type: str) -> bool:
    """Whether it is a success; the short answers to posts are a few different ones."""
    said = response_bodies.read_answer(body, content_type)
    return answers.is_fine(Reply(status, code=said.code, form=said.form, failed=said.failed))


Failure = NoReply | TokenRefused | TokenUnavailable


class IonClient(Ion):
    """Opens nothing before the first call; it may be used again after `close`."""

    def __init__(
        self,
        connection: IonConnection,
        may_send: Callable[[], bool] | None = None,
        meter: Meter | None = None,
        begin: Callable[[], None] | None = None,
        connections: Connections | None = None,
    ) -> None:
        """`may_send`: called at the last moment before a post (where replicas share an outbox).

        `begin`: called when a request has its token and starts; from then on `total_seconds` bounds it.
        """
        self._connection, self._meter, self._begin = connection, meter, begin
        self._transport = Transport(
            TimeLimits(
                connection.connect_seconds,
                connection.read_seconds,
                connection.total_seconds,
                connection.least_rate,
            ),
            connection.rate_limit,
            may_send,
            connections,
            connection.network,
        )
        self._headers = wire.request_headers(connection.tenant_id, _USER_AGENT)
        self._tokens = TokenCache(self._fetch_token, time.monotonic, connection.tokens_a_day)
        self._token_service = TokenService(
            self._transport,
            _USER_AGENT,
            connection.total_seconds,
            partial(self._metered, "token"),
            connection.token_scope,
            basic=connection.token_basic,
        )
        self._address: ServiceAddress | TokenRefused | TokenUnavailable | None = None
        self._fingerprint: Fingerprint | None = None
        self._refused: IonApi | None = None
        self._masked: tuple[int, SecretMask] | None = None

    # --- the port -----------------------------------------------------------------------------------

    @override
    async def ping(self) -> Answer:
        """Only the status counts. Credentials that changed on disk are read first."""
        address = self._load_credentials()
        if "ping" in self._connection.skipped:
            return Reply(200) if isinstance(address, ServiceAddress) else address
        response = await self._get("ping", _MAX_BODY)
        self._report_certificate()
        return self._reply(response) if isinstance(response, HttpResponse) else response

    @override
    async def versions(self) -> Versions | Answer:
        if "versions" in self._connection.skipped:
            return Versions(("v3",))
        return self._read(await self._get("versions", _MAX_BODY), "versions", response_bodies.read_versions)

    @override
    async def accepted_documents(self) -> Accepted | Answer:
        if "acceptedDocuments" in self._connection.skipped:
            return Accepted(self._connection.documents)
        response = await self._get("acceptedDocuments", _MAX_DOCUMENTS_BODY)
        return self._read(response, "acceptedDocuments", response_bodies.read_accepted)

    @override
    async def encode(self, message: Message) -> EncodedPost:
        """Raises ValueError for unreadable parameters. A large body is built in a thread."""
        arguments = message, self._connection.logical_id, self._connection.deflate_from
        if len(message.payload) < _ENCODE_IN_THREAD_FROM:
            return wire.encode_post(*arguments)
        return await asyncio.to_thread(wire.encode_post, *arguments)

    @override
    async def post(self, encoded: EncodedPost, traceparent: str | None = None) -> Answer:
        """Never repeated. A 2xx whose answer cannot be read to its end is no reply."""
        response, token = await self._send("post", _MAX_BODY, encoded, traceparent)
        if not isinstance(response, HttpResponse):
            return response
        reply = self._reply(response)
        self._tokens.note(token, "post", reply)
        return reply

    @override
    def credentials_changed(self) -> bool:
        """A file that was written again without a change is no news where the token service refused it."""
        now = fingerprint(self._connection.credentials.paths)
        if self._fingerprint is None or now == self._fingerprint:
            return False
        if self._refused is not None and _credentials_of(self._open_address()) == self._refused:
            self._fingerprint = now
            return False
        return True

    @override
    def drop_refused_token(self) -> None:
        self._tokens.drop_refused()

    def ways(self) -> list[Way]:
        """How ION, and the token service, were reached the last time."""
        return self._transport.ways()

    @override
    async def close(self) -> None:
        """Cancel a running token request, and close the session."""
        await self._tokens.close()
        await self._transport.close()

    # --- requests -----------------------------------------------------------------------------------

    async def _get(self, call: replies.IonCall, limit: int) -> HttpResponse | Failure:
        """Repeated once with a fresh token, if the token that was refused came from the cache."""
        cached = self._tokens.cached
        response, token = await self._send(call, limit)
        if not isinstance(response, HttpResponse):
            return response
        if not self._tokens.note(token, call, self._reply(response), may_drop=token is cached):
            return response
        response, token = await self._send(call, limit)
        if isinstance(response, HttpResponse):
            self._tokens.note(token, call, self._reply(response), may_drop=False)
        return response

    async def _send(
        self,
        call: replies.IonCall,
        limit: int,
        encoded: EncodedPost | None = None,
        traceparent: str | None = None,
    ) -> tuple[HttpResponse | Failure, Token | None]:
        """A GET, or a POST of this body; also the token that it was sent with, if any."""
        address = self._load_credentials() if self._address is None else self._address
        token: Token | None = None
        if isinstance(address, ServiceAddress) and isinstance(address.credentials, IonApi):
            result = self._tokens.fresh or await self._get_token()
            if not isinstance(result, Token):
                return result, None
            token, address = result, self._address or address
        if not isinstance(address, ServiceAddress):
            return address, None
        if self._begin is not None:
            self._begin()
        endpoint = address.endpoints[call]
        if encoded is None:
            got = self._transport.get(endpoint.url, lambda: self._authorized(endpoint, token), limit)
            return await self._metered(call, got), token
        headers = self._authorized(endpoint, token)
        headers["Content-Type"] = encoded.content_type
        if traceparent is not None:
            headers[TRACEPARENT] = traceparent
        posted = self._transport.post(endpoint.url, headers, limit, encoded.data)
        return await self._metered(call, posted), token

    async def _metered(
        self, call: replies.IonCall | Literal["token"], request: Awaitable[HttpResponse | NoReply]
    ) -> HttpResponse | NoReply:
        began = time.monotonic()
        response = await request
        if self._meter is not None:
            status = response.status if isinstance(response, HttpResponse) else None
            self._meter.called(call, status, time.monotonic() - began)
        return response

    def _authorized(self, endpoint: Endpoint, token: Token | None) -> dict[str, str]:
        return {**self._headers, "Authorization": endpoint.authorization(token)}

    # --- credentials and tokens ---------------------------------------------------------------------

    def _load_credentials(self) -> ServiceAddress | TokenRefused | TokenUnavailable:
        """Read the credentials if they were not read yet, were unusable, or changed on disk."""
        now = fingerprint(self._connection.credentials.paths)
        if isinstance(self._address, ServiceAddress) and now == self._fingerprint:
            return self._address
        is_rewritten = self._fingerprint is not None and now != self._fingerprint
        before, self._fingerprint = self._address, now
        self._address = self._open_address()
        if _credentials_of(before) is None or _credentials_of(before) != _credentials_of(self._address):
            self._tokens.clear()
        elif is_rewritten:
            self._tokens.drop_refused()
        return self._address

    def _open_address(self) -> ServiceAddress | TokenRefused | TokenUnavailable:
        connection = self._connection
        tenant = connection.ionapi_tenant or connection.tenant_id
        return open_address(connection.credentials, connection.ion_url, connection.logical_id, tenant)

    async def _get_token(self) -> TokenResult:
        if self._tokens.must_fetch:
            self._load_credentials()  # first, so that the token is fetched with these credentials
        return await self._tokens.get()

    async def _fetch_token(self) -> TokenResult | NoToken:
        address = self._address
        if not isinstance(address, ServiceAddress):
            return address or TokenUnavailable("the credentials were not read yet")
        assert isinstance(address.credentials, IonApi), "only these have tokens"
        result = await self._token_service.token(address.credentials, self._mask().apply)
        self._refused = address.credentials if isinstance(result, TokenRefused) else None
        return result

    # --- answers ------------------------------------------------------------------------------------

    def _read(
        self,
        response: HttpResponse | Failure,
        call: replies.IonCall,
        read: Callable[[bytes], Versions | Accepted | NoReply],
    ) -> Answer:
        if not isinstance(response, HttpResponse):
            return response
        reply = self._reply(response)
        if not answers.is_fine(reply):
            return reply
        if not response.is_complete:
            return NoReply(f"{call}: the answer is longer than {len(response.body)} bytes")
        return read(response.body)

    def _reply(self, response: HttpResponse) -> Reply:
        """The status with what the body says: also a 2xx may be a failure, or a page that is not ION's."""
        body, content_type = response.body, response.content_type or ""
        if len(body) <= _USUAL_BYTES and _is_usual(response.status, body, content_type):
            return Reply(response.status)
        said = response_bodies.read_answer(body, content_type, self._mask().apply)
        bare = Reply(response.status, code=said.code)
        formed = replace(bare, form=said.form)
        whole = replace(formed, failed=said.failed)
        row = answers.row_of(whole)
        if row is answers.OK:
            return Reply(response.status)
        detail = said.detail
        if not detail and response.location is not None:
            detail = response_bodies.describe_redirect(response.location)
        reply = next(one for one in (bare, formed, whole) if answers.row_of(one) is row)
        now, off = datetime.now(UTC), 0.0
        if row.fault is FaultOwner.CREDENTIALS:
            off = server_times.clock_off(response.date, now)
        wait = server_times.read_retry_after(response.retry_after, now, response.date)
        is_signed = isinstance(_credentials_of(self._address), OAuth1Keys)
        detail = f"{detail}{server_times.describe_clock(off)}".removeprefix("; ")
        return replace(reply, detail=detail, retry_after=wait, clock_off=off if is_signed else 0.0)

    def _report_certificate(self) -> None:
        ends = [way.expires for way in self.ways() if way.expires is not None]
        if self._meter is not None and ends:
            self._meter.certificate_ends(min(ends))

    def _mask(self) -> SecretMask:
        """Takes the secrets out of a server's text that were sent to it and that it may echo."""
        tokens = (token.value.reveal() for token in self._tokens.recent)
        sent = self._address.secrets if isinstance(self._address, ServiceAddress) else ()
        secrets = (*tokens, *sent)
        if self._masked is None or self._masked[0] != hash(secrets):
            self._masked = hash(secrets), SecretMask(secrets)
        return self._masked[1]


def _credentials_of(
    address: ServiceAddress | TokenRefused | TokenUnavailable | None,
) -> oauth.Credentials | None:
    return address.credentials if isinstance(address, ServiceAddress) else None
