"""This file is the faults to inject: rules that say what goes wrong, for whom, how often, and when.

A rule strikes a request that fits it. All rules that fit strike together, in the order they were made:
delays add up; of two that both give an answer only the first strikes.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from relay.sandbox.fault_fields import ANSWERS, CHANGES, EFFECTS, FaultError, FaultSpec, read_spec
from relay.sandbox.tenants import SandboxTenant, Tenants


@dataclass(slots=True)
class Rule:
    """A rule at work. `begins`, `ends`: monotonic seconds; `fitted`: requests it might have struck."""

    id: str
    spec: FaultSpec
    begins: float
    ends: float
    chance: random.Random
    fitted: int = 0
    struck: int = 0

    @property
    def spent(self) -> bool:
        """Whether it has struck as often as it was ordered to."""
        return self.spec.count is not None and self.struck >= self.spec.count

    @property
    def by_itself(self) -> bool:
        """Whether it waits for no request: it only changes the tenant, at its time."""
        return self.spec.call is None

    def state(self, now: float) -> str:
        """`waiting`, `active`, `spent` (struck as often as ordered) or `over` (its time is up)."""
        if self.spent:
            return "spent"
        if now >= self.ends:
            return "over"
        return "active" if now >= self.begins else "waiting"

    def as_json(self, now: float) -> dict[str, object]:
        """What was ordered, and how often it struck."""
        return {"id": self.id, **self.spec.given, "struck": self.struck, "state": self.state(now)}


@dataclass(slots=True)
class Injection:
    """All that the faults does to one request."""

    rules: list[Rule] = field(default_factory=list[Rule])
    delay: float = 0.0
    late: float = 0.0
    answer: FaultSpec | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The rules that struck."""
        return tuple(rule.id for rule in self.rules)


CALM = Injection()


class FaultPlan:
    """All rules. `now` is always monotonic seconds."""

    def __init__(self, tenants: Tenants) -> None:
        self.rules: list[Rule] = []
        self._tenants = tenants
        self._numbers = count(1)

    def order(self, wanted: Mapping[str, Any], now: float) -> Rule:
        """One more rule, from its fields; FaultError names the field that is wrong."""
        return self.order_all([wanted], now)[0]

    def order_all(self, wanted: Iterable[object], now: float) -> list[Rule]:
        """More rules, all or none."""
        specs = [read_spec(fields, f"faults[{place}]") for place, fields in enumerate(wanted)]
        for place, spec in enumerate(specs):
            if spec.tenant != "*" and self._tenants.get(spec.tenant) is None:
                known = ", ".join(tenant.tenant_id for tenant in self._tenants)
                raise FaultError(f"faults[{place}].tenant", f"there is no {spec.tenant}; there is {known}")
        made = [self._made(spec, now) for spec in specs]
        self.rules.extend(made)
        return made

    def _made(self, spec: FaultSpec, now: float) -> Rule:
        begins = now + spec.after
        ends = float("inf") if spec.lasts is None else begins + spec.lasts
        return Rule(f"w{next(self._numbers)}", spec, begins, ends, random.Random(spec.seed))  # noqa: S311 - faults is no secret

    def remove(self, rule_id: str) -> bool:
        """Take a rule away; whether it was there."""
        kept = [rule for rule in self.rules if rule.id != rule_id]
        found = len(kept) < len(self.rules)
        self.rules = kept
        return found

    def clear(self) -> None:
        """Take all rules away; what they changed stays changed."""
        self.rules = []

    def due_changes(self, now: float) -> list[Rule]:
        """The rules whose time has come to change tenants by themselves; they count as struck."""
        due = [rule for rule in self.rules if rule.by_itself and not rule.struck and now >= rule.begins]
        for rule in due:
            rule.struck = 1
        return due

    def inject(
        self, tenant: SandboxTenant, call: str, contains: Callable[[str], bool], now: float
    ) -> Injection:
        """What happens to this request. `contains`: whether the message holds a text."""
        if not self.rules:
            return CALM
        inject = Injection()
        for rule in self.rules:
            if _fits(rule, tenant, call, contains, now) and _comes_up(rule, inject):
                rule.struck += 1
                inject.rules.append(rule)
                inject.delay += rule.spec.delay
                inject.late += rule.spec.late
                if rule.spec.answers:
                    inject.answer = rule.spec
        return inject


def _fits(rule: Rule, tenant: SandboxTenant, call: str, contains: Callable[[str], bool], now: float) -> bool:
    spec = rule.spec
    if rule.by_itself or spec.call not in {"*", call} or not rule.begins <= now < rule.ends or rule.spent:
        return False
    if spec.tenant not in {"*", tenant.tenant_id}:
        return False
    return spec.text is None or (call == "post" and contains(spec.text))


def _comes_up(rule: Rule, inject: Injection) -> bool:
    """Whether a rule that fits strikes this time: not taken, not skipped, and by its share."""
    if rule.spec.answers and inject.answer is not None:
        return False
    rule.fitted += 1
    if rule.fitted <= rule.spec.skip:
        return False
    return rule.spec.share >= 1.0 or rule.chance.random() < rule.spec.share


__all__ = ["ANSWERS", "CALM", "CHANGES", "EFFECTS", "FaultError", "FaultPlan", "Injection", "Rule"]
