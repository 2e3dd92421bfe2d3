"""The fields of a fault: what each may hold, and which do not go together.

docs/sandbox.md documents the fields for users.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import field_validator as check_field

from relay.sandbox.tenants import ConnectionPoint

FaultyCall = Literal["ping", "versions", "acceptedDocuments", "post", "token", "*"]
FaultyBody = Literal[
    "truncated", "not-json", "not-utf8", "wrong-types", "huge", "empty", "html", "errors-text",
    "message-text", "fail", "request-rejected", "gateway-error", "gateway-fault", "many-names",
    "impossible-names",
]  # fmt: skip
Wire = Literal[
    "long-header", "many-headers", "equal-lengths", "unequal-lengths", "malformed-header",
    "header-bomb", "cut-head", "interim-100", "interim-103", "flood-100", "flood-103", "close", "http10",
    "chunked", "garbage", "reset-after", "endless-body",
]  # fmt: skip
"""How the answer goes over the wire, below HTTP."""
Compression = Literal["gzip", "deflate", "raw-deflate"]
Cut = Literal["before", "after"]
TokenChange = Literal["expire", "revoke", "revoke-for-posts"]

ANSWERS = frozenset(
    {"status", "cut", "body", "compress", "retry_after", "retry_after_date", "wire", "write_rate", "early"}
)
CHANGES = frozenset(
    {"add", "withdraw", "connection_point", "tokens", "token_seconds", "versions", "clock", "wrapper"}
)
DELAYS = frozenset({"delay", "late", "read_rate"})
REFUSALS = frozenset({"fail", "request-rejected", "gateway-error", "gateway-fault"})
"""Bodies of an answer that did not take the message, whatever its status says."""
LISTS = frozenset({"many-names", "impossible-names"})
"""Bodies of acceptedDocuments alone."""
_READABLE_WIRES = frozenset(
    {
        "long-header", "many-headers", "equal-lengths", "interim-100", "interim-103", "close", "http10",
        "chunked", "garbage", "reset-after",
    }
)  # fmt: skip
"""What a client may well read."""

BODILESS = frozenset({204, 205, 304})
_DAY = 86_400.0
_ONCE_ONLY = "needs a call beside it: without a call the change happens once"


class FaultError(Exception):
    """A fault that is not valid: the field, and what is wrong with it."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"{field}: {what}")
        self.field, self.what = field, what


def _whole(least: int, most: int, default: int | None = None) -> Any:
    allowed = f"a whole number from {least} to {most}"
    return Field(default, ge=least, le=most, description=allowed)


def _seconds(most: float, default: float | None = None) -> Any:
    return Field(default, ge=0, le=most, description=f"a number from 0 to {most:g}")


def _above_zero(most: float, default: float | None = None) -> Any:
    return Field(default, gt=0, le=most, description=f"a number above 0 to {most:g}")


def _one_of(words: Any, default: str | None = None) -> Any:
    return Field(default, description=f"one of {', '.join(get_args(words))}")


def _text(default: str | None = None) -> Any:
    return Field(default, min_length=1, description="a text")


def _flag() -> Any:
    return Field(False, description="true or false")


def _texts(default: tuple[str, ...] | None = ()) -> Any:
    return Field(default, min_length=1, description="a text or a list of texts")


def _to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


Texts = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1)], ...], BeforeValidator(_to_tuple)
]  # fmt: skip


class FaultSpec(BaseModel):
    """The fields of a fault. A field's description says what it may hold; error texts repeat it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    tenant: Annotated[str, StringConstraints(to_upper=True)] = _text("*")
    call: FaultyCall = _one_of(FaultyCall, "*")
    # what happens
    status: int | None = _whole(200, 599)
    code: int | None = _whole(0, 9999)
    error: str | None = _text()
    taken: bool = _flag()
    delay: float = _seconds(_DAY, 0.0)
    late: float = _seconds(_DAY, 0.0)
    cut: Cut | None = _one_of(Cut)
    body: FaultyBody | None = _one_of(FaultyBody)
    compress: Compression | None = _one_of(Compression)
    wire: Wire | None = _one_of(Wire)
    read_rate: float | None = _above_zero(10**9)
    write_rate: float | None = _above_zero(10**9)
    early: bool = _flag()
    retry_after: Annotated[float, Field(ge=0, le=10**9)] | str | None = Field(
        None, description="a number from 0 to 1e+09, or a text"
    )
    retry_after_date: bool = _flag()
    # what changes
    add: Texts = _texts()
    withdraw: Texts = _texts()
    connection_point: ConnectionPoint | None = _one_of(ConnectionPoint)
    tokens: TokenChange | None = _one_of(TokenChange)
    token_seconds: float | None = _above_zero(10 * _DAY)
    versions: Texts | None = _texts(None)
    clock: float | None = Field(
        None, ge=-10 * _DAY, le=10 * _DAY, description="a number from -864000 to 864000"
    )
    wrapper: bool | None = Field(None, description="true or false")
    # when
    count: int | None = _whole(1, 10**9)
    skip: int = _whole(0, 10**9, 0)
    after: float = _seconds(10 * _DAY, 0.0)
    lasts: float | None = _above_zero(10 * _DAY)
    share: float = _above_zero(1, 1.0)
    seed: int = _whole(0, 2**63, 0)
    text: str | None = _text()

    @check_field("*", mode="before")
    @classmethod
    def _refuse_null(cls, value: object) -> object:
        if value is None or value == "":
            raise ValueError
        return value

    @property
    def answers(self) -> bool:
        """Whether it decides how a request is answered."""
        return not ANSWERS.isdisjoint(self.model_fields_set)

    @property
    def changes(self) -> bool:
        """Whether it changes the tenant."""
        return not CHANGES.isdisjoint(self.model_fields_set)

    @property
    def refuses(self) -> bool:
        """Whether its body says that the message was not taken."""
        return self.body in REFUSALS

    @property
    def precedes_body(self) -> bool:
        """Whether it has to be chosen before the body of the request is read."""
        return self.early or self.read_rate is not None

    def find_spoilt(self, call: str) -> str | None:
        """What of the answer the client may be unable to read, or None: it reads all of it."""
        if self.body is not None and self.body not in LISTS:
            return self.body
        if self.wire is None or (self.wire in _READABLE_WIRES and call != "post"):
            return None
        return self.wire

    @property
    def needs_no_request(self) -> bool:
        """Whether it only changes the tenant and names no call: it is applied once, at its time."""
        return self.model_fields_set.isdisjoint({"call", *ANSWERS}) and self.model_fields_set.isdisjoint(
            DELAYS
        )


def read_spec(fields: object, where: str) -> FaultSpec:
    """Validate the fields of a fault. `where` stands before the field's name in errors."""
    if not isinstance(fields, Mapping):
        raise FaultError(where, "must be a table of fields")
    try:
        spec = FaultSpec.model_validate(dict(fields))
    except ValidationError as error:
        name = str(error.errors(include_url=False)[0]["loc"][0])
        known = FaultSpec.model_fields.get(name)
        what = (
            f"is not a field; the fields are {', '.join(FaultSpec.model_fields)}"
            if known is None
            else f"must be {known.description}, not {fields[name]!r}"
        )
        raise FaultError(f"{where}.{name}", what) from error
    if problem := next(_find_conflicts(spec, spec.model_fields_set), None):
        name, what = problem
        raise FaultError(f"{where}.{name}" if name else where, what)
    return spec


def _find_conflicts(spec: FaultSpec, given: set[str]) -> Iterator[tuple[str, str]]:
    """Fields that do not go together."""
    if given.isdisjoint(effects := [n for n in FaultSpec.model_fields if n in ANSWERS | DELAYS | CHANGES]):
        yield "", f"nothing would happen; give one of {', '.join(effects)}"
    if spec.cut is not None:
        for name in sorted(given & ((ANSWERS - {"cut"}) | {"taken"})):
            yield name, "cannot be combined with cut: a cut leaves no answer"
    if spec.status is None and spec.body not in REFUSALS:
        for name in sorted(given & {"code", "error", "taken"}):
            yield name, f"needs a status beside it, or one of the bodies {', '.join(sorted(REFUSALS))}"
    if spec.status in BODILESS:
        for name in sorted(given & {"body", "compress"}):
            yield name, f"cannot be combined with status {spec.status}: it has no body"
    if spec.body in LISTS and spec.call != "acceptedDocuments":
        yield "call", f"must be acceptedDocuments: the body {spec.body} is a list of documents"
    if spec.body in LISTS and (spec.status or 200) >= 300:
        yield "status", f"must be below 300 beside the body {spec.body}: a refusal lists no documents"
    if spec.retry_after_date and not isinstance(spec.retry_after, float):
        yield "retry_after_date", "needs retry_after beside it: the seconds until that date"
    yield from _find_wire_conflicts(spec, given)
    is_about_messages = spec.text is not None or spec.taken or spec.cut == "after" or spec.late > 0
    if is_about_messages and spec.call not in {"post", "*"}:
        yield "call", "must be post: text, taken, late and cut after are about messages"
    if spec.needs_no_request:
        for name in sorted(given & {"count", "skip", "lasts", "share", "seed", "text"}):
            yield name, _ONCE_ONLY


def _find_wire_conflicts(spec: FaultSpec, given: set[str]) -> Iterator[tuple[str, str]]:
    """Fields about the wire that do not go together."""
    if spec.body in {"truncated", "huge"}:
        for name in sorted(given & {"wire", "write_rate"}):
            yield name, f"cannot be combined with the body {spec.body}: it is sent in its own way"
    if spec.status in BODILESS and spec.wire is not None:
        yield "wire", f"cannot be combined with status {spec.status}: it has no body"
    if spec.early and (spec.status is None or spec.status < 300):
        yield "early", "needs a status from 300 on beside it: a message that was not read cannot be taken"
    for name in sorted(given & {"taken", "late"}):
        if spec.early:
            yield name, "cannot be combined with early: the message is not read"
    if spec.precedes_body and spec.text is not None:
        yield "text", "cannot be combined with early or read_rate: they begin before the message is read"
