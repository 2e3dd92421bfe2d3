"""The optional IMS properties of a stored message: JSON text that an application wrote, read within bounds.

Pure. The store's constraint sees to it that the text is a JSON object, and to little more: its numbers may be
infinite or thousands of digits long, its lists nested a thousand deep, its texts halves of characters.
"""

import json
from collections.abc import Mapping
from typing import Any

from relay.core.validation import (
    MAX_PARAMETERS,
    TOO_DEEP,
    TOO_LONG,
    Problem,
    is_nested_too_deep,
    json_problem,
)

NOT_JSON = Problem("parameters", "are not JSON", "store a JSON object")

_SHOWN = 500
"""Characters that are shown of a text that cannot be read."""


def read_parameters(text: str) -> dict[str, Any] | Problem:
    """The properties, or why no JSON can be made of them again."""
    if text == "{}":
        return {}
    if len(text) > MAX_PARAMETERS:
        return TOO_LONG
    if is_nested_too_deep(text):
        return TOO_DEEP
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return NOT_JSON
    except ValueError:  # Python's own limit
        return Problem("parameters", "contain a number of thousands of digits", "write it as a string")
    if not isinstance(found, dict):
        return Problem("parameters", "are not a JSON object", "store a JSON object")
    return json_problem(found) or found


def portable_parameters(text: str) -> str:
    """JSON that each store takes: they differ in how deep it may be nested, and in what may follow it."""
    found = read_parameters(text)
    if found not in (NOT_JSON, TOO_DEEP):
        return text
    return json.dumps({"unreadable": str(found), "text": text})


def shown_parameters(text: str) -> Mapping[str, Any]:
    """For operators: the properties; what cannot be read as its beginning, with what is wrong with it."""
    found = read_parameters(text)
    if isinstance(found, Problem):
        return {"unreadable": str(found), "text": text[:_SHOWN]}
    return found
