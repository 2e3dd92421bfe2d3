"""This file is the fields of a faults rule: what each may hold, and what is said where it does not.

docs/sandbox.md has the same as a table for users.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.sandbox.tenants import ConnectionPoint

CALLS = ("ping", "versions", "acceptedDocuments", "post", "token", "*")
BODIES = (
    "truncated",
    "not-json",
    "not-utf8",
    "wrong-types",
    "huge",
    "empty",
    "html",
    "errors-text",
    "message-text",
)
CUTS = ("before", "after")
POINTS = ("active", "inactive", "missing")
TOKENS = ("expire", "revoke")

ANSWERS = ("status", "cut", "body", "retry_after", "retry_after_date")
CHANGES = ("add", "withdraw", "connection_point", "tokens", "token_seconds", "versions")
EFFECTS = (*ANSWERS, "delay", "late", *CHANGES)


class FaultError(Exception):
    """A rule that cannot be followed: the field, and what is wrong with it."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"{field}: {what}")
        self.field, self.what = field, what


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """A rule as it was ordered, checked. `given`: the fields as they were written."""

    tenant: str = "*"
    call: str | None = "*"
    # what happens
    status: int | None = None
    code: int | None = None
    error: str | None = None
    taken: bool = False
    delay: float = 0.0
    late: float = 0.0
    cut: str | None = None
    body: str | None = None
    retry_after: float | str | None = None
    retry_after_date: bool = False
    # what changes
    add: tuple[str, ...] = ()
    withdraw: tuple[str, ...] = ()
    connection_point: ConnectionPoint | None = None
    tokens: str | None = None
    token_seconds: float | None = None
    versions: tuple[str, ...] | None = None
    # when
    count: int | None = None
    skip: int = 0
    after: float = 0.0
    lasts: float | None = None
    share: float = 1.0
    seed: int = 0
    text: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def answers(self) -> bool:
        """Whether it decides how a request is answered."""
        return any(name in self.given for name in ANSWERS)

    @property
    def changes(self) -> bool:
        """Whether it changes the tenant."""
        return any(name in self.given for name in CHANGES)


Check = Callable[[object], Any]
"""Turns what was written into the field's value; ValueError says what it must be."""


def _whole(least: int, most: int) -> Check:
    def check(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise ValueError(f"must be a whole number from {least} to {most}")

    return check


def _number(least: float, most: float, *, above: bool = False) -> Check:
    def check(value: Any) -> float:
        a_number = isinstance(value, int | float) and not isinstance(value, bool)
        if a_number and least <= value <= most and not (above and value == least):
            return float(value)
        raise ValueError(f"must be a number {'above' if above else 'from'} {least:g} to {most:g}")

    return check


def _number_or_text(least: float, most: float) -> Check:
    number = _number(least, most)

    def check(value: object) -> float | str:
        return value if isinstance(value, str) and value else float(number(value))

    return check


def _one_of(*words: str) -> Check:
    def check(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError(f"must be one of {', '.join(words)}")

    return check


def _text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError("must be a text")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str) and value:
        return (value,)
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    raise ValueError("must be a text or a list of texts")


def _tenant(value: object) -> str:
    return _text(value).upper()


_DAY = 86_400.0

CHECKS: Mapping[str, Check] = {
    "tenant": _tenant,
    "call": _one_of(*CALLS),
    "status": _whole(200, 599),
    "code": _whole(0, 9999),
    "error": _text,
    "taken": _flag,
    "delay": _number(0, _DAY),
    "late": _number(0, _DAY),
    "cut": _one_of(*CUTS),
    "body": _one_of(*BODIES),
    "retry_after": _number_or_text(0, 10.0**9),
    "retry_after_date": _flag,
    "add": _texts,
    "withdraw": _texts,
    "connection_point": _one_of(*POINTS),
    "tokens": _one_of(*TOKENS),
    "token_seconds": _number(0, 10 * _DAY, above=True),
    "versions": _texts,
    "count": _whole(1, 10**9),
    "skip": _whole(0, 10**9),
    "after": _number(0, 10 * _DAY),
    "lasts": _number(0, 10 * _DAY, above=True),
    "share": _number(0, 1, above=True),
    "seed": _whole(0, 2**63),
    "text": _text,
}


def read_spec(fields: object, where: str) -> FaultSpec:
    """Check a rule's fields. `where` stands before the field's name in errors."""
    if not isinstance(fields, Mapping):
        raise FaultError(where, "must be a table of fields")
    values: dict[str, Any] = {}
    for name, value in fields.items():
        check = CHECKS.get(name) if isinstance(name, str) else None
        if check is None:
            raise FaultError(f"{where}.{name}", f"is not a field; there is {', '.join(CHECKS)}")
        try:
            values[name] = check(value)
        except ValueError as error:
            raise FaultError(f"{where}.{name}", f"{error}, not {value!r}") from error
    spec = FaultSpec(**values, given=dict(fields))
    _check_together(spec, where)
    return FaultSpec(**values | {"call": None}, given=dict(fields)) if _by_itself(spec) else spec


def _by_itself(spec: FaultSpec) -> bool:
    """Only changes, and no call named: it needs no request to strike."""
    return "call" not in spec.given and not spec.answers and not spec.delay and not spec.late


def _check_together(spec: FaultSpec, where: str) -> None:
    given = spec.given
    if not any(name in given for name in EFFECTS):
        raise FaultError(where, f"nothing would happen; give one of {', '.join(EFFECTS)}")
    if spec.cut is not None:
        for name in ("status", "body", "retry_after", "retry_after_date", "taken"):
            if name in given:
                raise FaultError(f"{where}.{name}", "goes with no cut: a cut leaves no answer")
    for name in ("code", "error", "taken"):
        if name in given and spec.status is None:
            raise FaultError(f"{where}.{name}", "needs a status beside it")
    if spec.status == 204 and spec.body is not None:
        raise FaultError(f"{where}.body", "goes with no status 204: it has no body")
    if spec.retry_after_date and not isinstance(spec.retry_after, float):
        raise FaultError(
            f"{where}.retry_after_date", "needs retry_after beside it: the seconds until that date"
        )
    if _only_for_posts(spec) and spec.call not in {"post", "*"}:
        raise FaultError(f"{where}.call", "must be post: text, taken and cut after are about messages")
    if _by_itself(spec):
        for name in ("count", "skip", "lasts", "share", "seed", "text"):
            if name in given:
                raise FaultError(
                    f"{where}.{name}", "needs a call beside it: without one the change happens once"
                )


def _only_for_posts(spec: FaultSpec) -> bool:
    return spec.text is not None or spec.taken or spec.cut == "after" or spec.late > 0
