"""Messages: list, retry, park, drop; a preview and a question before many are changed."""

import sys
from typing import TYPE_CHECKING

import pytest

from relay.core.model import TenantId
from relay.core.ports import Store

if TYPE_CHECKING:
    from tests.cli.conftest import Person


LIKE = ("--tenant", "ACME", "--document", "Sync.SalesOrder")


def states(person: "Person") -> dict[str, str]:
    return {message["message_id"]: message["state"] for message in person.listed()}


# --- listing ----------------------------------------------------------------------------------------------


def test_a_list_as_json_has_the_promised_keys(person: "Person") -> None:
    person.hands_over("m1")
    (message,) = person.listed()
    promised = {"message_id", "tenant_id", "document_name", "state", "reason", "attempts", "created_at"}
    assert promised <= message.keys()
    assert (message["message_id"], message["tenant_id"]) == ("m1", "ACME")
    assert (message["state"], message["reason"], message["attempts"]) == ("pending", None, 0)
    assert message["created_at"].endswith("Z")


def test_a_list_is_filtered_by_tenant_document_and_state(person: "Person") -> None:
    person.hands_over("m1")
    person.hands_over("m2", document="Sync.Shipment")
    person.hands_over("m3", tenant="GLOBEX")
    person.runs("messages", "park", "m3")

    def ids(*arguments: str) -> list[str]:
        return [one["message_id"] for one in person.listed(*arguments)]

    assert ids("--tenant", "acme") == ["m1", "m2"]
    assert ids("--document", "Sync.Shipment") == ["m2"]
    assert ids("--state", "parked") == ["m3"]
    assert ids("--tenant", "ACME", "--state", "parked") == []


def test_a_list_says_when_there_are_more(person: "Person") -> None:
    person.hands_over("m1", "m2", "m3")
    ran = person.runs("messages", "list", "--limit", "2", "--json")
    assert [one["message_id"] for one in ran.json] == ["m1", "m2"]
    assert "these are the first 2; see --limit" in ran.err
    assert person.runs("messages", "list", "--limit", "3").err == ""


def test_a_piped_table_holds_every_value_whole(person: "Person") -> None:
    person.hands_over("m" * 250)
    person.runs("messages", "park", "m" * 250, "--reason", "a long reason " * 30 + "\nend")
    ran = person.runs("messages", "list")
    (_, line) = ran.out.splitlines()
    assert line.startswith("m" * 250)
    assert line.endswith("\\nend")


def test_an_empty_list_is_said_beside_the_result(person: "Person") -> None:
    person.hands_over("m1")
    ran = person.runs("messages", "list", "--state", "delivered")
    assert (ran.code, ran.out, ran.err) == (0, "", "no such messages\n")
    assert person.listed("--state", "delivered") == []


# --- by id ------------------------------------------------------------------------------------------------


def test_park_retry_and_drop_by_id_ask_nothing(person: "Person") -> None:
    person.hands_over("m1", "m2")
    ran = person.runs("messages", "park", "m1", "m2", "--reason", "wrong price")
    assert (ran.code, ran.out) == (0, "2 messages parked\n")
    assert person.listed("--state", "parked")[0]["reason"] == "wrong price"
    assert person.runs("messages", "retry", "m1").out == "1 message retried\n"
    assert person.runs("messages", "drop", "m2", "--reason", "obsolete").out == "1 message dropped\n"
    assert states(person) == {"m1": "pending", "m2": "dropped"}


def test_an_id_that_is_not_there_changes_nothing(person: "Person") -> None:
    person.hands_over("m1")
    ran = person.runs("messages", "park", "m1", "m9")
    assert ran.code == 1
    assert "there is no message m9" in ran.err
    assert states(person) == {"m1": "pending"}


def test_an_id_in_a_state_that_cannot_be_changed_is_trouble(person: "Person") -> None:
    person.hands_over("m1")
    person.runs("messages", "drop", "m1")
    ran = person.runs("messages", "park", "m1")
    assert ran.code == 1
    assert "0 messages parked" in ran.out
    assert "1 could not be parked" in ran.err


def test_an_id_that_several_tenants_use_must_be_told_apart(person: "Person") -> None:
    person.hands_over("m1")
    person.hands_over("m1", tenant="GLOBEX")
    ran = person.runs("messages", "park", "m1")
    assert ran.code == 2
    assert "say which with --tenant" in ran.err
    assert person.runs("messages", "park", "m1", "--tenant", "globex").code == 0
    assert [one["state"] for one in person.listed()] == ["pending", "parked"]


def test_a_decision_reaches_a_running_relay_by_the_tenants_revision(person: "Person") -> None:
    person.hands_over("m1")

    async def revision(outbox: Store) -> int:
        return (await outbox.notification()).controls[TenantId("ACME")].revision

    person.runs("messages", "park", "m1")
    before = person.at_outbox(revision)
    person.runs("messages", "retry", "m1")
    assert person.at_outbox(revision) > before


# --- many -------------------------------------------------------------------------------------------------


def test_many_are_shown_first_and_without_a_person_to_ask_nothing_is_done(person: "Person") -> None:
    person.hands_over(*(f"m{number}" for number in range(7)))
    ran = person.runs("messages", "park", "--tenant", "ACME")
    assert ran.code == 2
    assert "7 messages would be parked, among them:" in ran.err
    assert "7 of ACME, Sync.SalesOrder, pending" in ran.err
    assert "m0" in ran.err
    assert "m5" not in ran.err
    assert "add --yes" in ran.err
    assert set(states(person).values()) == {"pending"}


def test_yes_skips_the_question(person: "Person") -> None:
    person.hands_over("m1", "m2")
    person.hands_over("m3", tenant="GLOBEX")
    ran = person.runs("messages", "park", "--tenant", "ACME", "--yes")
    assert (ran.code, ran.out) == (0, "2 messages parked\n")
    assert states(person) == {"m1": "parked", "m2": "parked", "m3": "pending"}


@pytest.mark.parametrize(
    ("answer", "state", "code"), [(b"y\n", "parked", 0), (b"n\n", "pending", 1), (b"", "pending", 1)]
)
def test_a_person_is_asked_and_the_answer_counts(
    person: "Person", monkeypatch: pytest.MonkeyPatch, answer: bytes, state: str, code: int
) -> None:
    person.hands_over("m1", "m2")
    monkeypatch.setattr("relay.cli.bulk.asks", lambda: True)
    ran = person.runs("messages", "park", "--tenant", "ACME", given=answer)
    assert ran.code == code
    assert set(states(person).values()) == {state}


def test_retry_and_drop_mean_the_parked_ones_unless_told_otherwise(person: "Person") -> None:
    person.hands_over("m1", "m2", "m3")
    person.runs("messages", "park", "m1")
    person.runs("messages", "drop", "m2")
    assert person.runs("messages", "retry", "--tenant", "ACME", "--yes").out == "1 message retried\n"
    assert states(person) == {"m1": "pending", "m2": "dropped", "m3": "pending"}
    assert person.runs("messages", "retry", "--state", "dropped", "--yes").out == "1 message retried\n"
    assert person.runs("messages", "drop", "--tenant", "ACME", "--yes").out.startswith("0 messages dropped")
    assert person.runs("messages", "drop", "--state", "pending", "--yes").out == "3 messages dropped\n"


def test_what_arrives_between_the_preview_and_the_answer_is_not_meant(
    person: "Person", monkeypatch: pytest.MonkeyPatch
) -> None:
    person.hands_over("m1")

    def answered(*_: object, **__: object) -> None:
        person.starts("enqueue", *LIKE, "--message-id", "m2", __file__).check_returncode()

    person.sets({"RELAY_TENANTS__ACME__MAX_MESSAGE_BYTES": "1000000"})
    monkeypatch.setattr("relay.cli.bulk.asks", lambda: True)
    monkeypatch.setattr("typer.confirm", answered)
    assert person.runs("messages", "park", "--tenant", "ACME").out == "1 message parked\n"
    assert states(person) == {"m1": "parked", "m2": "pending"}


def test_standard_input_of_these_tests_is_no_terminal() -> None:
    assert not sys.stdin.isatty()
