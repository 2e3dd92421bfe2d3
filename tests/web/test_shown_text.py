"""What the page shows of others' texts: nothing is hidden, and documents are indented without a risk."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.web.shown_text import indented, visible, visible_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb", "a[U+202E]b"),
        ("\u2066x\u2069", "[U+2066]x[U+2069]"),
        ("\x00\x07\x9b", "[U+0000][U+0007][U+009B]"),
        ("zero\u200bwidth\ufeff", "zero[U+200B]width[U+FEFF]"),
        ("\U000e0041", "[U+E0041]"),
        ("\ud800", "[U+D800]"),
        ("line\nand\ttab\r\n", "line\nand\ttab\r\n"),
        ("Grüße, 日本語, עברית", "Grüße, 日本語, עברית"),
    ],
)
def test_what_would_be_hidden_is_shown_by_its_number(text: str, shown: str) -> None:
    assert visible(text) == visible_text(text) == shown


def test_other_values_stay_as_they_are() -> None:
    assert visible(7) == 7
    assert visible(None) is None


@given(st.text(max_size=300))
def test_every_text_can_be_shown_and_indented(text: str) -> None:
    assert visible_text(visible_text(text)) == visible_text(text)
    indented(text)


@pytest.mark.parametrize(
    ("text", "pretty"),
    [
        ('{"a": [1, {"b": "ü"}]}', json.dumps({"a": [1, {"b": "ü"}]}, indent=2, ensure_ascii=False)),
        ("<a><b>x</b><c/></a>", "<a>\n  <b>x</b>\n  <c/>\n</a>"),
        (
            '<?xml version="1.0"?>\n<n:a xmlns:n="u"><!-- c --><n:b k="v">x</n:b></n:a>',
            '<?xml version="1.0" ?>\n<n:a xmlns:n="u">\n  <!-- c -->\n  <n:b k="v">x</n:b>\n</n:a>',
        ),
    ],
)
def test_a_document_is_indented(text: str, pretty: str) -> None:
    assert indented(text) == pretty


BILLION = (
    '<!DOCTYPE a [<!ENTITY b "xxxxxxxxxx">'
    + "".join(f'<!ENTITY b{n} "{f"&b{n - 1 if n else str()};" * 10}">' for n in range(9))
    + "]><a>&b8;</a>"
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "<a",
        "{",
        "[" * 100_000,
        "<a>" * 50_000,
        "<a>" * 3000 + "</a>" * 3000,
        BILLION,
        '<!doctype a SYSTEM "file:///etc/passwd"><a>&x;</a>',
        '<! ENTITY x "y"><a/>',
        "[" + "9" * 6000 + "]",
        "<a>\x00</a>",
    ],
)
def test_what_is_no_document_or_a_risk_is_left_alone(text: str) -> None:
    assert indented(text) is None
