"""`relay messages`: list, retry, park, drop; a preview and a confirmation before many are changed."""

import sys
from typing import TYPE_CHECKING

import pytest

from relay.core.model import TenantId
from relay.core.ports import Store

if TYPE_CHECKING:
    from tests.cli.conftest import Operator


LIKE = ("--tenant", "ACME", "--document", "Sync.SalesOrder")


def states(operator: "Operator") -> dict[str, str]:
    return {message["message_id"]: message["state"] for message in operator.list_messages()}


# --- listing ----------------------------------------------------------------------------------------------


def test_a_list_as_json_has_the_promised_keys(operator: "Operator") -> None:
    operator.enqueue("m1")
    (message,) = operator.list_messages()
    promised = {"message_id", "tenant_id", "document_name", "state", "reason", "attempts", "created_at"}
    assert promised <= message.keys()
    assert (message["message_id"], message["tenant_id"]) == ("m1", "ACME")
    assert (message["state"], message["reason"], message["attempts"]) == ("pending", None, 0)
    assert message["created_at"].endswith("Z")


def test_a_list_is_filtered_by_tenant_document_and_state(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.enqueue("m2", document="Sync.Shipment")
    operator.enqueue("m3", tenant="GLOBEX")
    operator.run("messages", "park", "m3")

    def ids(*arguments: str) -> list[str]:
        return [one["message_id"] for one in operator.list_messages(*arguments)]

    assert ids("--tenant", "acme") == ["m1", "m2"]
    assert ids("--document", "Sync.Shipment") == ["m2"]
    assert ids("--state", "parked") == ["m3"]
    assert ids("--tenant", "ACME", "--state", "parked") == []


def test_a_list_notes_that_there_are_more(operator: "Operator") -> None:
    operator.enqueue("m1", "m2", "m3")
    ran = operator.run("messages", "list", "--limit", "2", "--json")
    assert [one["message_id"] for one in ran.json] == ["m1", "m2"]
    assert "only the first 2 are shown; see --limit" in ran.err
    assert operator.run("messages", "list", "--limit", "3").err == ""


def test_a_piped_table_has_every_value_in_full(operator: "Operator") -> None:
    operator.enqueue("m" * 250)
    operator.run("messages", "park", "m" * 250, "--reason", "a long reason " * 30 + "\nend")
    ran = operator.run("messages", "list")
    (_, line) = ran.out.splitlines()
    assert line.startswith("m" * 250)
    assert line.endswith("\\nend")


def test_an_empty_list_is_a_note_on_stderr(operator: "Operator") -> None:
    operator.enqueue("m1")
    ran = operator.run("messages", "list", "--state", "delivered")
    assert (ran.code, ran.out, ran.err) == (0, "", "no message matches\n")
    assert operator.list_messages("--state", "delivered") == []


# --- by id ------------------------------------------------------------------------------------------------


def test_park_retry_and_drop_by_id_need_no_confirmation(operator: "Operator") -> None:
    operator.enqueue("m1", "m2")
    ran = operator.run("messages", "park", "m1", "m2", "--reason", "wrong price")
    assert (ran.code, ran.out) == (0, "2 messages parked\n")
    assert operator.list_messages("--state", "parked")[0]["reason"] == "wrong price"
    assert operator.run("messages", "retry", "m1").out == "1 message retried\n"
    assert operator.run("messages", "drop", "m2", "--reason", "obsolete").out == "1 message dropped\n"
    assert states(operator) == {"m1": "pending", "m2": "dropped"}


def test_an_id_that_is_not_there_changes_nothing(operator: "Operator") -> None:
    operator.enqueue("m1")
    ran = operator.run("messages", "park", "m1", "m9")
    assert ran.code == 1
    assert "there is no message m9" in ran.err
    assert states(operator) == {"m1": "pending"}


def test_an_id_in_a_state_that_cannot_be_changed_exits_with_1(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.run("messages", "drop", "m1")
    ran = operator.run("messages", "park", "m1")
    assert ran.code == 1
    assert "0 messages parked" in ran.out
    assert "1 could not be parked" in ran.err


def test_an_id_of_several_tenants_needs_the_tenant(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.enqueue("m1", tenant="GLOBEX")
    ran = operator.run("messages", "park", "m1")
    assert ran.code == 2
    assert "give --tenant" in ran.err
    assert operator.run("messages", "park", "m1", "--tenant", "globex").code == 0
    assert [one["state"] for one in operator.list_messages()] == ["pending", "parked"]


def test_an_action_changes_the_tenants_revision_for_running_relays(operator: "Operator") -> None:
    operator.enqueue("m1")

    async def revision(outbox: Store) -> int:
        return (await outbox.notification()).controls[TenantId("ACME")].revision

    operator.run("messages", "park", "m1")
    before = operator.at_outbox(revision)
    operator.run("messages", "retry", "m1")
    assert operator.at_outbox(revision) > before


# --- many -------------------------------------------------------------------------------------------------


def test_many_are_previewed_and_without_a_terminal_nothing_is_changed(operator: "Operator") -> None:
    operator.enqueue(*(f"m{number}" for number in range(7)))
    ran = operator.run("messages", "park", "--tenant", "ACME")
    assert ran.code == 2
    assert "7 messages would be parked, among them:" in ran.err
    assert "7 of ACME, Sync.SalesOrder, pending" in ran.err
    assert "m0" in ran.err
    assert "m5" not in ran.err
    assert "add --yes" in ran.err
    assert set(states(operator).values()) == {"pending"}


def test_yes_skips_the_confirmation(operator: "Operator") -> None:
    operator.enqueue("m1", "m2")
    operator.enqueue("m3", tenant="GLOBEX")
    ran = operator.run("messages", "park", "--tenant", "ACME", "--yes")
    assert (ran.code, ran.out) == (0, "2 messages parked\n")
    assert states(operator) == {"m1": "parked", "m2": "parked", "m3": "pending"}


@pytest.mark.parametrize(
    ("answer", "state", "code"), [(b"y\n", "parked", 0), (b"n\n", "pending", 1), (b"", "pending", 1)]
)
def test_the_operator_is_asked_for_confirmation(
    operator: "Operator", monkeypatch: pytest.MonkeyPatch, answer: bytes, state: str, code: int
) -> None:
    operator.enqueue("m1", "m2")
    monkeypatch.setattr("relay.cli.bulk.is_interactive", lambda: True)
    ran = operator.run("messages", "park", "--tenant", "ACME", given=answer)
    assert ran.code == code
    assert set(states(operator).values()) == {state}


def test_retry_and_drop_select_parked_messages_by_default(operator: "Operator") -> None:
    operator.enqueue("m1", "m2", "m3")
    operator.run("messages", "park", "m1")
    operator.run("messages", "drop", "m2")
    assert operator.run("messages", "retry", "--tenant", "ACME", "--yes").out == "1 message retried\n"
    assert states(operator) == {"m1": "pending", "m2": "dropped", "m3": "pending"}
    assert operator.run("messages", "retry", "--state", "dropped", "--yes").out == "1 message retried\n"
    assert operator.run("messages", "drop", "--tenant", "ACME", "--yes").out.startswith("0 messages dropped")
    assert operator.run("messages", "drop", "--state", "pending", "--yes").out == "3 messages dropped\n"


def test_a_message_enqueued_after_the_preview_is_not_changed(
    operator: "Operator", monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.enqueue("m1")

    def confirm(*_: object, **__: object) -> None:
        operator.start("enqueue", *LIKE, "--message-id", "m2", __file__).check_returncode()

    operator.set({"RELAY_TENANTS__ACME__MAX_MESSAGE_BYTES": "1000000"})
    monkeypatch.setattr("relay.cli.bulk.is_interactive", lambda: True)
    monkeypatch.setattr("relay.cli.output.confirm", confirm)
    assert operator.run("messages", "park", "--tenant", "ACME").out == "1 message parked\n"
    assert states(operator) == {"m1": "parked", "m2": "pending"}


def test_standard_input_of_these_tests_is_no_terminal() -> None:
    assert not sys.stdin.isatty()
