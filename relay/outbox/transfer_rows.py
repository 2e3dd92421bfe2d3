"""What a copy transfers from one outbox to another: messages, tenants' pauses, the audit; a port."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from relay.core.parameters import portable_parameters, read_parameters
from relay.core.validation import Problem
from relay.outbox.payload_digest import fingerprint
from relay.outbox.values import History

MILLISECOND = 1000  # microseconds


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as it is stored, with its history. Instants are UTC; `parameters` is JSON text.

    `payload_size` None: the payload is kept (`payload_digest`). The fields before `history` are the columns.
    """

    id: int
    tenant_id: str
    document_name: str
    message_id: str
    to_logical_id: str
    ordering_key: str | None
    parameters: str
    state: str
    attempts: int
    not_before: datetime | None
    reason: str | None
    created_at: datetime
    queued_at: datetime
    settled_at: datetime | None
    payload: bytes
    payload_size: int | None = None
    history: History = ()

    @property
    def columns(self) -> Sequence[Any]:
        """What the row of the outbox holds, as each store takes it."""
        row = replace(self, parameters=portable_parameters(self.parameters))
        return [getattr(row, name) for name in self.__slots__[:-1]]

    @property
    def enqueued(self) -> tuple[object, ...]:
        """What never changes; equal where two rows are one message, whatever has become of it since."""
        return (
            self.id,
            self.tenant_id.upper(),
            self.document_name,
            self.message_id,
            self.to_logical_id,
            self.ordering_key,
            _parameters(self.parameters),
            _round(self.created_at),
            fingerprint(self.payload, self.payload_size),
        )

    @property
    def whole(self) -> tuple[object, ...]:
        """All of it; equal where nothing is left to copy."""
        return (
            *self.enqueued,
            self.state,
            self.attempts,
            _round(self.not_before),
            self.reason,
            self.payload_size,
            _round(self.queued_at),
            _round(self.settled_at),
            tuple((_round(at), what, detail) for at, what, detail in self.history),
        )


@dataclass(frozen=True, slots=True)
class StoredControl:
    """What operators decided about a tenant; `paused` is the reason of a pause, or None."""

    tenant_id: str
    revision: int
    paused: str | None


@dataclass(frozen=True, slots=True)
class StoredAuditEntry:
    """What an operator did, as the audit has it; `wanted` is JSON text."""

    id: int
    at: datetime
    who: str
    what: str
    tenant_id: str | None
    selection: str
    reason: str
    messages: int
    outcome: str
    ended_at: datetime | None
    wanted: str | None
    reached: int
    moved_at: datetime

    @property
    def begun(self) -> tuple[object, ...]:
        """What never changes; equal where two entries are one."""
        return self.id, _round(self.at), self.who, self.what, self.tenant_id, self.selection


class Transfer(Protocol):
    """An outbox's rows as they are; each call is one transaction and may raise StoreError."""

    async def read_page(self, after: int, limit: int, max_bytes: int) -> Sequence[StoredMessage]:
        """The next rows behind the id: at most `limit`, about `max_bytes`; never none where there is one."""

    async def read_rows(self, ids: Sequence[int]) -> Sequence[StoredMessage]:
        """Those of these ids that exist, in their order."""

    async def write_rows(self, rows: Sequence[StoredMessage]) -> None:
        """Store them as they are, under their ids; a row of the same id is replaced."""

    async def last_id(self) -> int:
        """The highest id that was ever given, 0 for none; the row may be deleted."""

    async def skip_ids(self, last: int) -> None:
        """Give no id up to this one to a new row, so that none is ever given twice."""

    async def read_controls(self) -> Sequence[StoredControl]:
        """Of every tenant about which anything was decided."""

    async def write_controls(self, controls: Sequence[StoredControl]) -> None:
        """Store them; a revision only grows."""

    async def read_audit(self, after: int, limit: int) -> Sequence[StoredAuditEntry]:
        """The audit's next entries behind the id."""

    async def write_audit(self, entries: Sequence[StoredAuditEntry]) -> None:
        """Store them as they are, under their ids; an entry of the same id is replaced."""


def _parameters(text: str) -> object:
    """Equal where they say the same, however it is written."""
    portable = portable_parameters(text)
    found = read_parameters(portable)
    return portable if isinstance(found, Problem) else found


def _round(when: datetime | None) -> datetime | None:
    """To what all stores can keep: SQLite has milliseconds, PostgreSQL microseconds."""
    return when and when.replace(microsecond=when.microsecond // MILLISECOND * MILLISECOND)
