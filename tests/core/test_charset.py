"""The character set of a document: nothing is declared UTF-8 that says it is something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.charset import charset_problem, to_utf_8

XML = '<?xml version="1.0" encoding="{}"?>\n<a>ü</a>'


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xd8\xff\xe0 a picture",
        b"<a/>",
        "<a>ü</a>".encode(),
        XML.format("UTF-8").encode(),
        XML.format("utf-8").encode("utf-8-sig"),
        b"<?xml version=\"1.0\" encoding='US-ASCII'?><a/>",
        b'<?xml version="1.0"?><a encoding="ISO-8859-1"/>',
        b'{"a": "encoding=UTF-16"}',
        "<a>ü</a>".encode("iso-8859-1"),
    ],
)
def test_what_names_no_other_character_set_is_taken_as_it_is(payload: bytes) -> None:
    assert charset_problem(payload) is None


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (XML.format("UTF-16").encode("utf-16"), "is UTF-16"),
        (b"\xfe\xff" + "{}".encode("utf-16-be"), "is UTF-16"),
        ("<?xml version='1.0'?><a/>".encode("utf-16-le"), "is UTF-16"),
        ("<?xml version='1.0'?><a/>".encode("utf-16-be"), "is UTF-16"),
        ("<a/>".encode("utf-32"), "is UTF-32"),
        (b"\x00\x00\xfe\xff" + "<a/>".encode("utf-32-be"), "is UTF-32"),
        ("<a/>".encode("utf-32-le"), "is UTF-32"),
        ("<a/>".encode("utf-32-be"), "is UTF-32"),
        (XML.format("ISO-8859-1").encode("iso-8859-1"), "declares the encoding ISO-8859-1"),
        (b"\n<?xml version='1.0' standalone='no' encoding = 'windows-1252' ?><a/>", "windows-1252"),
    ],
)
def test_what_contradicts_utf_8_is_named_with_the_way_to_convert_it(payload: bytes, what: str) -> None:
    problem = charset_problem(payload)
    assert problem is not None
    assert what in problem.what
    assert "--from-charset" in problem.hint


@pytest.mark.parametrize(
    "charset", ["utf-16", "utf-16-le", "utf-32", "iso-8859-1", "windows-1252", "utf-8-sig"]
)
def test_a_converted_document_is_utf_8_and_says_so(charset: str) -> None:
    converted = to_utf_8(XML.format(charset).encode(charset), charset)
    assert converted.decode() == XML.format("UTF-8")
    assert charset_problem(converted) is None


def test_only_the_declaration_is_changed() -> None:
    for text in (
        "<a encoding='x'/>",
        '{"encoding": "x"}',
        "<?xml version='1.0'?><a encoding='ISO-8859-1'>é</a>",
    ):
        assert to_utf_8(text.encode("iso-8859-1"), "iso-8859-1").decode() == text


def test_what_cannot_be_converted_is_an_error() -> None:
    with pytest.raises(LookupError):
        to_utf_8(b"a", "no-such-charset")
    with pytest.raises(UnicodeError):
        to_utf_8(b"\xff", "ascii")


@given(st.binary(max_size=60))
def test_no_bytes_raise(payload: bytes) -> None:
    charset_problem(payload)
