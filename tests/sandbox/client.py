"""A client of the sandbox for its tests: written from the protocol's documents, signed with oauthlib."""

import io
import json
import zlib
from collections.abc import AsyncIterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256, Client
from yarl import URL

from relay.sandbox import Sandbox

BOUNDARY = "sandbox-test-boundary"


@dataclass(frozen=True)
class Got:
    """An answer: its status, JSON where it is JSON, headers."""

    status: int
    json: Any
    headers: Any
    body: bytes

    @property
    def code(self) -> int:
        return int(self.json["code"])


def parameters(tenant_logical_id: str, **more: Any) -> dict[str, Any]:
    """Good parameters; None leaves one out."""
    good = {
        "documentName": "Sync.SalesOrder",
        "fromLogicalId": tenant_logical_id,
        "toLogicalId": "lid://default",
        "messageId": "m1",
        "encoding": "NONE",
        "characterSet": "UTF-8",
    }
    return {name: value for name, value in (good | more).items() if value is not None}


def part(name: str, media: str, content: bytes, extra: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"\r\nContent-Type: {media}\r\n{extra}\r\n'
    return head.encode() + content


def two_parts(wanted: dict[str, Any] | bytes, payload: bytes) -> list[bytes]:
    first = wanted if isinstance(wanted, bytes) else json.dumps(wanted).encode()
    return [
        part("ParameterRequest", "application/json", first),
        part("MessagePayload", "application/octet-stream", payload, "Content-Transfer-Encoding: binary\r\n"),
    ]


def framed(parts: list[bytes], boundary: str = BOUNDARY) -> bytes:
    marks = b"".join(b"--" + boundary.encode() + b"\r\n" + each + b"\r\n" for each in parts)
    return marks + b"--" + boundary.encode() + b"--\r\n"


class IonClient:
    """Speaks to a sandbox as one tenant; by OAuth 2 or OAuth 1.0a."""

    def __init__(
        self,
        sandbox: Sandbox,
        tenant_id: str,
        auth: str = "oauth2",
        connections: int = 100,
        **session: Any,
    ) -> None:
        self.sandbox, self.tenant, self.auth = sandbox, sandbox.tenant(tenant_id), auth
        self.token: str | None = None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=20),
            **session,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    # --- authentication --------------------------------------------------------------------------

    async def token_request(self, form: dict[str, str] | None = None, **request: Any) -> Got:
        file = self.sandbox.ionapi(self.tenant.tenant_id)
        if form is None:
            form = {
                "grant_type": "password",
                "username": str(file["saak"]),
                "password": str(file["sask"]),
                "client_id": str(file["ci"]),
                "client_secret": str(file["cs"]),
            }
        return await self.call("POST", f"{file['pu']}{file['ot']}", data=form, **request)

    async def authorization(self, method: str, url: str, **oauth: Any) -> str:
        if self.auth == "oauth1":
            return signed(self.tenant.credentials, method, url, **oauth)
        if self.token is None:
            self.token = (await self.token_request()).json["access_token"]
        return f"Bearer {self.token}"

    # --- calls -----------------------------------------------------------------------------------

    @property
    def base(self) -> str:
        middle = f"/{self.tenant.tenant_id}/IONSERVICES" if self.auth == "oauth2" else ""
        return f"{self.sandbox.url}{middle}/api/ion/messaging/service"

    async def call(self, method: str, url: str, **request: Any) -> Got:
        async with self._session.request(method, URL(url, encoded=True), **request) as response:
            body = await response.read()
            try:
                content = json.loads(body)
            except ValueError:
                content = None
            return Got(response.status, content, response.headers, body)

    async def get(self, path: str, headers: dict[str, str] | None = None) -> Got:
        url = self.base + path
        given = {"Authorization": await self.authorization("GET", url)} | (headers or {})
        return await self.call("GET", url, headers=given)

    async def ping(self) -> Got:
        return await self.get("/ping")

    async def versions(self) -> Got:
        return await self.get("/versions")

    async def accepted(self, logical_id: str | None = None) -> Got:
        return await self.get(f"/v3/{quote(logical_id or self.tenant.logical_id, safe='')}/acceptedDocuments")

    async def initialise(self) -> None:
        for answer in (await self.ping(), await self.versions(), await self.accepted()):
            assert answer.status == 200, answer

    async def post(
        self,
        message_id: str | None = "m1",
        payload: bytes = b"<SyncSalesOrder/>",
        *,
        body: bytes | AsyncIterable[bytes] | None = None,
        headers: dict[str, str | None] | None = None,
        **more: Any,
    ) -> Got:
        wanted = parameters(self.tenant.logical_id, messageId=message_id, **more)
        if wanted.get("encoding") == "DEFLATE" and body is None:
            payload = zlib.compress(payload)
        url = f"{self.base}/v3/multipartMessage"
        given: dict[str, str | None] = {
            "Authorization": await self.authorization("POST", url),
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "X-TenantId": self.tenant.tenant_id,
        }
        given.update(headers or {})
        return await self.call(
            "POST",
            url,
            headers={name: value for name, value in given.items() if value is not None},
            skip_auto_headers=[name for name, value in given.items() if value is None],
            data=io.BytesIO(framed(two_parts(wanted, payload))) if body is None else body,
        )


def signed(credentials: Any, method: str, url: str, **oauth: Any) -> str:
    """An Authorization header made by oauthlib's client."""
    given = {"signature_method": SIGNATURE_HMAC_SHA256} | oauth
    client = Client(credentials.consumer_key, client_secret=credentials.consumer_secret, **given)
    _, headers, _ = client.sign(url, http_method=method)  # type: ignore[arg-type]  # any verb is one
    return str(headers["Authorization"])
