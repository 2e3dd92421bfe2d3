"""The part of `relay check` that calls the relay's own inbound port, signed as ION signs."""

import secrets
import time
from urllib.parse import urlsplit

from yarl import URL

from relay.config.settings import Settings
from relay.core import answers
from relay.core.model import TenantId
from relay.core.replies import NoReply, Reply
from relay.ion.credentials import OAuth1Source
from relay.ion.oauth import CredentialError, Signer
from relay.ion.transport import TimeLimits, Transport

_SECONDS = 10.0
_LONGEST_BODY = 4096
_SHOWN_CHARACTERS = 200

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  # how such a listener is reached from here  # nosec B104  # compared with, never bound


async def ping(settings: Settings, tenant: TenantId, source: OAuth1Source) -> str | None:
    """What is wrong with the answer that ION would get; None: nothing is."""
    url = f"{_base(settings)}/{tenant}/service/ping"
    try:
        signer = Signer(source.read(), "GET", url)
    except CredentialError as error:
        return str(error)
    exchange = Transport(TimeLimits(_SECONDS, _SECONDS, _SECONDS, 1))
    header = {"Authorization": signer.header(secrets.token_hex(16), int(time.time()))}
    try:
        answer = await exchange.get(URL(url, encoded=True), lambda: header, _LONGEST_BODY)
    finally:
        await exchange.close()
    if isinstance(answer, NoReply):
        return f"{answer.detail}; is a relay running there?"
    body = answer.body.decode("utf-8", "replace")[:_SHOWN_CHARACTERS]
    return None if answers.is_fine(Reply(answer.status, body)) else f"HTTP {answer.status}: {body}"


def _base(settings: Settings) -> str:
    """What ION calls: the proxy where there is one, else the listener itself."""
    if settings.inbound.base_url is not None:
        return settings.inbound.base_url
    address = urlsplit(f"//{settings.inbound.listen}")
    host = address.hostname or ""
    return f"http://{_WILDCARDS.get(host, f'[{host}]' if ':' in host else host)}:{address.port}"
