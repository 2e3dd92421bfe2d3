"""The character set of a document: the relay declares UTF-8, and what it sends must not contradict that.

Pure. Bytes that name no character set are taken as they are: ION also routes what is no text.
"""

import re

from relay.core.validation import Problem

_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"<\x00\x00\x00", "UTF-32"),
    (b"\x00\x00\x00<", "UTF-32"),
    (b"<\x00?\x00", "UTF-16"),
    (b"\x00<\x00?", "UTF-16"),
)
"""Byte order marks, and how XML without one begins (XML 1.0, appendix F); the longer ones first."""

_DECLARATION = re.compile(
    rb"""(?:\xef\xbb\xbf)?\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']"""
)
_TEXT_DECLARATION = re.compile(r"""(\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*)(["'])[A-Za-z0-9._-]{1,40}["']""")
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_HINT = "convert it to UTF-8 (relay enqueue --from-charset), or name the document in OPAQUE_DOCUMENTS"


def charset_problem(payload: bytes) -> Problem | None:
    """What contradicts UTF-8 in a document's bytes; None: nothing."""
    for mark, name in _MARKS:
        if payload.startswith(mark):
            return Problem("payload", f"is {name}, and is sent as UTF-8", _HINT)
    declared = _DECLARATION.match(payload)
    if declared is None or (name := declared[1].decode("ascii")).lower() in _UTF_8:
        return None
    return Problem("payload", f"is XML that declares the encoding {name}, and is sent as UTF-8", _HINT)


def to_utf_8(payload: bytes, charset: str) -> bytes:
    """The document in UTF-8, an XML declaration included. Raises LookupError, and UnicodeError."""
    text = payload.decode(charset).removeprefix("\ufeff")
    declared = _TEXT_DECLARATION.match(text)
    if declared is not None:
        text = f"{declared[1]}{declared[2]}UTF-8{declared[2]}{text[declared.end() :]}"
    return text.encode()
