"""This file is a tenant's ION: four calls with their credentials, and what came back as an answer.

What an answer means is decided in `protocol.py`; how bytes look in `wire.py`; how they travel in
`exchange.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import backoff
from yarl import URL

from relay import __version__
from relay.core import protocol
from relay.core.model import TRACEPARENT, LogicalId, Message, TenantId
from relay.core.ports import EncodedPost
from relay.core.replies import Accepted, Answer, NoReply, Reply, TokenRefused, TokenUnavailable, Versions
from relay.ion import oauth, wire
from relay.ion.auth import Access, Target, open_access
from relay.ion.credentials import CredentialSource, Stamp, stamp
from relay.ion.oauth import IonApi, Token
from relay.ion.tokens import Fetched, TokenCache
from relay.ion.transport import Exchange, Received
from relay.observability.metrics import Call, Meter

_SMALL, _LARGE = 64 * 1024, 4 * 1024 * 1024
"""Bytes of a reply that are read at most; the larger one for the list of accepted documents."""

_OFF_THE_LOOP = 64 * 1024
"""Bytes of payload from which a body is compressed and built in a thread."""

_TOKEN_SECONDS = 20.0
_AGENT = f"ion-relay/{__version__}"


@dataclass(frozen=True, slots=True)
class Connection:
    """How a tenant's ION is reached. Durations in seconds, sizes in bytes.

    `ion_url`: the service's URL; None: the one behind the `.ionapi` file's gateway. `rate_limit`: requests
    a second, None for no limit. `token_basic`: client credentials as HTTP Basic instead of in the form.
    """

    tenant_id: TenantId
    logical_id: LogicalId
    credentials: CredentialSource
    ion_url: str | None = None
    connect_seconds: float = 5.0
    read_seconds: float = 60.0
    total_seconds: float = 60.0
    rate_limit: float | None = None
    deflate_from: int = wire.DEFLATE_FROM
    token_basic: bool = False
    token_scope: str | None = None


Failure = NoReply | TokenRefused | TokenUnavailable
Aim = Callable[[Access], Target]


class IonClient:
    """The port `Ion`. Nothing is opened before the first call; it may be used again after `close`."""

    def __init__(
        self,
        connection: Connection,
        may_send: Callable[[], bool] | None = None,
        meter: Meter | None = None,
        begin: Callable[[], None] | None = None,
    ) -> None:
        """`may_send`: asked at the last moment before a post (where relays share an outbox).

        `begin`: told when a call has its token and begins: from now on it takes `total_seconds` at most.
        """
        self._connection, self._meter, self._begin = connection, meter, begin
        self._exchange = Exchange(
            connection.connect_seconds,
            connection.read_seconds,
            connection.total_seconds,
            connection.rate_limit,
            may_send,
        )
        self._headers = wire.headers(connection.tenant_id, _AGENT)
        self._tokens = TokenCache(self._fetch_token, time.monotonic)
        self._access: Access | TokenRefused | None = None
        self._stamp: Stamp | None = None

    # --- the port -----------------------------------------------------------------------------------

    async def ping(self) -> Answer:
        """GET ping, judged by the status alone. Credentials that changed on disk are read first."""
        self._look()
        received = await self._get("ping", lambda access: access.ping, _SMALL)
        return self._reply(received) if isinstance(received, Received) else received

    async def versions(self) -> Versions | Answer:
        """GET versions."""
        received = await self._get("versions", lambda access: access.versions, _SMALL)
        return self._read(received, "versions", wire.read_versions)

    async def accepted_documents(self) -> Accepted | Answer:
        """GET acceptedDocuments of this tenant's logical id."""
        received = await self._get("acceptedDocuments", lambda access: access.accepted, _LARGE)
        return self._read(received, "acceptedDocuments", wire.read_accepted)

    async def pack(self, message: Message) -> wire.Body:
        """The post's body; a large one is built in a thread. Raises ValueError for unreadable parameters."""
        sender, deflate_from = self._connection.logical_id, self._connection.deflate_from
        if len(message.payload) < _OFF_THE_LOOP:
            return wire.body(message, sender, deflate_from)
        return await asyncio.to_thread(wire.body, message, sender, deflate_from)

    async def post(self, parcel: EncodedPost, traceparent: str | None = None) -> Answer:
        """POST it, once, whatever happens.

        A 2xx is a reply unless its body is cut; what the body says, or that it is longer than what is
        read of it, changes nothing: ION took custody.
        """
        assert isinstance(parcel, wire.Body), "a parcel comes from this endpoint's own pack"
        received, _ = await self._send("post", lambda access: access.post, _SMALL, parcel, traceparent)
        return self._reply(received) if isinstance(received, Received) else received

    def credentials_changed(self) -> bool:
        """Whether the credential files on disk differ from what was last read."""
        return self._stamp is not None and stamp(self._connection.credentials.paths) != self._stamp

    async def close(self) -> None:
        """Cut the token request under way, if any, and close the session."""
        await self._tokens.close()
        await self._exchange.close()

    # --- requests -----------------------------------------------------------------------------------

    async def _get(self, call: Call, aim: Aim, limit: int) -> Received | Failure:
        """GET; once more with a fresh token where the one that was refused had been held for a while."""
        cached = self._tokens.cached
        received, token = await self._send(call, aim, limit)
        if token is None or token is not cached or not _asks_for_fresh_token(received):
            return received
        self._tokens.refuse(token)
        received, _ = await self._send(call, aim, limit)
        return received

    async def _send(
        self,
        call: Call,
        aim: Aim,
        limit: int,
        body: wire.Body | None = None,
        traceparent: str | None = None,
    ) -> tuple[Received | Failure, Token | None]:
        """A GET, or a POST of this body, with its credentials; also the token it was sent with, if any."""
        access = self._look() if self._access is None else self._access
        token: Token | None = None
        if isinstance(access, Access) and isinstance(access.credentials, IonApi):
            fetched = self._tokens.good or await self._token()
            if not isinstance(fetched, Token):
                return fetched, None
            token, access = fetched, self._access or access
        if isinstance(access, TokenRefused):
            return access, None
        if self._begin is not None:
            self._begin()
        target = aim(access)
        if body is None:
            got = self._exchange.get(target.url, lambda: self._signed(target, token), limit)
            return await self._metered(call, got), token
        headers = self._signed(target, token)
        headers["Content-Type"] = body.content_type
        if traceparent is not None:
            headers[TRACEPARENT] = traceparent
        posted = self._exchange.post(target.url, headers, limit, body.data)
        return await self._metered(call, posted), token

    async def _metered(self, call: Call, request: Awaitable[Received | NoReply]) -> Received | NoReply:
        began = time.monotonic()
        received = await request
        if self._meter is not None:
            status = received.status if isinstance(received, Received) else None
            self._meter.called(call, status, time.monotonic() - began)
        return received

    def _signed(self, target: Target, token: Token | None) -> dict[str, str]:
        return {**self._headers, "Authorization": target.authorisation(token)}

    # --- credentials and tokens ---------------------------------------------------------------------

    def _look(self) -> Access | TokenRefused:
        """What the credentials give; read where they were never read, were unusable, or changed on disk."""
        connection = self._connection
        now = stamp(connection.credentials.paths)
        if isinstance(self._access, Access) and now == self._stamp:
            return self._access
        before = self._access
        self._stamp = now
        self._access = open_access(connection.credentials, connection.ion_url, connection.logical_id)
        if not _same_credentials(before, self._access):
            self._tokens.forget()
        return self._access

    async def _token(self) -> Fetched:
        if self._tokens.must_fetch:
            self._look()  # before it is fetched, so that what is fetched is for these credentials
        return await self._tokens.get()

    async def _fetch_token(self) -> Fetched:
        access = self._access
        if not isinstance(access, Access):
            return access or TokenUnavailable("the credentials were not read yet")
        assert isinstance(access.credentials, IonApi), "only these have tokens"
        connection = self._connection
        request = oauth.token_request(
            access.credentials, basic=connection.token_basic, scope=connection.token_scope
        )
        received = await self._ask_token_service(request)
        if isinstance(received, NoReply):
            return TokenUnavailable(received.detail)
        if not protocol.is_fine(Reply(received.status)):
            said = wire.one_line(self._shown(oauth.read_refusal(received.body)))
            detail = f"HTTP {received.status}" + (f": {said}" if said else "")
            return protocol.token_answer(received.status, detail, _retry_after(received))
        token = oauth.read_token(received.body)
        return TokenUnavailable(token) if isinstance(token, str) else token

    @backoff.on_predicate(
        backoff.expo,
        lambda received: isinstance(received, NoReply) or _is_broken(received),
        max_tries=3,
        max_time=5,
        factor=0.3,
        logger=None,
    )
    async def _ask_token_service(self, request: oauth.TokenRequest) -> Received | NoReply:
        """Short trouble of the token service is bridged here; what lasts is left to the protocol."""
        url = URL(request.url, encoded=True)
        headers = {**request.headers, "User-Agent": _AGENT, "Accept-Encoding": "identity"}
        total = min(_TOKEN_SECONDS, self._connection.total_seconds)
        asked = self._exchange.post(url, headers, _SMALL, request.form, total)
        return await self._metered("token", asked)

    # --- replies ------------------------------------------------------------------------------------

    def _read(
        self,
        received: Received | Failure,
        call: str,
        read: Callable[[bytes], Versions | Accepted | NoReply],
    ) -> Answer:
        if not isinstance(received, Received):
            return received
        if not protocol.is_fine(Reply(received.status)):
            return self._reply(received)
        if not received.whole:
            return NoReply(f"{call}: the answer is longer than {len(received.body)} bytes")
        return read(received.body)

    def _reply(self, received: Received) -> Reply:
        """The status with what was said about it; a success needs no words."""
        success = Reply(received.status)
        if protocol.is_fine(success):
            return success
        code, said = wire.read_reply(self._hidden(received.body))
        if not said and received.location is not None:
            said = wire.redirect_target(received.location)
        return Reply(received.status, self._shown(said), code, _retry_after(received))

    def _hidden(self, body: bytes) -> bytes:
        """Before it is shortened: half a secret is one too."""
        for canary in self._canaries():
            body = body.replace(canary.encode(), b"***")
        return body

    def _shown(self, text: str) -> str:
        """Somebody else's words, without the secrets that were sent there and may come back."""
        for canary in self._canaries():
            text = text.replace(canary, "***")
        return text

    def _canaries(self) -> tuple[str, ...]:
        token = self._tokens.cached
        held = (token.text.reveal(),) if token is not None else ()
        return held + (self._access.canaries if isinstance(self._access, Access) else ())


def _same_credentials(before: Access | TokenRefused | None, after: Access | TokenRefused) -> bool:
    return (
        isinstance(before, Access) and isinstance(after, Access) and before.credentials == after.credentials
    )


def _asks_for_fresh_token(received: Received | Failure) -> bool:
    return isinstance(received, Received) and protocol.asks_for_fresh_token(Reply(received.status))


def _is_broken(received: Received) -> bool:
    return protocol.row_of(Reply(received.status)) is protocol.BROKEN


def _retry_after(received: Received) -> float | None:
    return wire.read_retry_after(received.retry_after, datetime.now(UTC))
