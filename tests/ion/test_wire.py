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
from relay.ion import wire

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


# --- foreign text ---------------------------------------------------------------------------------


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_one_line_is_one_printable_line_of_at_most_the_limit(text: str, limit: int) -> None:
    line = wire.one_line(text, limit)
    assert len(line) <= limit
    assert line == "" or line.isprintable()
    assert line == line.strip()


def test_one_line_keeps_the_words() -> None:
    assert wire.one_line("a\r\n  b\x1b[31m\tc") == "a b [31m c"
