"""This file is the relay's own call at its inbound port, signed as ION signs it."""

import secrets
import time
from urllib.parse import urlsplit

from yarl import URL

from relay.config.settings import Settings
from relay.core import protocol
from relay.core.model import TenantId
from relay.core.replies import NoReply, Reply
from relay.ion.credentials import OAuth1Source
from relay.ion.oauth import CredentialError, Signer
from relay.ion.transport import Transport

_SECONDS = 10.0
_LONGEST = 4096

_ANY = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  # where a listener for everybody is reached from here


async def ping(settings: Settings, tenant: TenantId, source: OAuth1Source) -> str | None:
    """What is wrong with the answer that ION would get; None: nothing is."""
    url = f"{_base(settings)}/{tenant}/service/ping"
    try:
        signer = Signer(source.read(), "GET", url)
    except CredentialError as error:
        return str(error)
    transport = Transport(_SECONDS, _SECONDS, _SECONDS)
    header = {"Authorization": signer.header(secrets.token_hex(16), int(time.time()))}
    try:
        answer = await transport.get(URL(url, encoded=True), lambda: header, _LONGEST)
    finally:
        await transport.close()
    if isinstance(answer, NoReply):
        return f"{answer.detail}; is a relay running there?"
    said = answer.body.decode("utf-8", "replace")[:200]
    return None if protocol.is_fine(Reply(answer.status, said)) else f"HTTP {answer.status}: {said}"


def _base(settings: Settings) -> str:
    """What ION calls: through the proxy where there is one, else the listener itself."""
    if settings.inbound.base_url is not None:
        return settings.inbound.base_url
    context = urlsplit(f"//{settings.inbound.listen}")
    host = context.hostname or ""
    return f"http://{_ANY.get(host, f'[{host}]' if ':' in host else host)}:{context.port}"
