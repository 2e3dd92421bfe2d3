"""Texts of others as the page shows them: what cannot be seen is made visible.

Controls of the direction of writing could make a name read as another one, and others are not seen at all.
"""

import re

from markupsafe import Markup, escape

_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)


def visible(value: object) -> object:
    """The finalizer of all templates: of a text, what would be hidden as [U+202E]; line ends stay."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return visible_text(value)


def visible_text(text: str) -> str:
    """The same for a text."""
    return _HIDDEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def exact(text: str) -> Markup:
    """For an attribute that a form or a script takes the text from, character by character."""
    return escape(text).replace("\r", Markup("&#13;"))


def is_shown_exactly(text: str) -> bool:
    """Whether somebody who selects and copies what is shown has the text."""
    return "\r" not in text and visible_text(text) == text
