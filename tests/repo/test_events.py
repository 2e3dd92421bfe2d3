"""The reference of the log: every event of the code has a sample, with the keys that its calls give."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.events import EVENTS, Event

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for path in sorted((ROOT / "relay").rglob("*.py"))
    if not {"sandbox", "demo"} & set(path.relative_to(ROOT).parts)
]
LEVELS = {"debug": {"debug"}, "info": {"info"}, "warning": {"warning"}, "error": {"error"}}
LEVELS |= {"exception": {"error"}, "say": {"warning", "error"}}
"""What a call's name says of its level; `say` is either."""


@dataclass(frozen=True)
class Call:
    """One call that logs; `open`: it gives further keys that do not stand in it."""

    event: str
    levels: frozenset[str]
    keys: frozenset[str]
    open: bool

    def is_of(self, event: Event) -> bool:
        keys = event.facts.keys() - {"exception"}
        same = self.keys <= keys if self.open else self.keys == keys
        return self.event == event.name and event.level in self.levels and same


def calls(tree: ast.AST) -> Iterator[Call]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
            continue
        function, event = node.func, node.args[0].value
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if (
            isinstance(event, str)
            and name in LEVELS
            and isinstance(function, ast.Attribute) == (name != "say")
        ):
            keys = {keyword.arg for keyword in node.keywords}
            yield Call(event, frozenset(LEVELS[name]), frozenset(keys - {None}), None in keys)  # type: ignore[arg-type]


CALLS = [call for path in SOURCES for call in calls(ast.parse(path.read_text()))]


def test_every_event_in_the_code_has_a_sample_with_its_keys() -> None:
    missing = [call for call in CALLS if not any(call.is_of(event) for event in EVENTS)]
    assert missing == [], "add it to tools/events.py, then: make docs"


def test_events_are_a_noun_and_what_happened_to_it() -> None:
    assert [event.name for event in EVENTS if not re.fullmatch(r"[a-z]+\.[a-z_]+", event.name)] == []


def test_every_sample_is_of_an_event_in_the_code() -> None:
    assert [event.name for event in EVENTS if not any(call.is_of(event) for call in CALLS)] == []


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: f"{event.name}-{event.level}")
def test_a_sample_is_one_line_of_json_and_what_needs_a_person_has_its_code(event: Event) -> None:
    line = json.loads(event.line())
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert (line["timestamp"], line["level"]) == ("2026-11-24T19:16:11.207Z", event.level)
    assert ("code" in line) == (event.level in ("warning", "error"))


def test_an_event_or_a_key_that_nobody_wrote_about_would_be_found() -> None:
    tree = ast.parse(
        "log.info('relay.sailed')\nlog.error('relay.cut', reason='', by=1)\nsay('x.y', **more)\nlen('a.b')"
    )
    found = list(calls(tree))
    assert [call.event for call in found] == ["relay.sailed", "relay.cut", "x.y"]
    assert [any(call.is_of(event) for event in EVENTS) for call in found] == [False, False, False]
