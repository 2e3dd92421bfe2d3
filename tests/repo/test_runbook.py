"""The run book: a page for each code, and a code for each warning, error and kind of incident in the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.core import answers
from relay.observability import error_codes

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "relay" / "observability" / "runbook"
SOURCES = [
    path
    for path in sorted((ROOT / "relay").rglob("*.py"))
    if not {"sandbox", "demo"} & set(path.relative_to(ROOT).parts)
]
HEADINGS = ["What happened", "What the relay does now", "What you can do", "How to see that it is over"]
WARNINGS = {"warning", "error", "exception", "critical"}


# --- pages ----------------------------------------------------------------------------------------


def test_every_code_has_its_page_and_every_page_its_code() -> None:
    assert {path.name for path in PAGES.iterdir()} == {f"{code.code}.md" for code in error_codes.CODES}


@pytest.mark.parametrize("code", error_codes.CODES, ids=lambda code: code.code)
def test_a_page_says_what_happened_what_is_done_what_to_do_and_when_it_is_over(
    code: error_codes.Code,
) -> None:
    page = (PAGES / f"{code.code}.md").read_text()
    assert page.splitlines()[0] == f"# {code.code}: {code.title}"
    sections = re.split(r"^## (.+)\n", page, flags=re.MULTILINE)
    assert sections[1::2] == HEADINGS
    assert all(len(text.split()) >= 6 for text in sections[2::2])
    assert all(line.startswith(("- ", "  ")) for line in sections[6].strip().splitlines()), "a list"


@pytest.mark.parametrize("code", error_codes.CODES, ids=lambda code: code.code)
def test_the_codes_that_a_page_names_exist(code: error_codes.Code) -> None:
    named = re.findall(r"RELAY-\d+", (PAGES / f"{code.code}.md").read_text())
    assert {name for name in named if error_codes.find(name) is None} == set()


# --- codes ----------------------------------------------------------------------------------------


def said(tree: ast.AST) -> Iterator[str]:
    """The events that are logged as a warning or an error."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in WARNINGS
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ):
            yield node.args[0].value


def kinds(tree: ast.AST) -> Iterator[str]:
    """The kinds of incidents that are reported, where they are literals."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.search(
            r"incidents\.report$|^StoreIncident$", ast.unparse(node.func)
        ):
            first = node.args[0]
            yield str(first.value) if isinstance(first, ast.Constant) else ast.unparse(first)


def test_every_warning_and_error_in_the_code_has_a_code() -> None:
    found = {event for path in SOURCES for event in said(ast.parse(path.read_text()))}
    assert "component.crashed" in found
    assert {event for event in found if error_codes.of_line(event) is None} == {"incident.ongoing"}


def test_every_kind_of_incident_in_the_code_has_a_code() -> None:
    found = {kind for path in SOURCES for kind in kinds(ast.parse(path.read_text()))} - {"row.name"}
    found |= {row.name for row in answers.ROWS if row is not answers.OK}
    assert {"outbox", "busy"} <= found
    assert {kind for kind in found if error_codes.of_kind(kind) is None} == set()


def test_no_code_is_of_an_event_or_a_kind_that_is_gone() -> None:
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    events = {event for tree in trees for event in said(tree)}
    met = {kind for tree in trees for kind in kinds(tree)} | {row.name for row in answers.ROWS}
    assert {event for code in error_codes.CODES for event in code.events} <= events
    assert {kind for code in error_codes.CODES for kind in code.kinds} <= met


def test_one_that_nobody_gave_a_code_would_be_found() -> None:
    tree = ast.parse(
        "log.error('relay.sank', by=1)\nlog.info('relay.sailed')\nincidents.report('fog', detail='')"
    )
    assert list(said(tree)) == ["relay.sank"]
    assert list(kinds(tree)) == ["fog"]
