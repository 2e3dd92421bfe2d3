"""This file is what the far side can answer, as values: nothing it does is ever an exception.

Pure. What an answer *means* is decided in `protocol.py` alone.
"""

from dataclasses import dataclass
from typing import assert_never

from relay.core.model import DocumentName


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. `code`: IMS's internal code. `retry_after`: seconds the far side asked for."""

    status: int
    detail: str = ""
    code: int | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Versions:
    """A readable answer to versions: the supported ones, e.g. `("v1", "v2", "v3")`."""

    supported: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A readable answer to acceptedDocuments: the names that ION takes from this logical id."""

    documents: frozenset[DocumentName]


@dataclass(frozen=True, slots=True)
class NoReply:
    """No answer, a cut one, a time-out, or nonsense: a post may have arrived all the same."""

    detail: str


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """The token service says that the credentials are wrong."""

    detail: str


@dataclass(frozen=True, slots=True)
class TokenUnavailable:
    """The token service could not be asked, or failed."""

    detail: str
    retry_after: float | None = None


Answer = Reply | Versions | Accepted | NoReply | TokenRefused | TokenUnavailable


def describe(answer: Answer) -> str:
    """What happened, in words for a log line or a status; no payload, no secret."""
    match answer:
        case Reply(status, detail, code):
            internal = f" (IMS code {code})" if code is not None else ""
            return f"HTTP {status}{internal}" + (f": {detail}" if detail else "")
        case Versions(supported):
            return f"v3 or later is needed, ION supports {', '.join(supported) or 'none'}"
        case Accepted(documents):
            return f"{len(documents)} documents accepted"
        case NoReply(detail):
            return detail
        case TokenRefused(detail):
            return f"cannot authenticate: {detail}"
        case TokenUnavailable(detail):
            return f"the token service is not available: {detail}"
        case _:
            assert_never(answer)
