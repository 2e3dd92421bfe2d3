"""HTTP/1.1 as bytes: what is sent, and what is read of whatever comes back."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ion.http_messages import (
    MAX_CHUNK_LINES,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_INTERIM,
    NotHttpError,
    ResponseReader,
    request_head,
)
from tests.support.processor_time import at_most_processor_seconds

LIMIT = 100


def read(data: bytes, *, pieces: int = 0, limit: int = LIMIT, ends: bool = False) -> ResponseReader:
    """A reader that was fed with this, in pieces of that size; `ends`: then the connection ended."""
    reader = ResponseReader(limit)
    step = pieces or max(len(data), 1)
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
    if ends:
        reader.end()
    return reader


# --- requests -----------------------------------------------------------------------------------------------


def test_a_head_is_a_request_line_the_host_and_the_fields() -> None:
    head = request_head("POST", "/a%2Fb?c=d", "[::1]:8443", {"X-TenantId": "ACME_PRD", "Content-Length": "3"})
    assert head == (
        b"POST /a%2Fb?c=d HTTP/1.1\r\nHost: [::1]:8443\r\nX-TenantId: ACME_PRD\r\nContent-Length: 3\r\n\r\n"
    )


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nb", "a\0b", "a\x7f", "\u0141"])
def test_a_field_that_would_be_something_else_is_refused(value: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # UnicodeEncodeError is one
        request_head("GET", "/", "h", {"Authorization": value})


@pytest.mark.parametrize("text", ["/a b", "/ HTTP/1.1\r\nX: y", "/a\tb", "/\x7f", "/\xfc", "\u2011"])
def test_an_url_that_would_be_another_request_is_refused(text: str) -> None:
    for target, host in ((text, "h"), ("/", text)):
        with pytest.raises(ValueError):  # noqa: PT011  # UnicodeEncodeError is one
            request_head("GET", target, host, {})


# --- responses ----------------------------------------------------------------------------------------------

FINE = {
    "length": (b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhello", 202, b"hello", True),
    "no body": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", True),
    "no reason": (b"HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", 503, b"", True),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, b"ok", True),
    "equal lengths": (b"HTTP/1.1 202 A\r\nContent-Length: 2\r\nContent-Length: 2, 2\r\n\r\nok", 202, b"ok", True),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 200, b"abcde", True,
    ),
    "trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\nZ: 1\r\n\r\n", 200, b"a", True,
    ),
    "chunked with line feeds": (b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\na\n0\n\n", 200, b"a", True),
    "a length beside chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 200, b"a", False,
    ),
    "close": (b"HTTP/1.1 200 OK\r\nConnection: X, Close\r\nContent-Length: 1\r\n\r\na", 200, b"a", False),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, b"a", False),
    "1.0 kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", 200, b"a", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b"", True),
    "101": (b"HTTP/1.1 101 Switching\r\n\r\n", 101, b"", False),
    "100": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 A\r\nContent-Length: 1\r\n\r\na", 202, b"a", True),
    "103": (
        b"HTTP/1.1 103 Early\r\nLink: a\r\nBroken\r\n\r\nHTTP/1.1 500 A\r\nContent-Length: 0\r\n\r\n", 500, b"", True,
    ),
    "equal lengths, written differently": (b"HTTP/1.1 202 A\r\nContent-Length: 02, 2\r\n\r\nok", 202, b"ok", True),
    "identity": (
        b"HTTP/1.1 202 A\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", 202, b"ok", True,
    ),
    "padded chunk sizes": (
        b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000002  \r\nok\r\n0\r\n\r\n", 202, b"ok", True,
    ),
    "folded": (b"HTTP/1.1 200 OK\r\nX: a\r\n  b\r\nContent-Length: 1\r\n\r\na", 200, b"a", True),
}  # fmt: skip


@pytest.mark.parametrize("pieces", [0, 1, 2, 7])
@pytest.mark.parametrize(("data", "status", "body", "is_reusable"), FINE.values(), ids=FINE)
def test_a_response_is_read_however_it_comes(
    data: bytes, status: int, body: bytes, is_reusable: bool, pieces: int
) -> None:
    reader = read(data, pieces=pieces)
    assert (reader.status, reader.body, reader.is_done) == (status, body, True)
    assert reader.is_reusable is is_reusable
    assert reader.is_complete
    assert reader.has_begun
    assert reader.is_success is (200 <= status < 300)
    reader.end()


@pytest.mark.parametrize("fields", [b"", b"Transfer-Encoding: gzip\r\n"])
def test_without_a_length_the_body_ends_with_the_connection(fields: bytes) -> None:
    reader = read(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nsome", pieces=3)
    assert not reader.is_done
    reader.end()
    assert (reader.is_done, reader.body, reader.is_reusable) == (True, b"some", False)


def test_fields_are_known_by_their_lower_case_name_and_the_first_counts() -> None:
    reader = read(b"HTTP/1.1 503 X\r\nRETRY-after :  5 \r\nRetry-After: 9\r\nX-A: \xe9\r\n\r\n")
    assert reader.fields == {"retry-after": "5", "x-a": "é"}


def test_bytes_behind_the_answer_end_the_connection() -> None:
    reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 500 X\r\n\r\n")
    assert (reader.status, reader.body, reader.is_reusable) == (200, b"a", False)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 500\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1f4\r\n", b"\r\n"]
)
def test_of_a_long_body_only_what_is_wanted_is_kept(framing: bytes) -> None:
    reader = read(b"HTTP/1.1 200 OK\r\n" + framing + b"x" * 500, pieces=64)
    assert (reader.body, reader.is_complete, reader.is_done, reader.is_reusable) == (
        b"x" * LIMIT,
        False,
        True,
        False,
    )


def test_a_body_that_goes_on_after_the_last_wanted_byte_is_cut() -> None:
    reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", limit=4)
    for part in (b"abcd", b"e"):
        reader.feed(part)
    assert (reader.body, reader.is_complete, reader.is_done) == (b"abcd", False, True)


def test_behind_the_answer_to_connect_nothing_is_http() -> None:
    reader = ResponseReader(0, is_tunnel=True)
    reader.feed(b"HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n")
    assert (reader.is_done, reader.is_reusable, reader.body) == (True, True, b"")
    refused = ResponseReader(0, is_tunnel=True)
    refused.feed(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
    assert (refused.is_done, refused.is_success) == (True, False)


BROKEN = {
    "not http": (b"SSH-2.0-OpenSSH\r\n", 0, "it is not HTTP/1.1"),
    "not http, no line": (b"\x15\x03\x01", 0, "it is not HTTP/1.1"),
    "another version": (b"HTTP/2 200\r\n\r\n", 0, "it is not HTTP/1.1"),
    "an odd status": (b"HTTP/1.1 20\r\n\r\n", 0, "it is not HTTP/1.1"),
    "a line without a colon": (b"HTTP/1.1 202 A\r\nX\r\n\r\n", 202, "a header line that cannot be read"),
    "a folded first line": (b"HTTP/1.1 202 A\r\n X: y\r\n\r\n", 202, "a header line that cannot be read"),
    "a nul": (b"HTTP/1.1 202 A\r\nX: \0\r\n\r\n", 202, "a header line that cannot be read"),
    "two lengths": (b"HTTP/1.1 202 A\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 202, "two different"),
    "empty length": (b"HTTP/1.1 202 A\r\nContent-Length: 1,\r\n\r\n", 202, "a Content-Length that is no number"),
    "chunk sizes": (
        b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"1;" + b"a" * 50_000 + b"\r\na\r\n") * 9,
        202, "more than 256 KiB of chunk sizes",
    ),
    "no length": (b"HTTP/1.1 202 A\r\nContent-Length: -1\r\n\r\n", 202, "a Content-Length that is no number"),
    "fields": (b"HTTP/1.1 202 A\r\n" + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n", 202, "more than 1,000 header lines"),
    "head": (b"HTTP/1.1 202 A\r\nX: " + b"a" * MAX_HEAD, 202, "more than 64 KiB before its body"),
    "first line": (b"HTTP/1.1 202 " + b"a" * MAX_HEAD, 0, "more than 64 KiB before its body"),
    "interim": (b"HTTP/1.1 100 C\r\n\r\n" * (MAX_INTERIM + 1), 0, "more than 16 interim answers"),
    "interim bytes": (
        b"HTTP/1.1 103 C\r\nX: " + b"a" * 60_000 + b"\r\n\r\nHTTP/1.1 103 C\r\nX: " + b"a" * 6_000, 0, "more than 64 KiB",
    ),
    "chunk size": (b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 202, "no readable size"),
    "long chunk size": (b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 70_000, 202, "no readable size"),
    "chunk end": (b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 202, "longer than its size"),
    "trailers": (
        b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 70_000, 202, "after its body",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "status", "what"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read_says_where_and_what_is_known_of_its_status(
    data: bytes, status: int, what: str
) -> None:
    reader = ResponseReader(LIMIT)
    with pytest.raises(NotHttpError, match=what):
        reader.feed(data)
    assert reader.status == status
    assert not reader.is_done


def test_a_large_head_is_read() -> None:
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 40) for number in range(900))
    assert read(b"HTTP/1.1 202 A\r\n" + fields + b"Content-Length: 0\r\n\r\n").is_done


def test_an_end_before_the_answers_is_an_error() -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    for end in range(len(whole)):
        with pytest.raises(NotHttpError, match="ended before"):
            read(whole[:end], ends=True)
    assert not ResponseReader(1).has_begun


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]),
)
def test_whatever_comes_is_an_answer_or_that_error(data: bytes, start: bytes) -> None:
    try:
        reader = read(start + data, pieces=5, ends=True)
    except NotHttpError:
        return
    assert reader.is_done
    assert len(reader.body) <= LIMIT


@given(st.binary(max_size=80), st.integers(1, 9), st.integers(1, 9))
def test_any_body_in_chunks_is_read_as_it_is(body: bytes, size: int, pieces: int) -> None:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    reader = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data, pieces=pieces)
    assert (reader.body, reader.is_done, reader.is_reusable) == (body, True, True)


SLOW = {
    "spaces in a value": b"HTTP/1.1 202 A\r\nX: a" + b" " * 60_000 + b"b\r\n\r\n",
    "spaces before a byte that is not allowed": b"HTTP/1.1 202 A\r\nX:" + b" \t" * 30_000 + b"\0\r\n\r\n",
    "a name without an end": b"HTTP/1.1 202 A\r\n" + b"a" * 30_000 + b" " * 30_000 + b"\r\n\r\n",
    "a reason": b"HTTP/1.1 202 " + b" " * 60_000 + b"\r\n\r\n",
    "a folded line": b"HTTP/1.1 202 A\r\nX: a\r\n" + b" " * 60_000 + b"a\r\n\r\n",
    "many folded lines": b"HTTP/1.1 202 A\r\nX: a\r\n" + (b" " + b"a" * 60 + b"\r\n") * 990 + b"\r\n",
    "a chunk size": b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n1" + b" " * 60_000 + b";\r\na\r\n0\r\n\r\n",
    "trailers": b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: \r\r" * 12_000 + b"\r\n\r\n",
    "tiny chunks": b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\na\n" * (MAX_CHUNK_LINES // 2),
}  # fmt: skip


@pytest.mark.parametrize("pieces", [0, 1])
@pytest.mark.parametrize("data", SLOW.values(), ids=SLOW)
def test_no_bytes_make_it_work_for_long(data: bytes, pieces: int) -> None:
    """Nothing else runs meanwhile: each of these once took minutes, or would not have ended in a year."""
    with at_most_processor_seconds(10), suppress(NotHttpError):
        read(data, pieces=pieces, limit=1_000_000)
