"""Compressed bodies, in spite of what was asked for."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ion.content_encoding import decoded

BODY = b'{"supportedVersions": ["v3"]}'
RAW = zlib.compressobj(wbits=-15)
WITHOUT_FRAME = RAW.compress(BODY) + RAW.flush()


@pytest.mark.parametrize(
    ("sent", "encodings"),
    [
        (BODY, None),
        (BODY, ""),
        (BODY, "identity"),
        (gzip.compress(BODY), "gzip"),
        (gzip.compress(BODY), " X-GZIP , identity"),
        (zlib.compress(BODY), "deflate"),
        (WITHOUT_FRAME, "deflate"),
        (gzip.compress(zlib.compress(BODY)), "deflate, gzip"),
    ],
)
def test_a_body_is_what_it_was_before_its_encodings(sent: bytes, encodings: str | None) -> None:
    assert decoded(sent, encodings, 1000) == (BODY, True)


@pytest.mark.parametrize(
    ("sent", "encodings"),
    [
        (b"plain", "gzip"),
        (gzip.compress(BODY)[:-9], "gzip"),
        (b"x", "br"),
        (gzip.compress(BODY), "gzip, br"),
        (gzip.compress(BODY), "gzip, gzip, gzip, gzip"),
    ],
)
def test_what_cannot_be_decoded_stays_as_it_is(sent: bytes, encodings: str) -> None:
    assert decoded(sent, encodings, 1000) == (sent, True)


def test_what_would_grow_is_cut_at_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    assert decoded(bomb, "gzip", 1000) == (b"\0" * 1000, False)
    assert decoded(gzip.compress(BODY), "gzip", len(BODY)) == (BODY, True)
    assert decoded(gzip.compress(BODY), "gzip", len(BODY) - 1) == (BODY[:-1], False)


@given(st.binary(max_size=100), st.sampled_from(["gzip", "deflate", "gzip, deflate"]))
def test_no_body_raises(body: bytes, encodings: str) -> None:
    found, _ = decoded(body, encodings, 50)
    assert len(found) <= max(50, len(body))
