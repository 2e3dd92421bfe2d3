"""Faults to inject: what goes wrong, for which tenant and call, how often and when.

A fault applies to a request that matches it. All faults that match apply together, in the order they were
added: delays add up; of two that both give an answer only the first applies. docs/sandbox.md documents the
fields for users.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import field_validator as check_field

from relay.sandbox.tenants import ConnectionPoint, SandboxTenant, Tenants

FaultyCall = Literal["ping", "versions", "acceptedDocuments", "post", "token", "*"]
FaultyBody = Literal[
    "truncated", "not-json", "not-utf8", "wrong-types", "huge", "empty", "html", "errors-text",
    "message-text", "gateway", "gateway-fault",
]  # fmt: skip
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


@dataclass(slots=True)
class Fault:
    """A fault that was injected. `begins`, `ends`: monotonic seconds; `applied`: how often it was applied.

    `given`: its fields as they were written; `matched`: the requests that it could have been applied to.
    """

    id: str
    spec: FaultSpec
    given: Mapping[str, Any]
    begins: float
    ends: float
    chance: random.Random
    matched: int = 0
    applied: int = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether it was applied as often as its `count` allows."""
        return self.spec.count is not None and self.applied >= self.spec.count

    def state(self, now: float) -> Literal["scheduled", "active", "exhausted", "expired"]:
        """`scheduled` before `begins`, `active`, `exhausted` (see above), `expired` from `ends` on."""
        if self.is_exhausted:
            return "exhausted"
        if now >= self.ends:
            return "expired"
        return "active" if now >= self.begins else "scheduled"

    def as_json(self, now: float) -> dict[str, object]:
        """Its fields, how often it was applied, and its state."""
        return {"id": self.id, **self.given, "applied": self.applied, "state": self.state(now)}

    def matches(self, tenant: SandboxTenant, call: str, contains: Callable[[str], bool], now: float) -> bool:
        """Whether a request is one of those that it is for."""
        spec = self.spec
        if spec.needs_no_request or spec.call not in {"*", call} or self.state(now) != "active":
            return False
        if spec.tenant not in {"*", tenant.tenant_id}:
            return False
        return spec.text is None or (call == "post" and contains(spec.text))

    def is_selected(self) -> bool:
        """Whether it applies to this one of the requests that it matches, by its `skip` and its `share`."""
        self.matched += 1
        if self.matched <= self.spec.skip:
            return False
        return self.spec.share >= 1.0 or self.chance.random() < self.spec.share


@dataclass(slots=True)
class Injection:
    """What all faults together do to one request."""

    faults: list[Fault] = field(default_factory=list[Fault])
    delay: float = 0.0
    late: float = 0.0
    answer: FaultSpec | None = None


NO_FAULTS = Injection()


class FaultPlan:
    """All faults that were injected. `now` is always monotonic seconds."""

    def __init__(self, tenants: Tenants) -> None:
        self.faults: list[Fault] = []
        self._tenants = tenants
        self._numbers = count(1)

    def add(self, wanted: Iterable[object], now: float) -> list[Fault]:
        """Add faults, all or none. Raises FaultError, which names the field that is wrong."""
        wanted = list(wanted)
        specs = [read_spec(fields, f"faults[{place}]") for place, fields in enumerate(wanted)]
        for place, spec in enumerate(specs):
            if spec.tenant != "*" and self._tenants.get(spec.tenant) is None:
                known = ", ".join(tenant.tenant_id for tenant in self._tenants)
                raise FaultError(f"faults[{place}].tenant", f"{spec.tenant} does not exist; there is {known}")
        added = [self._schedule(spec, given, now) for spec, given in zip(specs, wanted, strict=True)]
        self.faults.extend(added)
        return added

    def _schedule(self, spec: FaultSpec, given: Any, now: float) -> Fault:
        begins = now + spec.after
        ends = math.inf if spec.lasts is None else begins + spec.lasts
        chance = random.Random(spec.seed)  # noqa: S311 - no secret depends on it
        return Fault(f"f{next(self._numbers)}", spec, dict(given), begins, ends, chance)

    def remove(self, fault_id: str) -> bool:
        """Remove a fault; whether it existed."""
        kept = [fault for fault in self.faults if fault.id != fault_id]
        found = len(kept) < len(self.faults)
        self.faults = kept
        return found

    def clear(self) -> None:
        """Remove all faults; what they changed stays changed."""
        self.faults = []

    def take_due_changes(self, now: float) -> list[FaultSpec]:
        """The changes that need no request and whose time has come; each is returned once."""
        due = [
            fault
            for fault in self.faults
            if fault.spec.needs_no_request and not fault.applied and now >= fault.begins
        ]
        for fault in due:
            fault.applied = 1
        return [fault.spec for fault in due]

    def inject(
        self, tenant: SandboxTenant, call: str, contains: Callable[[str], bool], now: float
    ) -> Injection:
        """What happens to this request. `contains`: whether the message contains a text."""
        if not self.faults:
            return NO_FAULTS
        injection = Injection()
        for fault in self.faults:
            spec = fault.spec
            if not fault.matches(tenant, call, contains, now):
                continue
            if (spec.answers and injection.answer is not None) or not fault.is_selected():
                continue
            fault.applied += 1
            injection.faults.append(fault)
            injection.delay += spec.delay
            injection.late += spec.late
            if spec.answers:
                injection.answer = spec
        return injection
