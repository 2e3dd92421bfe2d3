"""The header rules of ION: every limit at both sides, every message with the field and the mend."""

import dataclasses
import re
import string
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.core import model
from relay.core.model import (
    DEFAULT_TO,
    Delivered,
    DocumentName,
    Draft,
    LogicalId,
    Message,
    MessageId,
    OrderingKey,
    Parked,
    Problem,
    Released,
    RowId,
    TenantId,
    TenantState,
    classic_message_id,
    document_name_advice,
    document_name_problem,
    draft_problems,
    extended_message_id,
    hop_message_id,
    logical_id_problem,
    message_id_problem,
    ordering_key_problem,
    parameter_problems,
    split_message_id,
    tenant_id_problem,
)

SIXTEEN = st.binary(min_size=16, max_size=16)

# --- tenant ids -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["A", "ACME_PRD", "infor", "_", "0", "A" * 22, "NAME_TST"])
def test_letters_digits_and_underscores_up_to_22_are_a_tenant_id(text: str) -> None:
    assert tenant_id_problem(text) is None


@pytest.mark.parametrize("text", ["", "A" * 23, "ACME PRD", "ACME-PRD", "ÄCME", "ACME\n", "ACME.PRD", "٣"])
def test_anything_else_is_no_tenant_id_and_the_mend_is_said(text: str) -> None:
    problem = tenant_id_problem(text)
    assert problem is not None
    assert problem == Problem(
        "tenant_id",
        f"{text!r} is not a tenant id",
        "use 1 to 22 letters, digits or underscores, e.g. ACME_PRD",
    )


@given(st.text(max_size=30))
def test_a_tenant_id_is_exactly_what_the_guide_says(text: str) -> None:
    letters = set(string.ascii_letters + string.digits + "_")
    assert (tenant_id_problem(text) is None) == (1 <= len(text) <= 22 and set(text) <= letters)


# --- texts: document names, message ids, ordering keys --------------------------------------------

TEXTS = [
    (document_name_problem, "document_name", 100),
    (message_id_problem, "message_id", 250),
    (ordering_key_problem, "ordering_key", 250),
]


@pytest.mark.parametrize(("check", "name", "limit"), TEXTS, ids=[name for _, name, _ in TEXTS])
def test_printable_text_up_to_the_limit_is_taken(check: object, name: str, limit: int) -> None:
    assert callable(check)
    for text in ("x", "x" * limit, "Sync.SalesOrder", "My_PurchaseOrder_JSON", "a b", "ключ", "é" * limit):
        assert check(text) is None, name


@pytest.mark.parametrize(("check", "name", "limit"), TEXTS, ids=[name for _, name, _ in TEXTS])
def test_empty_too_long_blank_and_unprintable_text_is_refused(check: object, name: str, limit: int) -> None:
    assert callable(check)
    hint = f"use 1 to {limit} printable characters"
    for text in ("", " ", "   ", "a\nb", "\x00", "tab\t", "\x7f", "\u200b"):
        assert check(text) == Problem(name, f"{text!r} cannot be used", hint)
    assert check("x" * (limit + 1)) == Problem(name, f"has {limit + 1} characters", hint)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("Sync.SalesOrder", None),
        ("Acknowledge.SalesOrder", None),  # 11: the verb's limit
        ("Acknowledged.SalesOrder", "the verb Acknowledged is longer than the advised 11 characters"),
        ("Sync." + "N" * 30, None),
        ("Sync." + "N" * 31, f"the noun {'N' * 31} is longer than the advised 30 characters"),
        ("Acknowledged." + "N" * 31, "the verb Acknowledged is longer than the advised 11 characters"),
        ("My_PurchaseOrder_JSON_that_is_very_long_indeed", None),
        ("acknowledgement.SalesOrder", None),
        ("Acknowledgement.Sales.Order", None),
        ("Acknowledgement.", None),
    ],
)
def test_long_verbs_and_nouns_are_advised_against_and_other_names_are_nobodys_business(
    name: str, advice: str | None
) -> None:
    assert document_name_advice(name) == advice


# --- logical ids ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "lid://default",
        "lid://infor.eam.my_eam_1",
        "lid://acme.orders.1",
        "lid://acme.orders.1:connection",
        "lid://acme.orders.1:con.nec-tion_2/path/of.two",
        "lid://acme.orders.1/path",
        "lid://" + "a" * 244,
    ],
)
def test_a_logical_id_of_the_guides_form_is_taken(text: str) -> None:
    assert logical_id_problem(text) is None


@pytest.mark.parametrize(
    "text", ["", "acme.orders.1", "LID://acme", "lid:/acme", " lid://acme", "http://acme"]
)
def test_a_logical_id_without_lid_says_to_write_it_before(text: str) -> None:
    assert logical_id_problem(text) == Problem(
        "logical_id", f"{text!r} does not begin with lid://", "write lid:// before it"
    )


@pytest.mark.parametrize(
    "text",
    [
        "lid://",
        "lid://Acme",
        "lid://acme..orders",
        "lid://.acme",
        "lid://acme.",
        "lid://acme:",
        "lid://acme:a:b",
        "lid://acme/",
        "lid://acme//b",
        "lid://acme orders",
        "lid://acme\n",
        "lid://ächme",
    ],
)
def test_another_form_of_logical_id_is_refused_under_the_name_of_its_field(text: str) -> None:
    hint = "use lid:// and at most 250 of a-z 0-9 . _ -, e.g. lid://acme.orders.1"
    what = f"{text!r} is not a logical id"
    assert logical_id_problem(text) == Problem("logical_id", what, hint)
    assert logical_id_problem(text, "to_logical_id") == Problem("to_logical_id", what, hint)


def test_a_logical_id_has_at_most_250_characters_and_long_ones_are_shown_cropped() -> None:
    text = "lid://" + "a" * 245
    problem = logical_id_problem(text)
    assert problem is not None
    assert problem.what == f"{text[:60]!r}… is not a logical id"
    assert logical_id_problem(text[:-1]) is None


@pytest.mark.parametrize(("length", "cropped"), [(60, False), (61, True)])
def test_a_wrong_value_is_shown_up_to_60_characters(length: int, cropped: bool) -> None:
    problem = logical_id_problem("x" * length)
    assert problem is not None
    shown = repr("x" * 60) + ("…" if cropped else "")
    assert problem.what == f"{shown} does not begin with lid://"


def test_a_problem_reads_as_one_sentence() -> None:
    assert str(Problem("payload", "is empty", "hand it over")) == "payload: is empty; hand it over"


# --- optional IMS properties ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "limit"),
    [("accountingEntity", 22), ("location", 22), ("revisionId", 22), ("documentId", 100), ("batchId", 250)],
)
def test_text_properties_have_the_guides_limits(name: str, limit: int) -> None:
    assert parameter_problems({name: "x" * limit}) == []
    assert parameter_problems({name: "x"}) == []
    for wrong in ("", "x" * (limit + 1), 7, None, True, ["x"]):
        assert parameter_problems({name: wrong}) == [
            Problem(f"parameters.{name}", "is wrong", f"give a text of 1 to {limit} characters")
        ]


@pytest.mark.parametrize("name", ["variationId", "batchSequence", "batchSize", "batchRevision"])
def test_whole_number_properties_go_from_zero_to_the_guides_limit(name: str) -> None:
    for fine in (0, 1, 2**63 - 1):
        assert parameter_problems({name: fine}) == []
    for wrong in (-1, 2**63, 1.0, "1", True, False, None):
        assert parameter_problems({name: wrong}) == [
            Problem(f"parameters.{name}", "is wrong", "give a whole number from 0 to 2^63-1")
        ]


def test_the_batch_abort_indicator_is_true_or_false() -> None:
    for fine in (True, False):
        assert parameter_problems({"batchAbortIndicator": fine}) == []
    for wrong in (0, 1, "true", None):
        assert parameter_problems({"batchAbortIndicator": wrong}) == [
            Problem("parameters.batchAbortIndicator", "is wrong", "give true or false")
        ]


@pytest.mark.parametrize("name", ["instances", "source"])
def test_properties_whose_types_differ_between_sources_pass_as_they_are(name: str) -> None:
    for value in (1, "x", ["x"], {"a": 1}, None, True):
        assert parameter_problems({name: value}) == []


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("documentName", "document_name"),
        ("messageId", "message_id"),
        ("toLogicalId", "to_logical_id"),
        ("fromLogicalId", "the tenant's logical id in the settings"),
        ("encoding", "nothing: the relay decides"),
        ("characterSet", "nothing: it is always UTF-8"),
    ],
)
def test_what_has_a_column_of_its_own_is_no_parameter(name: str, instead: str) -> None:
    assert parameter_problems({name: "x"}) == [
        Problem(f"parameters.{name}", "is not a parameter", f"use {instead}")
    ]


def test_custom_properties_are_texts_with_an_alphanumeric_name() -> None:
    assert parameter_problems({"custom_Priority": "high", "custom_" + "a" * 250: ""}) == []
    for name in ("custom_", "custom_a-b", "custom_a b", "custom_ä", "custom_" + "a" * 251):
        assert parameter_problems({name: "x"}) == [
            Problem(
                f"parameters.{name[:80]}",
                "is not a custom property's name",
                "use custom_ and 1 to 250 letters or digits",
            )
        ]
    for wrong in (1, None, True, ["x"]):
        assert parameter_problems({"custom_A": wrong}) == [
            Problem("parameters.custom_A", "is wrong", "give a text")
        ]


def test_a_trace_is_named_as_w3c_writes_it() -> None:
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    for fine in (f"00-{trace}-{span}-01", f"00-{trace}-{span}-00", f"cc-{trace}-{span}-01"):
        assert parameter_problems({"traceparent": fine}) == []
    wrongs: tuple[object, ...] = (
        *("", None, 1, [], f"00-{trace}-{span}", f"00-{trace}-{span}-01\n", f"00-{trace}-{span}-01-x"),
        *(f"ff-{trace}-{span}-01", f"00-{'0' * 32}-{span}-01", f"00-{trace}-{'0' * 16}-01"),
        *(f"00-{trace.upper()}-{span}-01", f"00-{trace[1:]}-{span}-01", f"00-{trace}-{span[1:]}-01"),
    )
    for wrong in wrongs:
        assert parameter_problems({"traceparent": wrong}) == [
            Problem(
                "parameters.traceparent", "is wrong", "give a W3C traceparent, 00-…-…-01, or leave it out"
            )
        ]


@pytest.mark.parametrize("name", ["variationID", "Custom_A", "", "tenantId", "custom"])
def test_a_misspelt_property_is_refused_by_name(name: str) -> None:
    assert parameter_problems({name: "x"}) == [
        Problem(
            f"parameters.{name}", "is not an IMS property", "check its spelling, or name it custom_<Name>"
        )
    ]


def test_all_wrong_properties_are_named_at_once() -> None:
    wrong = {"variationId": -1, "documentId": "fine", "nonsense": 1}
    assert [problem.field for problem in parameter_problems(wrong)] == [
        "parameters.variationId",
        "parameters.nonsense",
    ]


# --- drafts ---------------------------------------------------------------------------------------

FINE = Draft(TenantId("ACME_PRD"), DocumentName("Sync.SalesOrder"), b"<x/>")


def test_three_things_are_enough_for_a_message() -> None:
    assert draft_problems(FINE) == []
    assert (FINE.message_id, FINE.ordering_key, dict(FINE.parameters)) == (None, None, {})
    assert FINE.to_logical_id == DEFAULT_TO == "lid://default"
    full = dataclasses.replace(
        FINE,
        message_id=MessageId("m" * 250),
        ordering_key=OrderingKey("k"),
        to_logical_id=LogicalId("lid://acme.erp.1"),
        parameters={"variationId": 4},
    )
    assert draft_problems(full) == []


def test_everything_that_is_wrong_with_a_draft_is_named_at_once() -> None:
    draft = Draft(
        TenantId("not ok"),
        DocumentName(""),
        b"",
        MessageId(""),
        LogicalId("default"),
        OrderingKey("\n"),
        {"variationId": "1"},
    )
    assert [problem.field for problem in draft_problems(draft)] == [
        "tenant_id", "document_name", "message_id", "to_logical_id", "ordering_key", "payload",
        "parameters.variationId",
    ]  # fmt: skip
    assert draft_problems(dataclasses.replace(FINE, payload=b"")) == [
        Problem("payload", "is empty", "hand over the document's bytes")
    ]


# --- message ids ----------------------------------------------------------------------------------


@given(SIXTEEN)
@example(bytes(16))
@example(b"\xff" * 16)
def test_a_classic_message_id_is_a_version_4_uuid_without_hyphens(raw: bytes) -> None:
    made = classic_message_id(raw)
    assert re.fullmatch("[0-9a-f]{32}", made)
    parsed = uuid.UUID(made)
    assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
    assert made == uuid.UUID(bytes=raw, version=4).hex
    assert message_id_problem(made) is None


def test_the_examples_in_the_docstring_are_true() -> None:
    assert classic_message_id(bytes(16)) == "00000000000040008000000000000000"


MARK = ":-ION-:"
sources = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from([MARK, "a", "-", ":", "0" * 32]), max_size=8).map("".join),
)


@given(sources, SIXTEEN)
@example(source="order 7" + MARK + "0" * 32, raw=bytes(16))
@example(source="a\nb", raw=bytes(16))
@example(source="", raw=bytes(16))
def test_splitting_is_the_inverse_of_joining_whatever_the_source_holds(source: str, raw: bytes) -> None:
    joined = extended_message_id(source, raw)
    assert joined == source[:128] + MARK + classic_message_id(raw)
    assert split_message_id(joined) == (source[:128], classic_message_id(raw))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 250])
def test_a_source_id_is_cropped_to_128_characters_and_the_whole_fits_the_limit(length: int) -> None:
    joined = extended_message_id("s" * length, bytes(16))
    assert len(joined) == min(length, 128) + 7 + 32
    assert len(joined) <= model.MAX_MESSAGE_ID
    assert joined[-39:-32] == MARK


def test_a_network_hop_takes_the_incoming_id_for_the_sources() -> None:
    first = extended_message_id("ORDER-7", bytes(16))
    second = hop_message_id(first, b"\xff" * 16)
    one, two = classic_message_id(bytes(16)), classic_message_id(b"\xff" * 16)
    assert second == f"ORDER-7{MARK}{one}{MARK}{two}"
    assert split_message_id(second) == (first, two)


@pytest.mark.parametrize(
    "text",
    [
        "0" * 32,
        "order-7",
        "",
        "order" + MARK + "0" * 31,
        "order" + MARK + "0" * 33,
        "order" + MARK + "g" * 32,
        "order" + MARK.lower() + "0" * 32,
        "order" + MARK + "0" * 32 + "\n",
    ],
)
def test_an_id_without_the_mark_at_its_place_has_no_source_part(text: str) -> None:
    assert split_message_id(text) == (None, text)


def test_the_unique_part_may_be_written_in_either_case() -> None:
    assert split_message_id("o" + MARK + "aF" * 16) == ("o", "aF" * 16)


# --- the values -----------------------------------------------------------------------------------


def test_the_guides_limits_are_these() -> None:
    assert (model.MAX_TENANT_ID, model.MAX_DOCUMENT_NAME, model.MAX_MESSAGE_ID) == (22, 100, 250)
    assert (model.MAX_LOGICAL_ID, model.MAX_ORDERING_KEY) == (250, 250)
    assert model.MAX_INTEGER == 9223372036854775807


def test_values_of_the_domain_can_be_compared_and_never_changed() -> None:
    message = Message(RowId(1), FINE.tenant_id, FINE.document_name, MessageId("m"), b"x", 1)
    assert message == dataclasses.replace(message, to_logical_id=DEFAULT_TO, parameters="{}", attempts=0)
    assert (message.ordering_key, message.holds_for, message.age) == (None, 0.0, 0.0)
    state = TenantState(FINE.tenant_id, "idle", "", datetime(2026, 1, 1, tzinfo=UTC))
    assert state.next_try is None
    assert Released("why") == Released("why", counted=False, wait=0.0)
    for value in (FINE, message, state, Delivered(), Released("why"), Parked("why"), Problem("a", "b", "c")):
        assert not hasattr(value, "__dict__")
        for field in dataclasses.fields(value):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, field.name, None)
