"""The two implementations of the port `Ion`: the scripted one, and the real client with the ION simulator.

A case stages what ION does to the next calls, in terms that both understand.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from relay.config.sections import HttpSettings
from relay.core.model import DocumentName, LogicalId, Message, MessageId, RowId, TenantId
from relay.core.ports import Ion
from relay.core.replies import Answer, NoReply, Reply
from relay.ion.client import IonClient, IonConnection
from relay.ion.credentials import CredentialSource, IonApiFile, OAuth1Source
from relay.ion.network import Network
from relay.ion.oauth import Secret
from relay.sandbox import Sandbox, SandboxTenant
from tests.support.scripted import Call, ScriptedIon

TENANT = TenantId("ACME_PRD")
LOGICAL_ID = LogicalId("lid://acme.orders.1")
DOCUMENTS = ("Sync.SalesOrder", "Sync.Shipment")

_SANDBOX_CALLS: dict[Call, str] = {
    "ping": "ping",
    "versions": "versions",
    "accepted_documents": "acceptedDocuments",
    "post": "post",
}


def message(number: int, payload: bytes = b"<SyncShipment/>", parameters: str = "{}") -> Message:
    """The n-th message."""
    return Message(
        RowId(number),
        TENANT,
        DocumentName("Sync.Shipment"),
        MessageId(f"m{number}"),
        payload,
        len(payload),
        parameters=parameters,
    )


async def ask(client: Ion, call: Call) -> Answer:
    """Make this call; a post is that of message 1."""
    match call:
        case "ping":
            return await client.ping()
        case "versions":
            return await client.versions()
        case "accepted_documents":
            return await client.accepted_documents()
        case "post":
            return await client.post(await client.encode(message(1)))


class IonCase(Protocol):
    """A client and its ION."""

    @property
    def client(self) -> Ion:
        """The port, as a worker uses it."""
        ...

    def stage_status(self, call: Call, status: int, code: int, text: str, retry_after: int | None) -> None:
        """The next call of this kind gets this error."""
        ...

    def stage_cut(self, call: Call) -> None:
        """The connections of all calls of this kind break before the response."""
        ...

    def stage_truncated(self, call: Call) -> None:
        """The next response of this kind is a success with a truncated body."""
        ...

    def stage_nonsense(self, call: Call, kind: str) -> None:
        """The next response of this kind is a success with an unreadable body."""
        ...

    def stage_slow(self, call: Call, seconds: float) -> None:
        """Calls of this kind are answered after this time."""
        ...

    def taken(self) -> Sequence[str]:
        """The ids of the messages that ION accepted with a 2xx."""
        ...


class ScriptedCase:
    """The scripted client; what is staged follows the port's documentation."""

    def __init__(self) -> None:
        self.client = ScriptedIon(DOCUMENTS)

    def stage_status(self, call: Call, status: int, code: int, text: str, retry_after: int | None) -> None:
        self.client.queue(
            call, Reply(status, text, code, None if retry_after is None else float(retry_after))
        )

    def stage_cut(self, call: Call) -> None:
        self.client.queue(call, *[NoReply("closed the connection without an answer")] * 2)

    def stage_truncated(self, call: Call) -> None:
        self.client.queue(call, NoReply("the answer was cut"))

    def stage_nonsense(self, call: Call, kind: str) -> None:
        if kind == "request-rejected":
            self.client.queue(call, Reply(202, "an HTML page: Request Rejected", form="html"))
            return
        body_matters = call in ("versions", "accepted_documents")
        self.client.queue(call, NoReply(f"{kind}: nonsense") if body_matters else Reply(200))

    def stage_slow(self, call: Call, seconds: float) -> None:
        self.client.delay = lambda current, *_: seconds if current == call else 0.0

    def taken(self) -> Sequence[str]:
        return [taken.message_id for taken in self.client.taken]


class SandboxCase:
    """The real client and the ION simulator."""

    def __init__(self, sandbox: Sandbox, client: IonClient) -> None:
        self.sandbox, self.client = sandbox, client

    def stage_status(self, call: Call, status: int, code: int, text: str, retry_after: int | None) -> None:
        fields: dict[str, Any] = {"status": status, "code": code, "error": text}
        if retry_after is not None:
            fields["retry_after"] = retry_after
        self.sandbox.faults(call=_SANDBOX_CALLS[call], count=1, **fields)

    def stage_cut(self, call: Call) -> None:
        self.sandbox.faults(call=_SANDBOX_CALLS[call], cut="before")

    def stage_truncated(self, call: Call) -> None:
        self.sandbox.faults(call=_SANDBOX_CALLS[call], body="truncated", count=1)

    def stage_nonsense(self, call: Call, kind: str) -> None:
        self.sandbox.faults(call=_SANDBOX_CALLS[call], body=kind, count=1)

    def stage_slow(self, call: Call, seconds: float) -> None:
        self.sandbox.faults(call=_SANDBOX_CALLS[call], delay=seconds)

    def taken(self) -> Sequence[str]:
        return [taken.message_id for taken in self.sandbox.messages()]


def sandbox_tenant() -> SandboxTenant:
    """The tenant of this suite."""
    return SandboxTenant(TENANT, LOGICAL_ID, list(DOCUMENTS))


def ionapi_source(sandbox: Sandbox, folder: Path) -> IonApiFile:
    """An `.ionapi` file for this suite's tenant."""
    sandbox.environment(folder)
    (path,) = folder.glob("*.ionapi")
    return IonApiFile(path)


def oauth1_source(sandbox: Sandbox) -> OAuth1Source:
    """This suite's tenant's OAuth 1 keys."""
    credentials = sandbox.tenant(TENANT).credentials
    return OAuth1Source(credentials.consumer_key, Secret(credentials.consumer_secret))


def connection(source: CredentialSource, **changes: Any) -> IonConnection:
    """To the ION of this suite's tenant, with default settings apart from these changes."""
    http = HttpSettings()
    defaults: dict[str, Any] = {
        "ion_url": None,
        "connect_seconds": http.connect_seconds,
        "read_seconds": http.read_seconds,
        "total_seconds": http.total_seconds,
        "least_rate": http.least_bytes_per_second,
        "rate_limit": None,
        "deflate_from": http.deflate_from_bytes,
        "token_basic": False,
        "token_scope": None,
        "network": Network(),
        "tokens_a_day": None,
        "ionapi_tenant": None,
        "skipped": frozenset(),
        "documents": frozenset(),
    }
    return IonConnection(TENANT, LOGICAL_ID, source, **{**defaults, **changes})
