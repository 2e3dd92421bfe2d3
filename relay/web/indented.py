"""Documents in JSON or XML, indented: line breaks are added, and not a character of a value changes.

Numbers, escapes and entities stay as they are written: operators compare them with what ION received.
Nothing is expanded or loaded, nesting costs no stack, and what would become too long is left as it is.
"""

import json
import re
from collections.abc import Callable, Iterator
from xml.parsers import expat  # nosec B407  # no declaration of a document type gets past _words_of_xml

MOST_CHARACTERS = 1024 * 1024
"""Maximum length of what is indented; with deep nesting the indentation would be longest."""
_DEEPEST = 20
"""Levels that are indented; what is deeper stands below them."""

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def indented(text: str) -> str | None:
    """The document, indented; None: it is neither JSON nor XML, declares a type, or would become too long."""
    begin = text.lstrip("\ufeff \t\r\n")[:1]
    lines = _json if begin in ("{", "[") else _xml if begin == "<" else None
    if lines is None:
        return None
    parts: list[str] = []
    length = 0
    try:
        for depth, line in lines(text.lstrip("\ufeff")):
            parts.append("  " * min(depth, _DEEPEST) + line)
            length += len(parts[-1]) + 1
            if length > MOST_CHARACTERS:
                return None
    except (expat.ExpatError, RecursionError, ValueError):
        return None
    return "\n".join(parts)


# --- JSON: lines of (depth, text) -------------------------------------------------------------------------


def _json(text: str) -> Iterator[tuple[int, str]]:
    """Raises ValueError and RecursionError where it is no JSON."""
    json.loads(text, parse_int=len, parse_float=len)  # however many digits
    words = _WORD.findall(text)
    depth, line = 0, ""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word in "}]" and not line.endswith(("{", "[")):
            if line:
                yield depth, line
            depth, line = depth - 1, word
        elif word in "}]":
            depth, line = depth - 1, line + word
        elif word in "{[":
            depth, line = depth + 1, line + word
            if after not in "}]":
                yield depth - 1, line
                line = ""
        elif word == ",":
            yield depth, line + word
            line = ""
        else:
            line += ": " if word == ":" else word
    if line:
        yield depth, line


# --- XML: lines of (depth, text) --------------------------------------------------------------------------

_START, _END, _TEXT, _OTHER = "start", "end", "text", "other"


def _xml(text: str) -> Iterator[tuple[int, str]]:
    """An element that holds text stands in one line, since spaces in it can mean something."""
    words = _words_of_xml(text.encode())
    flowing = _with_text(words)
    depth, line, inside = 0, "", 0
    for place, (kind, word) in enumerate(words):
        if kind == _END and not inside:
            depth -= 1
            if word:  # empty: the start was the end too, as in <a/>
                yield depth, word
        elif inside:
            line += word
            inside += {_START: 1, _END: -1}.get(kind, 0)
            if not inside:
                yield depth, line
                line = ""
        elif place in flowing:
            line, inside = word, 1
        elif word.strip():
            yield depth, word.strip()
            depth += kind == _START


def _with_text(words: list[tuple[str, str]]) -> set[int]:
    """The places of the starts of elements that hold text, or nothing at all."""
    found: set[int] = set()
    opened: list[int] = []
    for place, (kind, word) in enumerate(words):
        if kind == _START:
            opened.append(place)
        elif kind == _END:
            start = opened.pop()
            if start + 1 == place and word:
                found.add(start)
        elif kind == _TEXT and opened and word.strip():
            found.add(opened[-1])
    return found


def _words_of_xml(data: bytes) -> list[tuple[str, str]]:
    """(kind, as it is written). Raises ExpatError where it is no XML, ValueError where it declares a type."""
    parser = expat.ParserCreate("utf-8")
    starts: list[tuple[int, str]] = []

    def note(kind: str) -> Callable[..., None]:
        return lambda *_: starts.append((parser.CurrentByteIndex, kind))

    def refuse(*_: object) -> None:
        raise ValueError("a document type is declared")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = note(_START), note(_END)
    parser.CharacterDataHandler, parser.DefaultHandler = note(_TEXT), note(_OTHER)
    parser.StartCdataSectionHandler = parser.EndCdataSectionHandler = note(_TEXT)
    parser.Parse(data, True)
    ends = [start for start, _ in starts[1:]] + [len(data)]
    return [(kind, data[start:end].decode()) for (start, kind), end in zip(starts, ends, strict=True)]
