"""ION's header rules: every limit at both sides, every problem with its field and a fix."""

import dataclasses
import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import validation
from relay.core.model import (
    DEFAULT_TO,
    DocumentName,
    Draft,
    LogicalId,
    MessageId,
    OrderingKey,
    TenantId,
    classic_message_id,
)
from relay.core.validation import (
    LAST_PORT,
    MAX_NESTING,
    MAX_PARAMETERS,
    Problem,
    document_name_advice,
    document_name_problem,
    draft_problems,
    logical_id_problem,
    message_id_problem,
    ordering_key_problem,
    parameter_problems,
    port_problem,
    tenant_id_problem,
)


def test_limits_are_those_of_the_guide() -> None:
    assert (validation.MAX_TENANT_ID, validation.MAX_DOCUMENT_NAME, validation.MAX_MESSAGE_ID) == (
        22,
        100,
        250,
    )
    assert (validation.MAX_LOGICAL_ID, validation.MAX_ORDERING_KEY) == (250, 250)
    assert validation.MAX_INTEGER == 9223372036854775807


# --- tenant ids -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["A", "ACME_PRD", "infor", "_", "0", "A" * 22, "NAME_TST"])
def test_letters_digits_and_underscores_up_to_22_are_a_tenant_id(text: str) -> None:
    assert tenant_id_problem(text) is None


@pytest.mark.parametrize("text", ["", "A" * 23, "ACME PRD", "ACME-PRD", "ÄCME", "ACME\n", "ACME.PRD", "٣"])
def test_anything_else_is_refused_with_a_fix(text: str) -> None:
    problem = tenant_id_problem(text)
    assert problem is not None
    assert problem == Problem(
        "tenant_id",
        f"{text!r} is not a tenant id",
        "use 1 to 22 letters, digits or underscores, e.g. ACME_PRD",
    )


@given(st.text(max_size=30))
def test_a_tenant_id_is_exactly_what_the_guide_allows(text: str) -> None:
    letters = set(string.ascii_letters + string.digits + "_")
    assert (tenant_id_problem(text) is None) == (1 <= len(text) <= 22 and set(text) <= letters)


# --- texts: document names, message ids, ordering keys --------------------------------------------

TEXTS = [
    (document_name_problem, "document_name", 100),
    (message_id_problem, "message_id", 250),
    (ordering_key_problem, "ordering_key", 250),
]


@pytest.mark.parametrize(("check", "name", "limit"), TEXTS, ids=[name for _, name, _ in TEXTS])
def test_printable_text_up_to_the_limit_is_valid(check: object, name: str, limit: int) -> None:
    assert callable(check)
    for text in ("x", "x" * limit, "Sync.SalesOrder", "My_PurchaseOrder_JSON", "a b", "ключ", "é" * limit):
        assert check(text) is None, name


@pytest.mark.parametrize(("check", "name", "limit"), TEXTS, ids=[name for _, name, _ in TEXTS])
def test_empty_too_long_blank_and_unprintable_text_is_refused(check: object, name: str, limit: int) -> None:
    assert callable(check)
    hint = f"use 1 to {limit} printable characters"
    for text in ("", " ", "   ", "a\nb", "\x00", "tab\t", "\x7f", "\u200b"):
        assert check(text) == Problem(name, f"{text!r} is not valid", hint)
    assert check("x" * (limit + 1)) == Problem(name, f"has {limit + 1} characters", hint)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("Sync.SalesOrder", None),
        ("Acknowledge.SalesOrder", None),  # 11: the verb's limit
        ("Acknowledged.SalesOrder", "the verb Acknowledged is longer than the recommended 11 characters"),
        ("Sync." + "N" * 30, None),
        ("Sync." + "N" * 31, f"the noun {'N' * 31} is longer than the recommended 30 characters"),
        ("Acknowledged." + "N" * 31, "the verb Acknowledged is longer than the recommended 11 characters"),
        ("My_PurchaseOrder_JSON_that_is_very_long_indeed", None),
        ("acknowledgement.SalesOrder", None),
        ("Acknowledgement.Sales.Order", None),
        ("Acknowledgement.", None),
    ],
)
def test_long_verbs_and_nouns_give_a_warning_and_other_names_none(name: str, advice: str | None) -> None:
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
def test_a_logical_id_in_the_guides_format_is_valid(text: str) -> None:
    assert logical_id_problem(text) is None


@pytest.mark.parametrize(
    "text", ["", "acme.orders.1", "LID://acme", "lid:/acme", " lid://acme", "http://acme"]
)
def test_a_logical_id_without_lid_is_refused_with_a_fix(text: str) -> None:
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
def test_a_logical_id_in_another_format_is_refused_under_its_fields_name(text: str) -> None:
    hint = "use lid:// and at most 250 of a-z 0-9 . _ -, e.g. lid://acme.orders.1"
    what = f"{text!r} is not a logical id"
    assert logical_id_problem(text) == Problem("logical_id", what, hint)
    assert logical_id_problem(text, "to_logical_id") == Problem("to_logical_id", what, hint)


def test_a_logical_id_has_at_most_250_characters_and_longer_ones_are_shown_truncated() -> None:
    text = "lid://" + "a" * 245
    problem = logical_id_problem(text)
    assert problem is not None
    assert problem.what == f"{text[:60]!r}… is not a logical id"
    assert logical_id_problem(text[:-1]) is None


@pytest.mark.parametrize(("length", "cropped"), [(60, False), (61, True)])
def test_an_invalid_value_is_shown_up_to_60_characters(length: int, cropped: bool) -> None:
    problem = logical_id_problem("x" * length)
    assert problem is not None
    shown = repr("x" * 60) + ("…" if cropped else "")
    assert problem.what == f"{shown} does not begin with lid://"


def test_a_problem_is_a_value() -> None:
    problem = Problem("a", "b", "c")
    assert not hasattr(problem, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.field = "d"  # type: ignore[misc]


def test_a_generated_message_id_is_valid() -> None:
    assert message_id_problem(classic_message_id(bytes(16))) is None


def test_a_problem_reads_as_one_sentence() -> None:
    assert str(Problem("payload", "is empty", "enqueue it")) == "payload: is empty; enqueue it"


# --- optional IMS properties ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "limit"),
    [("accountingEntity", 22), ("location", 22), ("revisionId", 22), ("documentId", 100), ("batchId", 250)],
)
def test_string_properties_have_the_guides_limits(name: str, limit: int) -> None:
    assert parameter_problems({name: "x" * limit}) == []
    assert parameter_problems({name: "x"}) == []
    for wrong in ("", "x" * (limit + 1), 7, None, True, ["x"]):
        assert parameter_problems({name: wrong}) == [
            Problem(f"parameters.{name}", "is not valid", f"use a string of 1 to {limit} characters")
        ]


@pytest.mark.parametrize("name", ["variationId", "batchSequence", "batchSize", "batchRevision"])
def test_integer_properties_go_from_zero_to_the_guides_limit(name: str) -> None:
    for fine in (0, 1, 2**63 - 1):
        assert parameter_problems({name: fine}) == []
    for wrong in (-1, 2**63, 1.0, "1", True, False, None):
        assert parameter_problems({name: wrong}) == [
            Problem(f"parameters.{name}", "is not valid", "use an integer from 0 to 2^63-1")
        ]


def test_the_batch_abort_indicator_is_true_or_false() -> None:
    for fine in (True, False):
        assert parameter_problems({"batchAbortIndicator": fine}) == []
    for wrong in (0, 1, "true", None):
        assert parameter_problems({"batchAbortIndicator": wrong}) == [
            Problem("parameters.batchAbortIndicator", "is not valid", "use true or false")
        ]


@pytest.mark.parametrize("name", ["instances", "source"])
def test_properties_whose_types_differ_between_sources_are_not_checked(name: str) -> None:
    for value in (1, "x", ["x"], {"a": 1}, None, True):
        assert parameter_problems({name: value}) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("documentName", "use document_name"),
        ("messageId", "use message_id"),
        ("toLogicalId", "use to_logical_id"),
        ("fromLogicalId", "use the tenant's logical id in the settings"),
        ("encoding", "omit it, the relay chooses it"),
        ("characterSet", "omit it, it is always UTF-8"),
    ],
)
def test_a_value_with_a_column_or_setting_is_not_a_parameter(name: str, hint: str) -> None:
    assert parameter_problems({name: "x"}) == [Problem(f"parameters.{name}", "is not a parameter", hint)]


def test_custom_properties_are_strings_with_an_alphanumeric_name() -> None:
    assert (
        parameter_problems({"custom_Priority": "high", "Custom_Priority": "", "custom_" + "a" * 250: ""})
        == []
    )
    for name in ("custom_", "Custom_", "custom_a-b", "custom_a b", "custom_ä", "custom_" + "a" * 251):
        assert parameter_problems({name: "x"}) == [
            Problem(
                f"parameters.{name[:80]}",
                "is not a custom property's name",
                "use custom_ (or Custom_) and 1 to 250 letters or digits",
            )
        ]
    for wrong in (1, None, True, ["x"]):
        assert parameter_problems({"custom_A": wrong}) == [
            Problem("parameters.custom_A", "is not valid", "use a string")
        ]


def test_a_traceparent_has_the_w3c_format() -> None:
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
            Problem("parameters.traceparent", "is not valid", "use a W3C traceparent, 00-…-…-01, or omit it")
        ]


@pytest.mark.parametrize("name", ["variationID", "CUSTOM_A", "", "tenantId", "custom"])
def test_a_misspelt_property_is_refused_by_name(name: str) -> None:
    assert parameter_problems({name: "x"}) == [
        Problem(
            f"parameters.{name}", "is not an IMS property", "check its spelling, or name it custom_<Name>"
        )
    ]


def test_all_invalid_properties_are_reported_at_once() -> None:
    wrong = {"variationId": -1, "documentId": "fine", "nonsense": 1}
    assert [problem.field for problem in parameter_problems(wrong)] == [
        "parameters.variationId",
        "parameters.nonsense",
    ]


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)
DEEP: list[object] = []
for _ in range(MAX_NESTING):
    DEEP = [DEEP]
BOTTOMLESS: list[object] = []
for _ in range(100_000):
    BOTTOMLESS = [BOTTOMLESS]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (math.inf, "contain a value that JSON cannot hold"),
        ([math.nan], "contain a value that JSON cannot hold"),
        (b"bytes", "contain a value that JSON cannot hold"),
        (10**5000, "contain a value that JSON cannot hold"),
        (CIRCLE, "contain a value that JSON cannot hold"),
        ("\ud800", "contain half of a surrogate pair, which is no character"),
        (DEEP, f"are nested more than {MAX_NESTING} levels deep"),
        (BOTTOMLESS, f"are nested more than {MAX_NESTING} levels deep"),
        ("x" * MAX_PARAMETERS, f"have more than {MAX_PARAMETERS} characters"),
    ],
    ids=["infinite", "not a number", "bytes", "digits", "circle", "surrogate", "deep", "bottomless", "long"],
)
def test_properties_of_which_no_json_can_be_made_are_refused(value: object, what: str) -> None:
    (problem,) = parameter_problems({"source": value, "variationId": "wrong too"})
    assert (problem.field, problem.what) == ("parameters", what)


def test_a_problem_is_one_printable_line() -> None:
    """Its text goes into the log, the store and onto a terminal; a name of a parameter may hold anything."""
    (problem,) = parameter_problems({"a\n\x00\u202e": 1})
    assert str(problem) == (
        "parameters.a\\n\\u0000\\u202e: is not an IMS property; check its spelling, or name it custom_<Name>"
    )


# --- drafts ---------------------------------------------------------------------------------------

FINE = Draft(TenantId("ACME_PRD"), DocumentName("Sync.SalesOrder"), b"<x/>")


def test_tenant_document_and_payload_are_enough() -> None:
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


def test_all_problems_of_a_draft_are_reported_at_once() -> None:
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
        Problem("payload", "is empty", "enqueue the document's bytes")
    ]


@pytest.mark.parametrize("port", ["1", "443", "5432", str(LAST_PORT)])
def test_a_port_is_a_number_in_range(port: str) -> None:
    assert port_problem(port) is None


@pytest.mark.parametrize(
    ("port", "what"),
    [
        ("0", "has the port 0"),
        (str(LAST_PORT + 1), "has the port 65536"),
        ("9" * 100, f"has the port {'9' * 20}"),
        ("canary", "has a port that is not a number"),
        ("", "has a port that is not a number"),
        ("-1", "has a port that is not a number"),
    ],
)
def test_any_other_port_is_refused(port: str, what: str) -> None:
    problem = port_problem(port)
    assert problem is not None
    assert problem.what == what
