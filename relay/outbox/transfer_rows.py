"""This file is what a copy carries from one outbox to another: rows, what persons decided, the audit."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from relay.outbox.payload_digest import fingerprint

MILLISECOND = 1000  # microseconds


@dataclass(frozen=True, slots=True)
class Row:
    """A message as it is stored, with its story. Instants are UTC; `parameters` is JSON text.

    `payload_size` None: the payload is kept (`payloads`).
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
    history: tuple[tuple[datetime, str, str], ...] = ()

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
            json.loads(self.parameters),
            _shared(self.created_at),
            fingerprint(self.payload, self.payload_size),
        )

    @property
    def whole(self) -> tuple[object, ...]:
        """All of it; equal where nothing is left to copy."""
        return (
            *self.enqueued,
            self.state,
            self.attempts,
            _shared(self.not_before),
            self.reason,
            self.payload_size,
            _shared(self.queued_at),
            _shared(self.settled_at),
            tuple((_shared(at), what, detail) for at, what, detail in self.history),
        )


@dataclass(frozen=True, slots=True)
class Decided:
    """What persons decided about a tenant; `paused` is the reason of a pause, or None."""

    tenant_id: str
    revision: int
    paused: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What a person did, as the audit has it; `wanted` is JSON text."""

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
        return self.id, _shared(self.at), self.who, self.what, self.tenant_id, self.selection


class Rows(Protocol):
    """An outbox's rows as they are; each call is one transaction and may raise StoreError."""

    async def page(self, after: int, limit: int, max_bytes: int) -> Sequence[Row]:
        """The next rows behind the id, at most so many, about so many bytes; never none where one is."""
        ...

    async def pick(self, ids: Sequence[int]) -> Sequence[Row]:
        """Those of these ids that there are, in their order."""
        ...

    async def take_in(self, rows: Sequence[Row]) -> None:
        """Store them as they are, under their ids; a row of the same id becomes this one."""
        ...

    async def last(self) -> int:
        """The highest id that was ever given, 0 for none; the row may be gone."""
        ...

    async def skip_to(self, last: int) -> None:
        """Give no id up to this one to a new row, so that none is ever given twice."""
        ...

    async def decided(self) -> Sequence[Decided]:
        """Of every tenant about which anything was decided."""
        ...

    async def decide(self, decided: Sequence[Decided]) -> None:
        """Make these hold; a revision only grows."""
        ...

    async def entries(self, after: int, limit: int) -> Sequence[Entry]:
        """The audit's next entries behind the id."""
        ...

    async def enter(self, entries: Sequence[Entry]) -> None:
        """Store them as they are, under their ids; an entry of the same id becomes this one."""
        ...


def _shared(when: datetime | None) -> datetime | None:
    """What all stores can keep of an instant: SQLite has milliseconds, PostgreSQL microseconds."""
    return when and when.replace(microsecond=when.microsecond // MILLISECOND * MILLISECOND)
