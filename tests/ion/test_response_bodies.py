"""What response bodies say, hostile ones included."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.model import DocumentName
from relay.core.replies import Accepted, NoReply, Versions
from relay.ion import response_bodies, wire
from tests.support.processor_time import at_most_processor_seconds


def test_versions_are_read() -> None:
    assert response_bodies.read_versions(b'{"supportedVersions": ["v1", "v3"]}') == Versions(("v1", "v3"))
    assert response_bodies.read_versions(b'\xef\xbb\xbf{"supportedVersions": []}') == Versions(())


def test_absurd_versions_are_dropped() -> None:
    """They would be shown in the log."""
    listed = ["v" * 11, "v3\n", *["v4"] * 100]
    found = response_bodies.read_versions(json.dumps({"supportedVersions": listed}).encode())
    assert found == Versions(("v3", *["v4"] * 19))


def test_accepted_documents_are_read_with_their_case() -> None:
    reply = (
        b'{"logicalId": "lid://a", "acceptedDocuments": ["Sync.Shipment", "sync.shipment", "Sync.Shipment"]}'
    )
    assert response_bodies.read_accepted(reply) == Accepted(
        frozenset({DocumentName("Sync.Shipment"), DocumentName("sync.shipment")})
    )
    assert response_bodies.read_accepted(b'{"acceptedDocuments": []}') == Accepted(frozenset())


@pytest.mark.parametrize(
    "odd", ["a\0b", "\ud800", "a\udfffb", "", "  ", "a\nb", "a\x7f", "x" * 101], ids=ascii
)
def test_a_name_that_no_message_can_have_does_not_hide_the_others(odd: str) -> None:
    reply = json.dumps({"acceptedDocuments": [odd, "Sync.Shipment", "x" * 100, "a\u00a0b", odd]}).encode()
    good = frozenset(map(DocumentName, ["Sync.Shipment", "x" * 100, "a\u00a0b"]))
    assert response_bodies.read_accepted(reply) == Accepted(good, ignored=1)


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=5)))
def test_every_accepted_name_can_be_written_to_a_store(names: list[str]) -> None:
    found = response_bodies.read_accepted(json.dumps({"acceptedDocuments": names}).encode())
    assert isinstance(found, Accepted)
    assert all("\0" not in name and name.encode() for name in found.documents)


def test_error_texts_are_safe_for_a_store() -> None:
    """They become reasons: PostgreSQL refuses a NUL, and every store half a surrogate pair."""
    reply = b'{"code": 418, "errors": ["a\\u0000b", "\\ud800"], "message": "\\ud800"}'
    assert error_of(reply) == (418, "a b;")
    assert response_bodies.read_versions(b'{"supportedVersions": ["v3", "\\u0000", "\\ud800"]}') == Versions(
        ("v3", "", "")
    )


def error_of(reply: bytes) -> tuple[int | None, str]:
    said = response_bodies.read_answer(reply)
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
        (b'{"Status": "FAIL", "Code": 540}', "", "ims", True),
        (b'{"status": " Failed: no flow "}', "", "ims", True),
        (b'{"status": "FAILURE"}', "", "ims", True),
        (b'{"status": "OK", "code": 100000}', "", "ims", True),
        (b'{"status": "OK", "code": "540"}', "", "ims", True),
        (b'{"status": "OK", "code": -1}', "", "ims", False),
        (b'{"code": 540.0}', "", "ims", True),
        (b'{"code": 1e999}', "", "other", False),
        (b'{"code": 202.5}', "", "other", False),
        (b'{"code": true, "status": null}', "", "other", False),
        (b'{"status": 400, "error": "Bad Request"}', "", "other", True),
        (b'{"status": "400", "code": "400"}', "", "other", True),
        (b'{"status": 202, "code": "accepted"}', "", "other", False),
        (b'{"status": "failover", "x": "FAIL"}', "", "ims", False),
        (b'{"error": {"status": "FAILED_PRECONDITION", "code": 400}}', "", "other", False),
        (b'[{"status": "FAIL", "code": 540}]', "", "ims", True),
        (b'{"result": [{"answer": {"status": "FAIL"}}]}', "", "ims", True),
        (b'{"status": "OK", "last": {"status": "FAIL"}}', "", "ims", False),
        (b'{"a": {"b": {"c": {"d": {"status": "FAIL"}}}}}', "", "other", False),
        (b'[{"status": "OK"}]', "", "other", False),
        (b'"FAIL"', "", "other", True),
        (b'["FAIL"]', "", "other", False),
        (b"FAIL", "text/plain", "other", True),
        (b"Failed to process the message", "", "other", True),
        (b"<answer><status>FAIL</status></answer>", "application/xml", "other", True),
        (b'{"status":"FAIL","code":540', "", "other", True),
        (b'{"status":"FAIL","errors":"caf\xe9"}', "", "other", True),
        (b"accepted, 0 failed, no FAIL-1, fail-safe", "", "other", False),
        (b"<SyncTest>" + b" " * 300 + b"<Result>FAIL</Result></SyncTest>", "", "other", False),
        (b'{"messageId": "m-1"}', "", "other", False),
        (b"[]", "", "other", False),
        (b"accepted", "text/plain", "other", False),
        (b"<ok/>", "application/xml", "other", False),
        (b"Request Rejected", "text/html; charset=utf-8", "html", False),
        (PAGE, "application/json", "html", False),
        (b"\xef\xbb\xbf \r\n<!DOCTYPE html>" + PAGE, "", "html", False),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<!-- y --><HTML xmlns="x">', "", "html", False),
        (b"<htmlish/>", "", "other", False),
        (b"Request Rejected <html><body>x", "", "html", False),
        (b" <title>Request Rejected</title>", "", "html", False),
        (b"<script>location='/login'</script>", "", "html", False),
        ("\ufeff<html></html>".encode("utf-16-le"), "", "html", False),
        (b"<Envelope><Body/></Envelope>", "", "other", False),
        (b'{"message": "<html>"}', "", "other", False),
    ],
)
def test_what_an_answer_says_is_read_from_its_body(
    reply: bytes, content_type: str, form: str, failed: bool
) -> None:
    said = response_bodies.read_answer(reply, content_type)
    assert (said.form, said.failed) == (form, failed)


@pytest.mark.parametrize(
    "start",
    [b"<!---->" * 9000, b"<!-- - -->\n" * 5000, b" " * 60_000, b"<?xml?>" + b" " * 60_000, b"<!--" * 16_000],
)
def test_no_answer_takes_long_to_be_told_from_a_page(start: bytes) -> None:
    """Nothing else runs meanwhile."""
    with at_most_processor_seconds(10):
        assert response_bodies.read_answer(start + b"x").form == "other"


def test_an_answer_of_another_shape_is_described_beside_what_was_expected() -> None:
    expected = 'versions: expected {"supportedVersions": […]}, and the answer is '
    for reply, shape in (
        (b'["v1", "v3"]', "a JSON array"),
        (b'{"versions": ["v3"], "code": 200}', "a JSON object with versions, code"),
        (b"{}", "an empty JSON object"),
        (b'"v3"', "a JSON str"),
        (b'{"supportedVersions": "v3"}', "a JSON object with supportedVersions"),
    ):
        assert response_bodies.read_versions(reply) == NoReply(expected + shape)


def test_a_list_without_a_single_text_is_of_another_shape() -> None:
    """Else it would be an ION that accepts nothing, and the operator would look in the wrong place."""
    expected = 'acceptedDocuments: expected {"acceptedDocuments": ["…"]}, and the first entry is '
    for reply, shape in (
        (b'{"acceptedDocuments": [{"name": "Sync.Order"}, null]}', "a JSON object with name"),
        (b'{"acceptedDocuments": [null]}', "a JSON null"),
    ):
        assert response_bodies.read_accepted(reply) == NoReply(expected + shape)
    assert isinstance(response_bodies.read_versions(b'{"supportedVersions": [1, 2, 3]}'), NoReply)


def test_entries_that_are_no_texts_do_not_hide_the_others() -> None:
    assert response_bodies.read_versions(b'{"supportedVersions": ["v3", 3, null]}') == Versions(("v3",))
    found = response_bodies.read_accepted(b'{"acceptedDocuments": ["Sync.Order", null, {"a": 1}]}')
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
    for name, read in (
        ("versions", response_bodies.read_versions),
        ("acceptedDocuments", response_bodies.read_accepted),
    ):
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
    assert isinstance(response_bodies.read_versions(reply), Versions | NoReply)
    assert isinstance(response_bodies.read_accepted(reply), Accepted | NoReply)
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
    assert isinstance(response_bodies.read_versions(reply), Versions | NoReply)
    assert isinstance(response_bodies.read_accepted(reply), Accepted | NoReply)
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
        (
            b'{"status": "FAIL", "code": "418", "errors": "beside a status it is"}',
            418,
            "beside a status it is",
        ),
        (b'{"status": "FAIL", "code": "4 1 8"}', None, ""),
        ('{"status": "FAIL", "code": "\u0664\u0661\u0668"}'.encode(), None, ""),
        (b'{"status": "FAIL", "code": "4180000000"}', None, ""),
        (
            b'{"status": "FAIL", "errors": [{"message": "nested"}, {"detail": "twice"}]}',
            None,
            "nested; twice",
        ),
        (b'{"result": {"status": "FAIL", "code": 450, "errors": "inside"}}', 450, "inside"),
        (b'{"httpMessage": "Bad Request", "moreInformation": "no route"}', None, "no route"),
        (b'{"Message": "of .NET"}', None, "of .NET"),
        (b'{"errors": "\\ud800", "message": "kept"}', None, "kept"),
        (b'{"errors": [[[[["too deep"]]]]]}', None, ""),
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
        (
            b"<html><title> </title><h1 class='x'><b>Can&#39;t</b> route</h1>",
            None,
            "an HTML page: Can't route",
        ),
        (b"<html><title></title><h1></h1>", None, "an HTML page (30 bytes)"),
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
    assert response_bodies.describe_redirect(location) == text
