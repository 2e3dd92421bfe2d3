"""What is shown of a tenant that needs an operator: how urgent it is, why, and what to do first."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relay.core.admin import Count
from relay.core.model import NOT_ACCEPTED, DocumentName, StateName, TenantId, TenantState
from relay.core.ports import Control
from relay.reports.advice import advice
from relay.reports.overview import Overview, TenantStatus

NOW = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
ACME = TenantId("ACME_PRD")
SHIPMENT = (DocumentName("Sync.Shipment"),)


def tenant(
    state: StateName,
    kind: str = "",
    reason: str = "",
    count: Count | None = None,
    documents: tuple[DocumentName, ...] = (),
) -> TenantStatus:
    live = TenantState(ACME, state, reason, NOW, kind=kind, documents=documents)
    return Overview(NOW, {ACME: "key"}, {ACME: count or Count()}, {ACME: live}, {}, []).tenant(ACME)


WAITING, PARKED = Count(pending=1), Count(parked=2)


@pytest.mark.parametrize(
    ("one", "tone", "step", "summary", "word"),
    [
        (tenant("idle"), "fine", None, "", ""),
        (tenant("sending", count=WAITING), "fine", None, "", ""),
        (
            tenant("idle", count=PARKED),
            "attention",
            "see-parked",
            "2 parked messages need an operator",
            "Retry",
        ),
        (
            tenant("idle", count=Count(parked=1)),
            "attention",
            "see-parked",
            "1 parked message needs",
            "was parked",
        ),
        (
            tenant("idle", NOT_ACCEPTED, "", WAITING, SHIPMENT),
            "attention",
            "ask",
            "accepted by ION: Sync.Shipment",
            "ION Desk",
        ),
        (
            tenant("backing-off", "broken", "HTTP 503", WAITING),
            "attention",
            "ask",
            "HTTP 503",
            "automatically",
        ),
        (tenant("pinging", "broken", "HTTP 503", WAITING), "attention", "ask", "HTTP 503", "automatically"),
        (tenant("initialising", "broken", "HTTP 503"), "attention", "ask", "HTTP 503", "automatically"),
        (tenant("sending", "broken", "HTTP 503", WAITING, SHIPMENT), "attention", "ask", "HTTP 503", "again"),
        (tenant("initialising"), "fine", None, "", ""),
        (tenant("halted", "forbidden", "HTTP 403", PARKED), "halted", "ask", "HTTP 403; 2 parked", "Correct"),
        (tenant("paused", "", "moving", PARKED), "paused", "resume", "moving; 2 parked", "resumes"),
    ],
)
def test_a_tenant_says_what_needs_an_operator(
    one: TenantStatus, tone: str, step: str | None, summary: str, word: str
) -> None:
    assert (one.tone, one.next_step) == (tone, step)
    assert summary in one.summary
    assert bool(one.summary) == bool(summary)
    assert word in advice(one)
    assert bool(advice(one)) == bool(step)
    assert "relay tenants" not in advice(one)


def test_without_a_relay_it_is_said_what_to_do() -> None:
    seen = Overview(NOW, {ACME: "key"}, {ACME: WAITING}, {}, {}, [])
    assert "until a relay runs" in advice(seen.tenant(ACME))
    assert seen.tenant(ACME).code == "RELAY-173"
    away = replace(seen.tenant(ACME), code=None)
    assert "reload the settings" in advice(away)
    assert "settings of a relay" in advice(replace(away, state="unconfigured"))
    assert advice(replace(away, state="unconfigured", count=Count())) == ""


def test_while_ion_is_tried_again_the_place_in_the_list_stays() -> None:
    counts = {TenantId(name): Count(pending=1, oldest_due_seconds=5) for name in "ABC"}
    places = set()
    for state in ("backing-off", "pinging", "initialising", "sending"):
        live = {TenantId("C"): TenantState(TenantId("C"), state, "HTTP 503", NOW, kind="broken")}
        live |= {TenantId(name): TenantState(TenantId(name), "sending", "", NOW) for name in "AB"}
        seen = Overview(NOW, dict.fromkeys(counts, "key"), counts, live, {}, [])
        places.add(tuple(one.tenant_id for one in seen.by_urgency))
    assert places == {("C", "A", "B")}


def test_a_tenant_without_a_waiting_message_whose_credentials_are_refused_is_not_last() -> None:
    halted = TenantState(TenantId("Z"), "halted", "HTTP 401", NOW, kind="unauthorised")
    idle = TenantState(ACME, "idle", "", NOW)
    states = {halted.tenant_id: halted, ACME: idle}
    controls = {ACME: Control(1, None)}
    seen = Overview(NOW, dict.fromkeys(states, "key"), {}, states, controls, [])
    assert [one.tenant_id for one in seen.by_urgency] == ["Z", ACME]
