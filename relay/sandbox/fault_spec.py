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
    "truncated", "not-json", "not-utf8", "wrong-types", "huge", "empty", "html", "errors-text", "message-text"
]
Cut = Literal["before", "after"]
TokenChange = Literal["expire", "revoke"]

ANSWERS = frozenset({"status", "cut", "body", "retry_after", "retry_after_date"})
CHANGES = frozenset({"add", "withdraw", "connection_point", "tokens", "token_seconds", "versions"})
DELAYS = frozenset({"delay", "late"})

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
    def needs_no_request(self) -> bool:
        """Whether it only changes the tenant and names no call: it is applied once, at its time."""
        return self.model_fields_set.isdisjoint({"call", *ANSWERS}) and not (self.delay or self.late)


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
        for name in sorted(given & {"status", "body", "retry_after", "retry_after_date", "taken"}):
            yield name, "cannot be combined with cut: a cut leaves no answer"
    if spec.status is None:
        for name in sorted(given & {"code", "error", "taken"}):
            yield name, "needs a status beside it"
    if spec.status == 204 and spec.body is not None:
        yield "body", "cannot be combined with status 204: it has no body"
    if spec.retry_after_date and not isinstance(spec.retry_after, float):
        yield "retry_after_date", "needs retry_after beside it: the seconds until that date"
    is_about_messages = spec.text is not None or spec.taken or spec.cut == "after" or spec.late > 0
    if is_about_messages and spec.call not in {"post", "*"}:
        yield "call", "must be post: text, taken, late and cut after are about messages"
    if spec.needs_no_request:
        for name in sorted(given & {"count", "skip", "lasts", "share", "seed", "text"}):
            yield name, _ONCE_ONLY
