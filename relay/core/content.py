"""The content of a document: well-formed XML or JSON, with the root element that its name announces.

Pure, and off unless a tenant asks for it. Nothing is expanded or loaded, and nesting costs no stack: the
declaration of a document type is refused, since BODs have none.
"""

import json
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal
from xml.parsers import expat  # nosec B407  # no declaration of a document type gets through

from relay.core.charset import charset_problem
from relay.core.validation import Problem

Check = Literal["off", "well-formed", "root"]

_MAX_DEPTH = 1000
_BOD = re.compile(r"([A-Z][A-Za-z]*)\.([A-Za-z][A-Za-z0-9]*)")
_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*(.)", re.DOTALL)


def document_problem(payload: bytes, document: str, check: Check, opaque: Iterable[str]) -> Problem | None:
    """Why a document cannot be sent: another character set than is declared, or its content.

    `opaque`: patterns of the documents that may have any bytes.
    """
    found = charset_problem(payload) or content_problem(payload, document, check)
    is_opaque = found is not None and any(fnmatchcase(document, pattern) for pattern in opaque)
    return None if is_opaque else found


def content_problem(payload: bytes, document: str, check: Check) -> Problem | None:
    """What is wrong with a document's content; None: nothing, or it is not to be checked."""
    if check == "off":
        return None
    start = _START.match(payload)
    first = start[1] if start is not None else b""
    if first == b"<":
        found = _root_of(payload)
        return found if isinstance(found, Problem) else _root_problem(found, document, check)
    if first in (b"{", b"["):
        return _json_problem(payload)
    return Problem(
        "payload", "is neither XML nor JSON", "correct it, or name the document in OPAQUE_DOCUMENTS"
    )


class _RefusedError(Exception):
    """What the document has and must not have."""


def _root_of(payload: bytes) -> str | Problem:
    """The local name of the root element, or what is wrong with the XML."""
    parser = expat.ParserCreate("utf-8", "}")
    names: list[str] = []
    depth = 0

    def start(name: str, _: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise _RefusedError(f"has more than {_MAX_DEPTH} elements in each other")
        if depth == 1:
            names.append(name.rpartition("}")[2])

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_: object) -> None:
        raise _RefusedError("declares a document type")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(payload, True)
    except _RefusedError as error:
        return Problem("payload", f"is XML that {error}", "send it without")
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        where = f"line {error.lineno}, column {error.offset + 1}"
        return Problem("payload", f"is not well-formed XML ({what}: {where})", "correct the document")
    return names[0]


def _root_problem(root: str, document: str, check: Check) -> Problem | None:
    """A BOD is named `Verb.Noun`, and its root element is VerbNoun."""
    name = _BOD.fullmatch(document)
    if check != "root" or name is None or root == f"{name[1]}{name[2]}":
        return None
    what = f"has the root element {root[:100]}, and {document} has {name[1]}{name[2]}"
    return Problem("payload", what, "correct the document, or the name of it")


def _json_problem(payload: bytes) -> Problem | None:
    try:
        json.loads(payload, parse_int=len, parse_float=len)  # however many digits
    except RecursionError:
        return Problem("payload", "is JSON that is nested too deep", "send it flat")
    except UnicodeDecodeError as error:
        return Problem("payload", f"is not UTF-8 (byte {error.start + 1})", "correct the document")
    except json.JSONDecodeError as error:
        what = f"is not JSON ({error.msg}: line {error.lineno}, column {error.colno})"
        return Problem("payload", what, "correct the document")
    return None
