"""This file is what operators can decide about messages, whichever store holds them."""

from dataclasses import dataclass
from typing import Literal

from relay.model import RowId
from relay.ports import MessageState


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to happen to messages in one of the `states`."""

    what: Literal["retried", "parked", "dropped"]
    states: tuple[MessageState, ...]
    reason: str = ""


def retry() -> Decision:
    """Whatever is not delivered goes again."""
    return Decision("retried", ("pending", "parked", "dropped"))


def park(reason: str) -> Decision:
    """Out of the queue."""
    return Decision("parked", ("pending",), reason)


def drop(reason: str) -> Decision:
    """For good."""
    return Decision("dropped", ("pending", "parked"), reason)


@dataclass(frozen=True, slots=True)
class Done:
    """How many rows a chunk changed, and the last that it looked at; None: no more are meant."""

    rows: int
    last: RowId | None
