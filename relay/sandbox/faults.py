"""Faults to inject: what goes wrong, for which tenant and call, how often and when.

A fault applies to a request that matches it. All faults that match apply together, in the order they were
added: delays add up; of two that both give an answer only the first applies.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from relay.sandbox.fault_spec import FaultError, FaultSpec, read_spec
from relay.sandbox.tenants import SandboxTenant, Tenants


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

    def matches(
        self, tenant: SandboxTenant, call: str, contains: Callable[[str], bool] | None, now: float
    ) -> bool:
        """Whether a request is one of those that it is for."""
        spec = self.spec
        if spec.needs_no_request or spec.call not in {"*", call} or self.state(now) != "active":
            return False
        if spec.tenant not in {"*", tenant.tenant_id}:
            return False
        return spec.text is None or (call == "post" and contains is not None and contains(spec.text))

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
    read_rate: float | None = None
    answer: FaultSpec | None = None


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
        self,
        injection: Injection,
        tenant: SandboxTenant,
        call: str,
        contains: Callable[[str], bool] | None,
        now: float,
    ) -> list[Fault]:
        """Add to an injection what happens to this request; the faults that were added to it.

        `contains`: whether the message contains a text; None before the message is read.
        """
        added: list[Fault] = []
        for fault in self.faults:
            spec = fault.spec
            if spec.precedes_body is not (contains is None) or not fault.matches(tenant, call, contains, now):
                continue
            if (spec.answers and injection.answer is not None) or not fault.is_selected():
                continue
            fault.applied += 1
            added.append(fault)
            injection.delay += spec.delay
            injection.late += spec.late
            injection.read_rate = spec.read_rate or injection.read_rate
            if spec.answers:
                injection.answer = spec
        injection.faults.extend(added)
        return added
