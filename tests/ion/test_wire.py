"""Requests and responses on the wire, byte by byte, hostile responses included."""

import json
import zlib
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message as Mail

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.sections import HttpSettings
from relay.core.model import DocumentName, LogicalId, Message, MessageId, RowId, TenantId
from relay.core.ports import EncodedPost
from relay.core.replies import Accepted, NoReply, Versions
from relay.ion import wire
from tests.support.processor_time import at_most_processor_seconds

BASE = "https://ion.example:28090/api/ion/messaging/service"
SENDER = LogicalId("lid://acme.orders.1")
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def message(payload: bytes = b"<SyncShipment/>", parameters: str = "{}", message_id: str = "m1") -> Message:
    return Message(
        RowId(7),
        TenantId("ACME_PRD"),
        DocumentName("Sync.Shipment"),
        MessageId(message_id),
        payload,
        len(payload),
        parameters=parameters,
    )


def encode(message: Message, deflate_from: int = 10_000) -> EncodedPost:
    return wire.encode_post(message, SENDER, deflate_from)


def parts(body: EncodedPost) -> list[Mail]:
    """The parts as the standard library's parser, an independent implementation, finds them."""
    mail = message_from_bytes(b"Content-Type: " + body.content_type.encode() + b"\r\n\r\n" + body.data)
    listed = mail.get_payload()
    assert isinstance(listed, list)
    return [part for part in listed if isinstance(part, Mail)]


def parameters(body: EncodedPost) -> dict[str, object]:
    found = json.loads(raw_parts(body)[0])
    assert isinstance(found, dict)
    return found


def raw_parts(body: EncodedPost) -> list[bytes]:
    """The bytes between the boundaries, without headers; a mail parser would change binary content."""
    boundary = body.content_type.partition("boundary=")[2].encode()
    pieces = (b"\r\n" + body.data).split(b"\r\n--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    return [piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:-1]]


# --- URLs -----------------------------------------------------------------------------------------


def test_urls_are_joined_to_the_base_with_or_without_a_slash() -> None:
    assert wire.ping_url(BASE) == wire.ping_url(BASE + "/") == BASE + "/ping"
    assert wire.versions_url(BASE + "/") == BASE + "/versions"
    assert wire.multipart_message_url(BASE + "/") == BASE + "/v3/multipartMessage"


def test_a_logical_id_is_one_escaped_segment_in_lower_case_hex_as_in_the_samples() -> None:
    assert (
        wire.accepted_documents_url(BASE, SENDER) == BASE + "/v3/lid%3a%2f%2facme.orders.1/acceptedDocuments"
    )
    with_path = wire.accepted_documents_url(BASE, LogicalId("lid://a.b.c:conn/x"))
    assert with_path == BASE + "/v3/lid%3a%2f%2fa.b.c%3aconn%2fx/acceptedDocuments"


# --- the body -------------------------------------------------------------------------------------


def test_a_body_is_exactly_what_the_protocol_describes() -> None:
    body = encode(message())
    boundary = body.content_type.removeprefix("multipart/form-data; boundary=")
    assert (
        body.data
        == (
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="ParameterRequest"\r\n'
            "Content-Type: application/json\r\n"
            "\r\n"
            '{"documentName": "Sync.Shipment", "fromLogicalId": "lid://acme.orders.1", '
            '"toLogicalId": "lid://default", "messageId": "m1", "encoding": "NONE", "characterSet": "UTF-8"}\r\n'
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="MessagePayload"\r\n'
            "Content-Type: application/octet-stream\r\n"
            "Content-Transfer-Encoding: binary\r\n"
            "\r\n"
            "<SyncShipment/>\r\n"
            f"--{boundary}--\r\n"
        ).encode()
    )


def test_another_parser_finds_the_two_parts_in_their_order() -> None:
    first, second = parts(encode(message()))
    assert first.get_param("name", header="content-disposition") == "ParameterRequest"
    assert first.get_content_type() == "application/json"
    assert second.get_param("name", header="content-disposition") == "MessagePayload"
    assert second.get_content_type() == "application/octet-stream"
    assert second["content-transfer-encoding"] == "binary"
    assert second.get_payload() == "<SyncShipment/>"


@given(payload=st.binary(min_size=1, max_size=200), deflate_from=st.sampled_from([0, 100, 10_000]))
def test_any_payload_arrives_unchanged(payload: bytes, deflate_from: int) -> None:
    body = encode(message(payload), deflate_from)
    first, second = raw_parts(body)
    compressed = json.loads(first)["encoding"] == "DEFLATE"
    assert compressed == (len(payload) >= deflate_from)
    assert (zlib.decompress(second) if compressed else second) == payload


def test_compression_begins_at_the_given_size_and_is_in_zlib_format() -> None:
    """RFC 1950: 0x78, a second byte that makes the pair a multiple of 31, a checksum at the end."""
    payload = b"<line/>" * 2000
    below, at = (encode(message(payload), len(payload) + more) for more in (1, 0))
    assert parameters(below)["encoding"] == "NONE"
    assert raw_parts(below)[1] == payload
    assert parameters(at)["encoding"] == "DEFLATE"
    compressed = raw_parts(at)[1]
    assert compressed[0] == 0x78
    assert compressed[1] in (0x01, 0x5E, 0x9C, 0xDA)
    assert zlib.decompress(compressed) == payload
    assert compressed[-4:] == zlib.adler32(payload).to_bytes(4, "big")


def test_eight_kibibytes_are_compressed_by_default() -> None:
    default = HttpSettings().deflate_from_bytes
    assert parameters(encode(message(b"x" * 8191), default))["encoding"] == "NONE"
    assert parameters(encode(message(b"x" * 8192), default))["encoding"] == "DEFLATE"


def test_the_boundary_is_never_inside_the_payload() -> None:
    """Even if the payload is one of our own requests, or a request with such a payload."""
    payload = b"<a/>"
    seen = set()
    for _ in range(4):
        body = encode(message(payload), 10**6)
        boundary = body.content_type.partition("boundary=")[2]
        assert boundary.encode() not in payload
        assert boundary not in seen
        seen.add(boundary)
        assert raw_parts(body)[1] == payload
        payload = body.data


def test_the_boundary_is_never_inside_the_parameters() -> None:
    ordinary = encode(message()).content_type.partition("boundary=")[2]
    body = encode(message(message_id=f"--{ordinary}"))
    assert body.content_type.partition("boundary=")[2] != ordinary
    assert parameters(body)["messageId"] == f"--{ordinary}"


def test_stored_parameters_are_merged_and_nulls_are_omitted() -> None:
    stored = {
        "variationId": 2**63 - 1,
        "location": None,
        "custom_Region": "Nord-Süd ☃",
        "batchAbortIndicator": False,
    }
    sent = parameters(encode(message(parameters=json.dumps(stored))))
    assert sent["variationId"] == 2**63 - 1
    assert sent["custom_Region"] == "Nord-Süd ☃"
    assert sent["batchAbortIndicator"] is False
    assert "location" not in sent


def test_stored_parameters_never_replace_those_that_the_relay_sets() -> None:
    stored = {"fromLogicalId": "lid://mallory.x.1", "messageId": "another", "encoding": "NONE"}
    sent = parameters(encode(message(parameters=json.dumps(stored)), 0))
    assert (sent["fromLogicalId"], sent["messageId"], sent["encoding"]) == (SENDER, "m1", "DEFLATE")


def test_the_applications_traceparent_is_not_sent_as_a_parameter() -> None:
    stored = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "documentId": "SO-1"}
    sent = parameters(encode(message(parameters=json.dumps(stored))))
    assert sent["documentId"] == "SO-1"
    assert "traceparent" not in sent


@pytest.mark.parametrize("stored", ["[]", "null", "3", "{", "", '{"variationId": NaN}', '{"x": Infinity}'])
def test_parameters_that_are_not_a_json_object_are_a_value_error(stored: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode(message(parameters=stored))


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (r'{"custom_A": "\ud800"}', "surrogate"),
        ('{"source": 1e999}', "JSON cannot hold"),
        ('{"source": ' + "[" * 990 + "]" * 990 + "}", "levels deep"),
        ('{"variationId": ' + "9" * 5000 + "}", "digits"),
    ],
)
def test_parameters_that_not_every_program_can_read_are_a_value_error(stored: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        encode(message(parameters=stored))


def test_a_body_does_not_show_its_bytes() -> None:
    assert "SyncShipment" not in repr(encode(message()))


def test_every_request_has_the_tenant_and_accepts_json_without_encoding() -> None:
    assert wire.request_headers("ACME_PRD", "ion-relay/1") == {
        "X-TenantId": "ACME_PRD",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "ion-relay/1",
    }


# --- responses --------------------------------------------------------------------------------------


def test_versions_are_read() -> None:
    assert wire.read_versions(b'{"supportedVersions": ["v1", "v3"]}') == Versions(("v1", "v3"))
    assert wire.read_versions(b'\xef\xbb\xbf{"supportedVersions": []}') == Versions(())


def test_absurd_versions_are_dropped() -> None:
    """They would be shown in the log."""
    listed = ["v" * 11, "v3\n", *["v4"] * 100]
    found = wire.read_versions(json.dumps({"supportedVersions": listed}).encode())
    assert found == Versions(("v3", *["v4"] * 19))


def test_accepted_documents_are_read_with_their_case() -> None:
    reply = (
        b'{"logicalId": "lid://a", "acceptedDocuments": ["Sync.Shipment", "sync.shipment", "Sync.Shipment"]}'
    )
    assert wire.read_accepted(reply) == Accepted(
        frozenset({DocumentName("Sync.Shipment"), DocumentName("sync.shipment")})
    )
    assert wire.read_accepted(b'{"acceptedDocuments": []}') == Accepted(frozenset())


@pytest.mark.parametrize(
    "odd", ["a\0b", "\ud800", "a\udfffb", "", "  ", "a\nb", "a\x7f", "x" * 101], ids=ascii
)
def test_a_name_that_no_message_can_have_does_not_hide_the_others(odd: str) -> None:
    reply = json.dumps({"acceptedDocuments": [odd, "Sync.Shipment", "x" * 100, "a\u00a0b", odd]}).encode()
    good = frozenset(map(DocumentName, ["Sync.Shipment", "x" * 100, "a\u00a0b"]))
    assert wire.read_accepted(reply) == Accepted(good, ignored=1)


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=5)))
def test_every_accepted_name_can_be_written_to_a_store(names: list[str]) -> None:
    found = wire.read_accepted(json.dumps({"acceptedDocuments": names}).encode())
    assert isinstance(found, Accepted)
    assert all("\0" not in name and name.encode() for name in found.documents)


def test_error_texts_are_safe_for_a_store() -> None:
    """They become reasons: PostgreSQL refuses a NUL, and every store half a surrogate pair."""
    reply = b'{"code": 418, "errors": ["a\\u0000b", "\\ud800"], "message": "\\ud800"}'
    assert error_of(reply) == (418, "a b;")
    assert wire.read_versions(b'{"supportedVersions": ["v3", "\\u0000", "\\ud800"]}') == Versions(
        ("v3", "", "")
    )


def error_of(reply: bytes) -> tuple[int | None, str]:
    said = wire.read_answer(reply)
    return said.code, said.detail


PAGE = b"<html><head><title>Request Rejected</title></head></html>"


@pytest.mark.parametrize(
    ("reply", "content_type", "form", "failed"),
    [
        (b"", "text/html", "empty", False),
        (b" \r\n", "", "empty", False),
        (b'{"status": "OK", "code": 202}', "application/json", "ims", False),
        (b'{"status": "OK", "code": 202}', "text/html", "ims", False),
        (b'{"code": 399}', "", "ims", False),
        (b'{"code": 400}', "", "ims", True),
        (b'{"status": "FAIL", "code": 540}', "", "ims", True),
        (b'{"status": "fail"}', "", "ims", True),
        (b'{"status": "FAIL", "code": 202}', "", "ims", True),
        (b'{"status": 400, "error": "Bad Request"}', "", "other", False),
        (b'{"messageId": "m-1"}', "", "other", False),
        (b"[]", "", "other", False),
        (b"accepted", "text/plain", "other", False),
        (b"<ok/>", "application/xml", "other", False),
        (b"Request Rejected", "text/html; charset=utf-8", "html", False),
        (PAGE, "application/json", "html", False),
        (b"\xef\xbb\xbf \r\n<!DOCTYPE html>" + PAGE, "", "html", False),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<!-- y --><HTML xmlns="x">', "", "html", False),
        (b"<htmlish/>", "", "other", False),
    ],
)
def test_what_an_answer_says_is_read_from_its_body(
    reply: bytes, content_type: str, form: str, failed: bool
) -> None:
    said = wire.read_answer(reply, content_type)
    assert (said.form, said.failed) == (form, failed)


@pytest.mark.parametrize(
    "start",
    [b"<!---->" * 9000, b"<!-- - -->\n" * 5000, b" " * 60_000, b"<?xml?>" + b" " * 60_000, b"<!--" * 16_000],
)
def test_no_answer_takes_long_to_be_told_from_a_page(start: bytes) -> None:
    """Nothing else runs meanwhile."""
    with at_most_processor_seconds(10):
        assert wire.read_answer(start + b"x").form == "other"


def test_an_answer_of_another_shape_is_described_beside_what_was_expected() -> None:
    expected = 'versions: expected {"supportedVersions": […]}, and the answer is '
    for reply, shape in (
        (b'["v1", "v3"]', "a JSON array"),
        (b'{"versions": ["v3"], "code": 200}', "a JSON object with versions, code"),
        (b"{}", "an empty JSON object"),
        (b'"v3"', "a JSON str"),
    ):
        assert wire.read_versions(reply) == NoReply(expected + shape)


def test_entries_that_are_no_texts_do_not_hide_the_others() -> None:
    assert wire.read_versions(b'{"supportedVersions": ["v3", 3, null]}') == Versions(("v3",))
    found = wire.read_accepted(b'{"acceptedDocuments": ["Sync.Order", null, {"a": 1}]}')
    assert found == Accepted(frozenset({DocumentName("Sync.Order")}), ignored=2)


HOSTILE = {
    "empty": b"",
    "blank": b" \r\n",
    "html": b"<html><head><TITLE >502 Bad\nGateway</title></head></html>",
    "html without end": b"<html><title>" + b"x" * 100_000,
    "not json": b"{'single': 'quotes'}",
    "not utf-8": b'{"supportedVersions": ["\xff\xfe"]}',
    "utf-16 half": b"\xff\xfe{",
    "truncated": b'{"supportedVersions": ["v',
    "deep": b"[" * 200_000 + b"]" * 200_000,
    "deep object": b'{"a":' * 100_000,
    "huge integer": b'{"code": ' + b"9" * 10_000 + b"}",
    "huge text": b'{"errors": "' + b"payload " * 100_000 + b'"}',
    "list": b"[1, 2]",
    "null": b"null",
    "number": b"1e999",
    "wrong types": b'{"supportedVersions": "v3", "acceptedDocuments": {"a": 1}, "code": "x", "errors": {"a": []}}',
    "infinite": b'{"supportedVersions": NaN, "code": Infinity}',
    "control": b'{"errors": "a\\u0000b\\u001b[31mc\\nd\\u202ee"}',
    "nul": b"\x00" * 1000,
}


@pytest.mark.parametrize("reply", HOSTILE.values(), ids=HOSTILE)
def test_an_unreadable_body_is_no_reply_with_a_short_printable_reason(reply: bytes) -> None:
    for name, read in (("versions", wire.read_versions), ("acceptedDocuments", wire.read_accepted)):
        found = read(reply)
        assert isinstance(found, NoReply)
        assert found.detail.startswith(f"{name}: ")
        assert len(found.detail) <= wire.MAX_DETAIL
        assert found.detail.isprintable()
    code, text = error_of(reply)
    assert code is None
    assert len(text) <= wire.MAX_DETAIL
    assert text == "" or text.isprintable()


@given(reply=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_no_body_raises(reply: bytes) -> None:
    assert isinstance(wire.read_versions(reply), Versions | NoReply)
    assert isinstance(wire.read_accepted(reply), Accepted | NoReply)
    assert len(error_of(reply)[1]) <= wire.MAX_DETAIL


@given(
    found=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["code", "errors", "message", "supportedVersions", "acceptedDocuments"]),
                inner,
            )
        ),
        max_leaves=10,
    )
)
def test_no_json_raises(found: object) -> None:
    reply = json.dumps(found).encode()
    assert isinstance(wire.read_versions(reply), Versions | NoReply)
    assert isinstance(wire.read_accepted(reply), Accepted | NoReply)
    assert error_of(reply)[1] == wire.one_line(error_of(reply)[1])


@pytest.mark.parametrize(
    ("reply", "code", "text"),
    [
        (b'{"status": "FAIL", "code": 418, "errors": "tenant id missing"}', 418, "tenant id missing"),
        (b'{"code": 477, "errors": ["two parts", "not three"]}', 477, "two parts; not three"),
        (b'{"code": 540, "message": "internal error"}', 540, "internal error"),
        (b'{"code": 400, "errors": [], "message": "text here"}', 400, "text here"),
        (b'{"code": 400, "errors": null, "message": "text here"}', 400, "text here"),
        (b'{"code": 400, "errors": [1, "kept", {"a": 2}, ""]}', 400, "kept"),
        (b'{"code": true, "errors": "no code"}', None, "no code"),
        (b'{"code": "418", "errors": "a text is no code"}', None, "a text is no code"),
        (b'{"code": -1}', None, ""),
        (b'{"code": 100000}', None, ""),
        (b"{}", None, ""),
        (b"", None, ""),
        (b"<html><title>504 Gateway Time-out</title>", None, "an HTML page: 504 Gateway Time-out"),
        (b"upstream timed out", None, "the answer is not JSON (18 bytes)"),
        (b"[]", None, "the answer is a JSON array"),
        (b"7", None, "the answer is a JSON int"),
        (b"null", None, "the answer is a JSON null"),
        (b'{"error": "Bad Request"}', None, "Bad Request"),
        (b'{"fault": {"faultstring": "Invalid path", "detail": {"errorcode": "x"}}}', None, "Invalid path"),
        (b'{"error": {"code": 400, "message": "no route"}}', None, "no route"),
        (b'{"error": "invalid_grant", "error_description": "expired"}', None, "expired"),
        (b'{"fault": {"fault": {"fault": {"fault": {"fault": "too deep"}}}}}', None, ""),
        (b"<html><body>Request Rejected</body></html>", None, "an HTML page (42 bytes)"),
    ],
)
def test_errors_of_ims_are_read_in_all_their_formats(reply: bytes, code: int | None, text: str) -> None:
    assert error_of(reply) == (code, text)


def test_a_servers_error_text_is_truncated_for_the_log() -> None:
    _, text = error_of(json.dumps({"errors": ["x" * 1000] * 1000}).encode())
    assert len(text) == wire.MAX_DETAIL
    assert text.endswith("…")


def test_a_body_that_is_not_json_is_not_quoted() -> None:
    """It may be an echo of what was sent."""
    assert "secret" not in error_of(b"<SyncShipment>secret</SyncShipment>")[1]


# --- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("https://login.example/as?state=secret", "redirected to https://login.example"),
        ("http://user:secret@h.example:8443/x", "redirected to http://h.example:8443"),
        ("/login?state=secret", "redirected on the same host"),
        ("", "redirected on the same host"),
        ("https://[::1", "redirected to an unreadable URL"),
        ("https://h.example:port/", "redirected to an unreadable URL"),
    ],
)
def test_a_redirect_is_described_without_path_and_query(location: str, text: str) -> None:
    assert wire.describe_redirect(location) == text


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_one_line_is_one_printable_line_of_at_most_the_limit(text: str, limit: int) -> None:
    line = wire.one_line(text, limit)
    assert len(line) <= limit
    assert line == "" or line.isprintable()
    assert line == line.strip()


def test_one_line_keeps_the_words() -> None:
    assert wire.one_line("a\r\n  b\x1b[31m\tc") == "a b [31m c"
