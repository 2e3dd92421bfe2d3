"""Activation of a connection point whose application also receives: the simulator calls it first.

ION asks `<Application>/service/ping`, versions and protocol, with the OAuth 1.0a key that the application
issued for it, and activates the connection point only if they are answered well.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import aiohttp
from oauthlib.oauth1 import Client
from yarl import URL

_CALLS = ("ping", "versions", "protocol")
_TIMEOUT = 10.0
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Application:
    """A receiving application: its address before `/service/…`, and the key that it issued for ION."""

    url: str
    consumer_key: str
    consumer_secret: str

    @staticmethod
    def read(given: object) -> "Application":
        """From JSON. Raises ValueError with what is wrong."""
        names = ("url", "consumer_key", "consumer_secret")
        if not isinstance(given, Mapping) or not all(isinstance(given.get(name), str) for name in names):
            raise ValueError(f"send a JSON object with these texts: {', '.join(names)}")
        parts = urlsplit(given["url"])
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("url must be the application's address, like http://127.0.0.1:8482/ACME_PRD")
        return Application(given["url"].rstrip("/"), given["consumer_key"], given["consumer_secret"])


@dataclass(frozen=True, slots=True)
class Visit:
    """A call of the simulator to an application. `status` None: no answer; `answer`: its text."""

    call: str
    status: int | None
    answer: str

    @property
    def is_fine(self) -> bool:
        """Whether ION would continue the activation."""
        return self.status == 200

    def as_json(self) -> dict[str, object]:
        """For the control interface."""
        return asdict(self)


async def visit(application: Application) -> list[Visit]:
    """Call the application until an answer is not 200."""
    visits: list[Visit] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT)) as session:
        for call in _CALLS:
            visits.append(await _call(session, application, call))
            if not visits[-1].is_fine:
                break
    return visits


async def _call(session: aiohttp.ClientSession, application: Application, call: str) -> Visit:
    url = f"{application.url}/service/{call}"
    signer = Client(application.consumer_key, application.consumer_secret, signature_method="HMAC-SHA256")
    _, headers, _ = signer.sign(url, "GET")
    try:
        async with session.get(URL(url, encoded=True), headers=headers, allow_redirects=False) as response:
            body = await response.content.read(_MAX_BYTES)
            return Visit(call, response.status, _to_line(body))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return Visit(call, None, str(error) or f"no answer within {_TIMEOUT:g} s")


def _to_line(body: bytes) -> str:
    """The text of an answer, on one line."""
    try:
        content = json.loads(body)
    except ValueError:
        return " ".join(body.decode("utf-8", "replace").split())[:200]
    errors = content.get("errors") if isinstance(content, dict) else None
    return "; ".join(map(str, errors)) if isinstance(errors, list) else json.dumps(content)
