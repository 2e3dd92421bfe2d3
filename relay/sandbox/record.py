"""The simulator's record: every message it took, and every request it received.

Made for hundreds of thousands of messages: a message costs a few hundred bytes; the newest payloads are kept
up to a budget, and requests in a log of limited length.
"""

import hashlib
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any


@dataclass(slots=True)
class Redelivery:
    """A further delivery of a message id: when (epoch seconds), and how the previous one had ended."""

    number: int
    at: float
    previous_outcome: str


@dataclass(slots=True)
class TakenMessage:
    """A message that the simulator took custody of; one for each tenant and message id.

    `number` is its place in the order of arrival over all tenants, counted at its first delivery.
    `outcome`: how its last delivery was answered. `changed`: the id came again with another content.
    """

    number: int
    tenant_id: str
    message_id: str
    document_name: str
    digest: bytes
    size: int
    at: float
    outcome: str = "not answered yet"
    redeliveries: list[Redelivery] | None = None
    changed: bool = False

    @property
    def sha256(self) -> str:
        """Of the document's bytes, inflated, in hexadecimal."""
        return self.digest.hex()

    @property
    def times(self) -> int:
        """How often it was taken."""
        return 1 + len(self.redeliveries or ())

    def as_json(self) -> dict[str, object]:
        """All fields, for the control interface."""
        return {
            "number": self.number,
            "tenant_id": self.tenant_id,
            "message_id": self.message_id,
            "document_name": self.document_name,
            "sha256": self.sha256,
            "size": self.size,
            "at": self.at,
            "times": self.times,
            "outcome": self.outcome,
            "changed": self.changed,
            "redeliveries": [asdict(one) for one in self.redeliveries or ()],
        }


@dataclass(slots=True)
class Request:
    """A request. `status` 0: not answered (see `why`). `at`: epoch seconds; `seconds`: until its end."""

    number: int
    call: str
    method: str
    target: str
    at: float
    began: float
    tenant_id: str | None = None
    status: int = 0
    code: int = 0
    why: str = ""
    message_id: str | None = None
    traceparent: str | None = None
    faults: tuple[str, ...] = ()
    seconds: float | None = None

    def as_json(self) -> dict[str, object]:
        """All fields but `began`, for the control interface."""
        names = (
            "number",
            "at",
            "tenant_id",
            "call",
            "method",
            "target",
            "status",
            "code",
            "why",
            "message_id",
            "traceparent",
        )
        shown: dict[str, object] = {name: getattr(self, name) for name in names}
        return shown | {"faults": list(self.faults), "seconds": self.seconds}


@dataclass(slots=True)
class Content:
    """What is kept of a message up to the budget: its parameters and its document."""

    parameters: Mapping[str, Any]
    document: bytes


@dataclass(slots=True)
class RequestRecord:
    """What was taken and requested. `payload_bytes`: the budget for payloads; 0 keeps none."""

    payload_bytes: int
    request_limit: int
    requests: deque[Request] = field(init=False)
    requests_total: int = 0
    taken: int = 0
    counts: Counter[tuple[str | None, str, int]] = field(default_factory=Counter[tuple[str | None, str, int]])
    _messages: dict[str, dict[str, TakenMessage]] = field(default_factory=dict[str, dict[str, TakenMessage]])
    _contents: OrderedDict[tuple[str, str], Content] = field(
        default_factory=OrderedDict[tuple[str, str], Content]
    )
    _kept: int = 0

    def __post_init__(self) -> None:
        self.requests = deque(maxlen=self.request_limit)

    def open(self, call: str, method: str, target: str, at: float, began: float) -> Request:
        """Record a request that begins. `at`: epoch seconds; `began`: monotonic seconds."""
        self.requests_total += 1
        request = Request(self.requests_total, call, method, target, at, began)
        self.requests.append(request)
        return request

    def close(self, request: Request, now: float) -> None:
        """Record the end of a request, with the status it has by now."""
        request.seconds = now - request.began
        self.counts[request.tenant_id, request.call, request.status] += 1

    def take(self, tenant_id: str, parameters: Mapping[str, Any], document: bytes, at: float) -> TakenMessage:
        """Take custody of a message; without an id it gets one of the simulator's own."""
        self.taken += 1
        message_id = parameters.get("messageId") or f"no-message-id-{self.taken}"
        digest = hashlib.sha256(document).digest()
        messages = self._messages.setdefault(tenant_id, {})
        found = messages.get(message_id)
        if found is None:
            name = parameters["documentName"]
            found = TakenMessage(self.taken, tenant_id, message_id, name, digest, len(document), at)
            messages[message_id] = found
            self._keep((tenant_id, message_id), Content(parameters, document))
            return found
        found.redeliveries = found.redeliveries or []
        found.redeliveries.append(Redelivery(self.taken, at, found.outcome))
        found.changed |= (found.digest, found.document_name) != (digest, parameters["documentName"])
        found.outcome = "not answered yet"
        return found

    def _keep(self, key: tuple[str, str], content: Content) -> None:
        if not self.payload_bytes:
            return
        self._contents[key] = content
        self._kept += len(content.document)
        while self._kept > self.payload_bytes:
            _, oldest = self._contents.popitem(last=False)
            self._kept -= len(oldest.document)

    # --- reading ---------------------------------------------------------------------------------

    def messages(self, tenant_id: str | None = None) -> list[TakenMessage]:
        """The messages that were taken, in the order of arrival; of one tenant or of all."""
        if tenant_id is not None:
            return list(self._messages.get(tenant_id.upper(), {}).values())
        every = (taken for messages in self._messages.values() for taken in messages.values())
        return sorted(every, key=lambda taken: taken.number)

    def count(self, tenant_id: str | None = None) -> int:
        """How many different messages were taken."""
        if tenant_id is not None:
            return len(self._messages.get(tenant_id.upper(), {}))
        return sum(map(len, self._messages.values()))

    def message(self, tenant_id: str, message_id: str) -> TakenMessage | None:
        """One message, if it was taken."""
        return self._messages.get(tenant_id.upper(), {}).get(message_id)

    def content(self, tenant_id: str, message_id: str) -> Content | None:
        """A message's parameters and document, if they are still kept."""
        return self._contents.get((tenant_id.upper(), message_id))

    def sent_twice(self, tenant_id: str | None = None) -> list[TakenMessage]:
        """The messages that were taken more than once."""
        return [taken for taken in self.messages(tenant_id) if taken.redeliveries]

    def find_requests(self, tenant_id: str | None = None, call: str | None = None) -> Iterator[Request]:
        """The requests still in the log, in the order they began."""
        for request in islice(self.requests, None):
            if tenant_id in {None, request.tenant_id} and call in {None, request.call}:
                yield request

    def clear(self) -> None:
        """Empty the record; numbers continue."""
        self._messages.clear()
        self._contents.clear()
        self._kept = 0
        self.requests.clear()
        self.counts.clear()
