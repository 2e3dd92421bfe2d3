"""What the page shows of others' texts: nothing is hidden."""

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.web.shown_text import exact, is_shown_exactly, visible, visible_text


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
def test_every_text_can_be_shown_once_and_for_all(text: str) -> None:
    assert visible_text(visible_text(text)) == visible_text(text)


@given(st.text(max_size=50))
def test_an_attribute_gives_a_script_the_very_text(text: str) -> None:
    """As browsers read it: a bare carriage return would be a line feed."""
    written = str(exact(text))
    assert "\r" not in written
    assert html.unescape(written.replace("&#13;", "&#x0d;")).replace("\r", "&#13;") == text.replace(
        "\r", "&#13;"
    )


@pytest.mark.parametrize(("text", "is_exact"), [("a\nb", True), ("a\r\nb", False), ("a\u202eb", False)])
def test_it_is_known_whether_what_is_shown_can_be_copied(text: str, is_exact: bool) -> None:
    assert is_shown_exactly(text) is is_exact
