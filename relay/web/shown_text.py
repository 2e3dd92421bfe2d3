"""Texts of others as the page shows them: what cannot be seen is made visible, and documents are indented.

Controls of the direction of writing could make a name read as another one, and others are not seen at all.
"""

import json
import re
from xml.dom import minidom
from xml.parsers.expat import ExpatError

_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_DECLARES = re.compile(r"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)


def visible(value: object) -> object:
    """The finalizer of all templates: of a text, what would be hidden as [U+202E]; line ends stay."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return visible_text(value)


def visible_text(text: str) -> str:
    """The same for a text."""
    return _HIDDEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def indented(text: str) -> str | None:
    """A document in JSON or XML, indented; None: it is neither, or not worth the risk.

    XML that declares entities is left alone, so none is ever expanded.
    """
    begin = text.lstrip("\ufeff \t\r\n")[:1]
    try:
        if begin in ("{", "["):
            return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        if begin == "<" and not _DECLARES.search(text):
            pretty = minidom.parseString(text.encode()).toprettyxml(indent="  ")  # noqa: S318  # nosec B318  # no entities
            lines = [line for line in pretty.splitlines() if line.strip()]
            return "\n".join(lines if text.lstrip().startswith("<?xml") else lines[1:])
    except (ExpatError, RecursionError, ValueError):  # ValueError: not JSON, numbers of 5,000 digits
        return None
    return None
