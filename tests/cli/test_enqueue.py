"""`relay enqueue`: files, standard input, NDJSON; all or none, and every error comes with a hint."""

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.ndjson import BadLineError, draft_of, lines

if TYPE_CHECKING:
    from tests.cli.conftest import Operator, Ran

LIKE = ("--tenant", "ACME", "--document", "Sync.SalesOrder")


@pytest.fixture(autouse=True)
def outbox(operator: "Operator") -> None:
    """An empty one."""
    assert operator.run("outbox", "upgrade").code == 0


def payload_of(operator: "Operator", message_id: str) -> bytes:
    """What a worker would read."""
    from relay.core.model import DocumentName, TenantId

    async def work(outbox: Any) -> bytes:
        names = {DocumentName(name) for name in ("Sync.SalesOrder", "D")}
        for tenant in ("ACME", "GLOBEX"):
            for message in await outbox.due(TenantId(tenant), names, set(), set(), 1000, 10**9):
                if message.message_id == message_id:
                    return bytes(message.payload)
        raise LookupError(message_id)

    return operator.at_outbox(work)


def nothing_stored(operator: "Operator") -> bool:
    return not (operator.folder / "relay.db").exists() or not operator.list_messages()


# --- files ----------------------------------------------------------------------------------------------


def test_each_file_becomes_a_message_and_its_id_is_printed_on_a_line(operator: "Operator") -> None:
    (operator.folder / "a.xml").write_bytes(b"<a/>")
    (operator.folder / "b.xml").write_bytes(b"\x00\xffraw\r\n")
    ran = operator.run("enqueue", *LIKE, "a.xml", "b.xml")
    ids = ran.out.split()
    assert (ran.code, ran.err, len(ids)) == (0, "", 2)
    assert [message["message_id"] for message in operator.list_messages()] == ids
    assert [payload_of(operator, given) for given in ids] == [b"<a/>", b"\x00\xffraw\r\n"]


def test_standard_input_is_taken_byte_for_byte(operator: "Operator") -> None:
    ran = operator.run("enqueue", *LIKE, "-", given=b"\xef\xbb\xbf<x/>\r\n\x00")
    assert payload_of(operator, ran.out.strip()) == b"\xef\xbb\xbf<x/>\r\n\x00"


def test_every_field_of_a_message_is_stored(operator: "Operator") -> None:
    ran = operator.run(
        "enqueue", *("--tenant", "acme"), *("--document", "Sync.SalesOrder"), *("--message-id", "m 1"),
        *("--key", "K"), *("--to", "lid://infor.m3.1"), *("--parameter", "variationId=3"),
        *("--parameter", "documentId=007"), *("--parameter", "batchAbortIndicator=true"),
        *("--parameter", "custom_Note=a=b"), "-", given=b"x",
    )  # fmt: skip
    assert (ran.code, ran.out) == (0, "m 1\n")
    shown = operator.run("messages", "show", "m 1", "--json").json
    assert shown["tenant_id"] == "ACME"
    assert (shown["ordering_key"], shown["to_logical_id"], shown["size"]) == ("K", "lid://infor.m3.1", 1)
    assert shown["parameters"] == {
        "variationId": 3,
        "documentId": "007",
        "batchAbortIndicator": True,
        "custom_Note": "a=b",
    }


def test_json_output_has_tenant_document_and_id(operator: "Operator") -> None:
    ran = operator.run("enqueue", *LIKE, "--message-id", "m1", "--json", "-", given=b"x")
    place = str(operator.folder / "relay.db")
    assert ran.json == [
        {"tenant_id": "ACME", "document_name": "Sync.SalesOrder", "message_id": "m1", "outbox": place}
    ]


def test_an_identical_message_is_stored_once(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.enqueue("m1")
    assert len(operator.list_messages()) == 1


def test_different_content_under_the_same_id_is_rejected(operator: "Operator") -> None:
    operator.enqueue("m1")
    ran = operator.run("enqueue", *LIKE, "--message-id", "m1", "-", given=b"other")
    assert (ran.code, ran.out) == (1, "")
    assert "'m1'" in ran.err


XML = '<?xml version="1.0" encoding="{}"?><a>ü</a>'


def test_a_document_in_another_character_set_is_refused_with_the_way_to_convert_it(
    operator: "Operator",
) -> None:
    given = XML.format("UTF-16").encode("utf-16")
    ran = operator.run("enqueue", *LIKE, "-", given=given)
    assert ran.code == 2
    assert "payload: is UTF-16, and is sent as UTF-8; convert it" in ran.err
    assert nothing_stored(operator)
    ran = operator.run("enqueue", *LIKE, "--from-charset", "utf-16", "-", given=given)
    assert ran.code == 0
    assert payload_of(operator, ran.out.strip()) == XML.format("UTF-8").encode()
    line = {"tenant_id": "ACME", "document_name": "D", "payload_base64": base64.b64encode(given).decode()}
    ran = operator.run("enqueue", "--ndjson", "-", given=json.dumps(line).encode())
    assert ran.code == 2
    assert "is UTF-16" in ran.err


@pytest.mark.parametrize(
    ("charset", "given", "error"),
    [
        ("no-such", b"x", "--from-charset no-such: is not a character set"),
        ("ascii", b"\xff", "standard input: is not ascii: "),
        ("utf-16", b"x" * 9000, "payload: has more than 1000 bytes"),
    ],
)
def test_what_cannot_be_converted_is_not_stored(
    operator: "Operator", charset: str, given: bytes, error: str
) -> None:
    ran = operator.run("enqueue", *LIKE, "--from-charset", charset, "-", given=given)
    assert ran.code in (1, 2)
    assert error in ran.err
    assert nothing_stored(operator)


@pytest.mark.parametrize(
    ("arguments", "given", "error"),
    [
        ((*LIKE, "-"), b"", "payload: is empty"),
        ((*LIKE, "-"), b"x" * 1001, "payload: has more than 1000 bytes"),
        ((*LIKE,), b"x", "give a file, or - for standard input"),
        ((*LIKE, "-", "-"), b"x", "read only once"),
        ((*LIKE, "none.xml"), b"", "none.xml: cannot be read: No such file"),
        ((*LIKE, "."), b"", ".: cannot be read: Is a directory"),
        ((*LIKE, "--message-id", "m", "a", "b"), b"", "--message-id is for a single document"),
        (("--tenant", "ACME", "-"), b"x", "give --tenant and --document"),
        (("--tenant", "OTHER", "--document", "D", "-"), b"x", "'OTHER' is not configured; configured tenants: ACME, GLOBEX"),
        (("--tenant", "ACME", "--document", "", "-"), b"x", "document_name: "),
        (("--tenant", "ACME", "--document", "D" * 101, "-"), b"x", "document_name: has 101 characters"),
        ((*LIKE, "--message-id", "m" * 251, "-"), b"x", "message_id: has 251 characters"),
        ((*LIKE, "--key", "", "-"), b"x", "ordering_key: "),
        ((*LIKE, "--to", "infor.m3", "-"), b"x", "to_logical_id: 'infor.m3' does not begin with lid://"),
        ((*LIKE, "--parameter", "variationId", "-"), b"x", "use the form NAME=VALUE"),
        ((*LIKE, "--parameter", "variationId=three", "-"), b"x", "parameters.variationId: is not valid; use an integer"),
        ((*LIKE, "--parameter", "variationId=-1", "-"), b"x", "use an integer"),
        ((*LIKE, "--parameter", "batchAbortIndicator=1", "-"), b"x", "use true or false"),
        ((*LIKE, "--parameter", "location=" + "x" * 23, "-"), b"x", "use a string of 1 to 22 characters"),
        ((*LIKE, "--parameter", "messageId=m", "-"), b"x", "is not a parameter; use message_id"),
        ((*LIKE, "--parameter", "varationId=3", "-"), b"x", "is not an IMS property"),
        ((*LIKE, "--parameter", "location=a", "--parameter", "location=b", "-"), b"x", "is given twice"),
    ],
)  # fmt: skip
def test_an_invalid_message_is_rejected_with_a_hint_and_nothing_is_stored(
    operator: "Operator", arguments: tuple[str, ...], given: bytes, error: str
) -> None:
    ran = operator.run("enqueue", *arguments, given=given)
    assert (ran.code, ran.out) == (2, "")
    assert error in ran.err
    assert nothing_stored(operator)


def test_one_invalid_file_is_named_and_nothing_is_stored(operator: "Operator") -> None:
    (operator.folder / "good.xml").write_bytes(b"x")
    (operator.folder / "empty.xml").write_bytes(b"")
    ran = operator.run("enqueue", *LIKE, "good.xml", "empty.xml")
    assert ran.code == 2
    assert "empty.xml: payload: is empty" in ran.err
    assert "nothing was stored" in ran.err
    assert nothing_stored(operator)


def test_a_document_name_against_the_guides_advice_is_stored_with_a_note(operator: "Operator") -> None:
    ran = operator.run("enqueue", "--tenant", "ACME", "--document", "Acknowledging.X", "-", given=b"x")
    assert ran.code == 0
    assert "longer than the recommended 11 characters" in ran.err


def test_no_secret_of_the_settings_is_in_an_error(operator: "Operator") -> None:
    ran = operator.run("enqueue", "--tenant", "GLOBEX", "--document", "D", "-", given=b"")
    assert ran.code == 2  # that nothing holds the canary is checked for every command


# --- NDJSON ----------------------------------------------------------------------------------------------


def ndjson(*objects: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def message(**more: Any) -> dict[str, Any]:
    return {"tenant_id": "ACME", "document_name": "Sync.SalesOrder", "payload": "<x/>"} | more


def enqueue(operator: "Operator", text: bytes) -> "Ran":
    return operator.run("enqueue", "--ndjson", "-", given=text)


def test_ndjson_is_one_message_per_line_in_order(operator: "Operator") -> None:
    ran = enqueue(
        operator,
        ndjson(
            message(message_id="m1", payload="Grüße 你好 \n\t"),
            message(tenant_id="globex", document_name="D", message_id="m2", ordering_key="K",
                    to_logical_id="lid://a", parameters={"variationId": 3, "custom_A": "b"}),
        ),
    )  # fmt: skip
    assert (ran.code, ran.out, ran.err) == (0, "m1\nm2\n", "")
    assert payload_of(operator, "m1") == "Grüße 你好 \n\t".encode()
    second = operator.run("messages", "show", "m2", "--json").json
    assert (second["tenant_id"], second["ordering_key"], second["to_logical_id"]) == (
        "GLOBEX",
        "K",
        "lid://a",
    )
    assert second["parameters"] == {"variationId": 3, "custom_A": "b"}


def test_bytes_are_given_as_base64(operator: "Operator") -> None:
    raw = bytes(range(256))
    line = message(message_id="m1", payload_base64=base64.b64encode(raw).decode())
    del line["payload"]
    assert enqueue(operator, ndjson(line)).code == 0
    assert payload_of(operator, "m1") == raw


def test_ndjson_may_have_a_byte_order_mark_blank_lines_and_no_final_newline(
    operator: "Operator",
) -> None:
    text = (
        b"\xef\xbb\xbf"
        + ndjson(message(message_id="m1"))
        + b"\r\n  \n"
        + ndjson(message(message_id="m2")).strip()
    )
    (operator.folder / "all.ndjson").write_bytes(text)
    ran = operator.run("enqueue", "--ndjson", "all.ndjson")
    assert (ran.code, ran.out) == (0, "m1\nm2\n")


def test_an_empty_input_is_no_error(operator: "Operator") -> None:
    ran = enqueue(operator, b"\n")
    assert (ran.code, ran.out) == (0, "")
    assert "nothing to enqueue" in ran.err
    assert operator.run("enqueue", "--json", "--ndjson", "-").json == []


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"{", "line: is not JSON at character 2"),
        (b"[]", "line: is not a JSON object"),
        (b"1", "line: is not a JSON object"),
        (b"\xff{}", "line: is not UTF-8 at byte 0"),
        (b"[" * 100_000, "line: is not JSON"),
        (b'{"a": NaN}', "line: holds NaN, which is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "line: is not JSON"),
        (b'{"tenant_id": "ACME", "tenant_id": "GLOBEX"}', "tenant_id: is given twice"),
        (b"{}", "tenant_id: is missing"),
        (ndjson({"tenant_id": "ACME", "document_name": "D"}), "payload: is missing; add it, or payload_base64"),
        (ndjson(message(payload="")), "payload: is empty"),
        (ndjson(message(payload={"a": 1})), "payload: is not a string"),
        (ndjson(message(payload="\ud800")), "payload: contains a lone surrogate"),
        (ndjson(message(payload="x" * 1001)), "payload: has more than 1000 bytes; send a smaller document, or raise RELAY_TENANTS__ACME__MAX_MESSAGE_BYTES"),
        (ndjson(message(payload_base64="eA==")), "payload_base64: is given together with payload"),
        (ndjson({"tenant_id": "ACME", "document_name": "D", "payload_base64": "e A=="}), "payload_base64: is not base64"),
        (ndjson({"tenant_id": "ACME", "document_name": "D", "payload_base64": "é"}), "payload_base64: is not base64"),
        (ndjson(message(tenant_id="OTHER")), "tenant_id: 'OTHER' is not configured; configured tenants: ACME, GLOBEX"),
        (ndjson(message(tenant_id=1)), "tenant_id: is not a string"),
        (ndjson(message(message_id=None)), "message_id: is not a string; write it in quotes, or omit it"),
        (ndjson(message(message_id="")), "message_id: '' is not valid; use 1 to 250"),
        (ndjson(message(message_id="m" * 251)), "message_id: has 251 characters; use 1 to 250"),
        (ndjson(message(document_name="D" * 101)), "document_name: has 101 characters; use 1 to 100"),
        (ndjson(message(to_logical_id="x")), "to_logical_id: 'x' does not begin with lid://"),
        (ndjson(message(parameters=[])), "parameters: is not an object"),
        (ndjson(message(parameters={"variationId": "3"})), "parameters.variationId: is not valid; use an integer"),
        (ndjson(message(parameters={"variationId": True})), "parameters.variationId: is not valid"),
        (ndjson(message(messageid="m")), "messageid: is not known; did you mean message_id?"),
        (ndjson(message(zzz="m")), "zzz: is not known; known keys: tenant_id"),
    ],
)  # fmt: skip
def test_one_invalid_line_stores_nothing_and_is_reported_with_number_field_and_hint(
    operator: "Operator", line: bytes, error: str
) -> None:
    good = ndjson(message(message_id="m1"))
    ran = enqueue(operator, good + line.rstrip(b"\n") + b"\n" + good)
    assert (ran.code, ran.out) == (2, "")
    assert f"line 2: {error}" in ran.err
    assert "line 1" not in ran.err
    assert "line 3" not in ran.err
    assert "nothing was stored" in ran.err
    assert nothing_stored(operator)


def test_a_line_longer_than_any_tenants_limit_is_reported_too(operator: "Operator") -> None:
    operator.set({"RELAY_TENANTS__GLOBEX__MAX_MESSAGE_BYTES": "1000"})
    ran = enqueue(operator, ndjson(message(), message(payload="x" * 100_000), message()))
    assert ran.code == 2
    assert ran.err.startswith("relay: line 2: line: is longer than any tenant's limit")


def test_at_most_20_problems_are_printed(operator: "Operator") -> None:
    ran = enqueue(operator, b"{\n" * 100)
    assert ran.code == 2
    assert "line 20: " in ran.err
    assert "line 21: " not in ran.err
    assert "and 80 more problems" in ran.err


def test_an_id_twice_in_a_file_must_have_the_same_content(operator: "Operator") -> None:
    same, other = message(message_id="m1"), message(message_id="m1", payload="other")
    ran = enqueue(operator, ndjson(same, other))
    assert ran.code == 2
    assert "line 2: message_id: is also the id of line 1, with different content" in ran.err
    assert nothing_stored(operator)
    ran = enqueue(operator, ndjson(same, same, other | {"tenant_id": "GLOBEX"}))
    assert (ran.code, ran.out) == (0, "m1\nm1\nm1\n")
    assert [one["tenant_id"] for one in operator.list_messages()] == ["ACME", "GLOBEX"]


def test_an_id_that_the_outbox_has_with_different_content_stores_nothing_of_the_file(
    operator: "Operator",
) -> None:
    operator.enqueue("m1")
    ran = enqueue(operator, ndjson(message(message_id="m0"), message(message_id="m1", payload="other")))
    assert (ran.code, ran.out) == (1, "")
    assert [one["message_id"] for one in operator.list_messages()] == ["m1"]


@pytest.mark.parametrize(
    "more", [("a.xml",), ("--tenant", "ACME"), ("--document", "D"), ("--key", "K"), ("--to", "lid://a"),
             ("--message-id", "m"), ("--parameter", "a=b")]
)  # fmt: skip
def test_ndjson_cannot_be_combined_with_options_of_a_message(
    operator: "Operator", more: tuple[str, ...]
) -> None:
    ran = operator.run("enqueue", "--ndjson", "-", *more, given=ndjson(message()))
    assert ran.code == 2
    assert "--ndjson cannot be combined" in ran.err


def test_a_line_over_every_limit_is_not_read_in_full() -> None:
    file = io.BytesIO(b"x" * 5_000_000 + b"\n" + b"{}\n")
    assert list(lines(file, 100)) == [(1, None), (2, b"{}")]


@given(st.one_of(st.binary(max_size=60), st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(
        st.sampled_from(["tenant_id", "document_name", "payload", "payload_base64", "parameters", "message_id"]), inner)),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_any_line_is_a_message_or_an_error_with_reasons(line: bytes) -> None:
    try:
        draft = draft_of(line, lambda _: [])
    except BadLineError as error:
        reasons = error.problems
    else:
        assert draft.payload
        return
    assert reasons
