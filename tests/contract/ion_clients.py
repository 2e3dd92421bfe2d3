"""This file is the two endpoints behind one contract: the scripted one, and the real one with the sandbox.

A case stages what the far side does to the next calls, in words that both can play.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from relay.core.model import DocumentName, LogicalId, Message, MessageId, RowId, TenantId
from relay.core.ports import Ion
from relay.core.replies import Answer, NoReply, Reply
from relay.ion.client import Connection, IonClient
from relay.ion.credentials import CredentialSource, IonApiFile, OAuth1Source
from relay.ion.oauth import Secret
from relay.sandbox import Sandbox, SandboxTenant
from tests.support.scripted import Call, ScriptedEndpoint

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


async def ask(endpoint: Ion, call: Call) -> Answer:
    """One call, whatever it is; a post is that of message 1."""
    match call:
        case "ping":
            return await endpoint.ping()
        case "versions":
            return await endpoint.versions()
        case "accepted_documents":
            return await endpoint.accepted_documents()
        case "post":
            return await endpoint.post(await endpoint.pack(message(1)))


class EndpointCase(Protocol):
    """An endpoint and its far side."""

    @property
    def endpoint(self) -> Ion:
        """What a worker has."""
        ...

    def stage_status(self, call: Call, status: int, code: int, text: str, retry_after: int | None) -> None:
        """The next call of this kind is refused so."""
        ...

    def stage_cut(self, call: Call) -> None:
        """All calls of this kind are cut before they are answered."""
        ...

    def stage_truncated(self, call: Call) -> None:
        """The next answer of this kind is a success whose body ends too early."""
        ...

    def stage_nonsense(self, call: Call, kind: str) -> None:
        """The next answer of this kind is a success with a body that says nothing."""
        ...

    def stage_slow(self, call: Call, seconds: float) -> None:
        """Calls of this kind are answered after so long."""
        ...

    def taken(self) -> Sequence[str]:
        """The ids of the messages that the far side took and said so."""
        ...


class ScriptedCase:
    """The scripted endpoint; what is staged is what the port's documentation says."""

    def __init__(self) -> None:
        self.endpoint = ScriptedEndpoint(DOCUMENTS)

    def stage_status(self, call: Call, status: int, code: int, text: str, retry_after: int | None) -> None:
        self.endpoint.queue(
            call, Reply(status, text, code, None if retry_after is None else float(retry_after))
        )

    def stage_cut(self, call: Call) -> None:
        self.endpoint.queue(call, *[NoReply("closed the connection without an answer")] * 2)

    def stage_truncated(self, call: Call) -> None:
        self.endpoint.queue(call, NoReply("the answer was cut"))

    def stage_nonsense(self, call: Call, kind: str) -> None:
        body_matters = call in ("versions", "accepted_documents")
        self.endpoint.queue(call, NoReply(f"{kind}: nonsense") if body_matters else Reply(200))

    def stage_slow(self, call: Call, seconds: float) -> None:
        self.endpoint.delay = lambda asked, _: seconds if asked == call else 0.0

    def taken(self) -> Sequence[str]:
        return [taken.message_id for taken in self.endpoint.taken]


class SandboxCase:
    """The real endpoint and the ION simulator."""

    def __init__(self, sandbox: Sandbox, endpoint: IonClient) -> None:
        self.sandbox, self.endpoint = sandbox, endpoint

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


def connection(source: CredentialSource, **changes: Any) -> Connection:
    """To this suite's tenant's ION."""
    return Connection(TENANT, LOGICAL_ID, source, **changes)
