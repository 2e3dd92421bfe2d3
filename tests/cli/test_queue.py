"""What waits and why: the queue's shape, the next tries, and a tenant's story, with a relay and without one."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from relay.core.model import DocumentName, Released, RowId, StateName, TenantId, TenantState

if TYPE_CHECKING:
    from relay.core.ports import Store
    from tests.cli.conftest import Person

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SOON, LATER = (datetime.now(UTC) + timedelta(minutes=minutes) for minutes in (30, 60))


def relay_says(
    person: "Person",
    state: StateName,
    reason: str = "",
    next_try: datetime | None = None,
    documents: tuple[DocumentName, ...] = (),
) -> None:
    """A relay process beats and reports what ACME does."""

    async def work(outbox: "Store") -> None:
        await outbox.beat("host-1", {"host": "host"})
        await outbox.report(
            [TenantState(TenantId("ACME"), state, reason, SINCE, next_try, documents=documents)]
        )

    person.at_outbox(work)


def blame(person: "Person", row: int = 1) -> None:
    """The message upset ION, and waits."""

    async def work(outbox: "Store") -> None:
        await outbox.settle([(RowId(row), Released("HTTP 500: upset", counted=True, wait=60))])

    person.at_outbox(work)


# --- the shape ------------------------------------------------------------------------------------


def test_an_empty_queue_has_no_shape(person: "Person") -> None:
    person.runs("outbox", "upgrade")
    ran = person.runs("queue")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing waits\n")
    assert person.runs("queue", "--json").json["lines"] == []


def test_the_shape_is_told_by_tenant_or_by_document(person: "Person") -> None:
    person.hands_over("m1", "m2")
    person.hands_over("m3", document="Sync.Shipment")
    person.hands_over("m4", tenant="GLOBEX")
    ran = person.runs("queue")
    assert ran.code == 0
    assert [line.split()[:3] for line in ran.out.splitlines()[2:]] == [
        ["all", "4", "4"],
        ["ACME", "3", "3"],
        ["GLOBEX", "1", "1"],
    ]
    found = person.runs("queue", "--by", "document", "--json").json
    assert [(line["document_name"], line["total"]) for line in found["lines"]] == [
        ("Sync.SalesOrder", 3),
        ("Sync.Shipment", 1),
    ]
    assert found["ages_seconds"] == [60, 300, 900, 3600, 14400, 86400]


def test_one_tenants_shape_is_by_document_unless_said_otherwise(person: "Person") -> None:
    person.hands_over("m1")
    person.hands_over("m2", tenant="GLOBEX")
    found = person.runs("queue", "--tenant", "globex", "--json").json
    assert (found["by"], found["total"]) == ("document", 1)
    assert person.runs("queue", "--tenant", "globex", "--by", "tenant", "--json").json["by"] == "tenant"


def test_what_was_not_counted_is_said(person: "Person") -> None:
    person.hands_over("m1", "m2", "m3")
    ran = person.runs("queue", "--limit", "2")
    assert [line.split()[:2] for line in ran.out.splitlines()[2:]] == [["all", "2+"], ["ACME", "2+"]]
    assert person.runs("queue", "--limit", "2", "--json").json["more"] is True


# --- the next tries -------------------------------------------------------------------------------


def tries(person: "Person") -> list[tuple[Any, ...]]:
    found = person.runs("next", "--json").json
    return [
        (one["tenant_id"], one["message_id"], one["rule"], one["at"] is not None) for one in found["tries"]
    ]


def test_where_nothing_waits_there_is_no_next_try(person: "Person") -> None:
    person.runs("outbox", "upgrade")
    relay_says(person, "idle")
    ran = person.runs("next")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing waits for a time of its own\n")


def test_what_can_go_is_no_next_try(person: "Person") -> None:
    person.hands_over("m1")
    relay_says(person, "sending")
    assert tries(person) == []


def test_without_a_relay_nothing_is_tried(person: "Person") -> None:
    person.hands_over("m1")
    ran = person.runs("next")
    assert ran.out.startswith("no relay is running; start one with: relay run\n")
    assert "not by itself" in ran.out
    assert person.runs("next", "--json").json["running"] is False
    assert tries(person) == [("ACME", None, "no-relay", False)]


def test_the_soonest_stands_first_and_what_needs_a_person_last(person: "Person") -> None:
    person.hands_over("m1", "m2")
    person.hands_over("m3", tenant="GLOBEX")
    person.runs("tenants", "pause", "GLOBEX", "--reason", "change night")
    blame(person)
    relay_says(person, "backing-off", "HTTP 503", SOON)
    assert tries(person) == [
        ("ACME", "m1", "back-off", True),
        ("ACME", None, "backing-off", True),
        ("GLOBEX", None, "paused", False),
    ]
    ran = person.runs("next")
    assert [line.split("  ")[-1].strip() for line in ran.out.splitlines()[1:]] == [
        "HTTP 500: upset",
        "HTTP 503",
        "change night",
    ]


@pytest.mark.parametrize("state", ["halted", "paused"])
def test_while_a_tenant_sends_nothing_no_message_of_its_is_tried(person: "Person", state: StateName) -> None:
    person.hands_over("m1")
    blame(person)
    relay_says(person, state, "HTTP 403", SOON)
    assert [(rule, message) for _, message, rule, _ in tries(person)] == [(state, None)]


def test_a_document_that_is_not_accepted_is_asked_for_again(person: "Person") -> None:
    person.hands_over("m1")
    relay_says(person, "idle", "", SOON, (DocumentName("Sync.SalesOrder"),))
    (one,) = person.runs("next", "--json").json["tries"]
    assert (one["rule"], one["code"]) == ("not-accepted", "RELAY-108")
    assert one["at"] == SOON.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_tenant_whose_ion_is_asked_is_tried_now(person: "Person") -> None:
    person.hands_over("m1")
    relay_says(person, "pinging")
    assert tries(person) == [("ACME", None, "opening", True)]
    assert person.runs("next").out.splitlines()[1].startswith("now")


# --- a tenant's story -----------------------------------------------------------------------------


def test_a_tenant_tells_its_state_its_documents_and_its_held_lanes(person: "Person") -> None:
    person.hands_over("m1", "m2")
    person.hands_over("m3", document="Sync.Shipment")
    blame(person)
    relay_says(person, "sending", "", SOON, (DocumentName("Sync.Shipment"),))
    found = person.runs("tenants", "show", "acme", "--json").json
    assert (found["state"], found["relay"], found["ordering"]) == ("sending", "host-1", "key")
    assert [(one["document_name"], one["accepted"], one["total"]) for one in found["documents"]] == [
        ("Sync.SalesOrder", True, 2),
        ("Sync.Shipment", False, 1),
    ]
    (lane,) = found["lanes"]
    assert (lane["message_id"], lane["reason"], lane["behind"]) == ("m1", "HTTP 500: upset", 1)
    assert [wait["rule"] for wait in found["waits_for"]] == ["not-accepted"]
    ran = person.runs("tenants", "show", "acme")
    assert ran.out.startswith("tenant ACME is sending for ")
    assert "carried by host-1: waiting to be accepted by ION: Sync.Shipment\n" in ran.out
    assert "  3 pending, 0 delivered, 0 parked, 0 dropped\n" in ran.out
    assert "Its messages wait for: Sync.Shipment is not accepted by ION" in ran.out
    assert "the lane without a key is held by m1, tried again in " in ran.out


def test_whether_a_document_is_accepted_is_not_known_while_ion_is_not_sent_to(person: "Person") -> None:
    person.hands_over("m1")
    relay_says(person, "backing-off", "HTTP 503", LATER)
    found = person.runs("tenants", "show", "ACME", "--json").json
    assert [one["accepted"] for one in found["documents"]] == [None]
    assert [(wait["rule"], wait["next_try"]) for wait in found["waits_for"]] == [
        ("backing-off", found["next_try"])
    ]
    assert "not known" in person.runs("tenants", "show", "ACME").out


def test_a_tenant_without_waiting_messages_waits_for_nothing(person: "Person") -> None:
    person.runs("outbox", "upgrade")
    found = person.runs("tenants", "show", "ACME", "--json").json
    assert (found["waits_for"], found["documents"], found["lanes"]) == ([], [], [])
    assert person.runs("tenants", "show", "ACME").out == (
        "tenant ACME is stopped: no relay is running\n  0 pending, 0 delivered, 0 parked, 0 dropped\n"
    )


def test_a_tenant_nobody_knows_has_no_story(person: "Person") -> None:
    person.runs("outbox", "upgrade")
    ran = person.runs("tenants", "show", "OTHER")
    assert (ran.code, ran.err) == (2, "relay: there is no tenant OTHER; there are: ACME, GLOBEX\n")
