"""The state of every tenant, in the order in which an operator should look."""

from datetime import UTC, datetime
from typing import Any

from relay.core.admin import Count
from relay.core.model import StateName, TenantId, TenantState
from relay.core.ports import Control
from relay.reports.overview import Overview

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def overview(**tenants: tuple[StateName, Count]) -> Overview:
    states = {
        TenantId(name): TenantState(TenantId(name), state, "", NOW) for name, (state, _) in tenants.items()
    }
    counts = {TenantId(name): count for name, (_, count) in tenants.items()}
    configured: Any = dict.fromkeys(states, "key")
    return Overview(NOW, configured, counts, states, {}, [])


def waiting(seconds: float | None) -> Count:
    return Count(pending=1, oldest_due_seconds=seconds)


def test_what_needs_an_operator_comes_first_then_failures_then_the_longest_wait() -> None:
    seen = overview(
        A=("idle", Count()),
        B=("sending", waiting(5)),
        C=("sending", waiting(50)),
        D=("backing-off", waiting(1)),
        E=("halted", waiting(1)),
        F=("paused", Count()),
        G=("idle", waiting(None)),
    )
    assert [tenant.tenant_id for tenant in seen.by_urgency] == ["E", "D", "C", "B", "G", "A", "F"]
    assert [tenant.tenant_id for tenant in seen.tenants] == sorted("ABCDEFG")


def test_a_tenant_with_nothing_but_an_operators_change_is_known() -> None:
    seen = Overview(NOW, {}, {}, {}, {TenantId("X"): Control(1, None)}, [])
    assert (seen.knows(TenantId("X")), seen.knows(TenantId("Y"))) == (True, False)
    assert seen.tenants == []
