"""What ION can answer, as values: nothing that ION or the network does is an exception.

Pure. What an answer *means* is decided in `answers.py` alone.
"""

from dataclasses import dataclass, field
from typing import Literal, assert_never

from relay.core.model import DocumentName

IonCall = Literal["ping", "versions", "acceptedDocuments", "post"]

Form = Literal["empty", "ims", "html", "other"]
"""What the body of an answer is: `ims` is JSON with a status in words or a numeric code, as ION writes it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response. `code`: IMS's internal code. `retry_after`: seconds, as the server requested.

    `failed`: the body says that the call failed, whatever the HTTP status. `clock_off`: seconds by which this
    machine's clock is ahead of the server's, where the request carried a time; 0: it is right, or unknown.
    """

    status: int
    detail: str = ""
    code: int | None = None
    retry_after: float | None = None
    form: Form = "empty"
    failed: bool = False
    clock_off: float = 0.0


@dataclass(frozen=True, slots=True)
class Versions:
    """A readable response to versions: the supported ones, e.g. `("v1", "v2", "v3")`."""

    supported: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A readable response to acceptedDocuments: the names that ION accepts from this logical id.

    `ignored`: how many others were left out because no message can have such a name.
    """

    documents: frozenset[DocumentName]
    ignored: int = 0


@dataclass(frozen=True, slots=True)
class NoReply:
    """No response, a truncated one, a time-out, or not HTTP: a post may have arrived nevertheless.

    `timed_out`: the server neither took nor sent anything for too long.
    """

    detail: str
    timed_out: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """The token service rejected the credentials, or they cannot be read."""

    detail: str


@dataclass(frozen=True, slots=True)
class TokenUnavailable:
    """The token service could not be reached, or failed."""

    detail: str
    retry_after: float | None = None


Answer = Reply | Versions | Accepted | NoReply | TokenRefused | TokenUnavailable


def describe(answer: Answer) -> str:
    """The answer as text for a log line or a status; no payload, no secret."""
    match answer:
        case Reply(status, detail, code, failed=failed):
            internal = (
                f" (IMS code {code})"
                if code is not None
                else " (the body reports a failure)"
                if failed
                else ""
            )
            return f"HTTP {status}{internal}" + (f": {detail}" if detail else "")
        case Versions(supported):
            return f"v3 or later is needed, ION supports {', '.join(supported) or 'none'}"
        case Accepted(documents, ignored):
            left_out = f", {ignored} invalid names ignored" if ignored else ""
            return f"{len(documents)} documents accepted{left_out}"
        case NoReply(detail):
            return detail
        case TokenRefused(detail):
            return f"cannot authenticate: {detail}"
        case TokenUnavailable(detail):
            return f"the token service is not available: {detail}"
        case _:
            assert_never(answer)
