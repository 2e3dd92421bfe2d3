"""Rules of the repository that no linter knows: one place for each meaning, purity, wording, decision records."""

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tools import longest
from tools.pure_coverage import pure_modules

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "relay").rglob("*.py"))
TOOLS = sorted((ROOT / "tools").glob("*.py"))
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
DECIDING = [path for path in SOURCES if not {"sandbox", "demo"} & set(path.relative_to(ROOT).parts)]
"""Without the simulator, which answers, and the demo, which reads the simulator's record."""


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- one place for what means something -----------------------------------------------------------


def test_the_meaning_of_412_stands_in_the_protocol_alone() -> None:
    number = "412"
    found = {shown(path) for path in DECIDING if number in path.read_text()}
    assert found == {"relay/core/answers.py"}


def test_status_codes_are_compared_with_in_the_protocol_alone() -> None:
    """`status == 401` outside it would be a second opinion on what an answer means."""
    opinions = [
        f"{shown(path)}:{node.lineno}"
        for path in DECIDING
        if shown(path) != "relay/core/answers.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare) and "status" in ast.unparse(node.left).rsplit(".", 1)[-1]
        for other in node.comparators
        if isinstance(other, ast.Constant) and isinstance(other.value, int) and 100 <= other.value < 600
    ]
    assert opinions == []


# --- the pure core --------------------------------------------------------------------------------

PURE = [*pure_modules(), "relay.core.admin", "relay.core.ports"]

PURE_IMPORTS = {
    "base64", "binascii", "bisect", "collections", "dataclasses", "datetime", "difflib", "email", "enum", "fnmatch", "functools", "hashlib", "heapq",
    "hmac", "html", "ipaddress", "itertools", "json", "math", "operator", "re", "string", "typing", "unicodedata", "urllib", "xml", "zlib",
    "backoff", "oauthlib", "typing_extensions",
}  # fmt: skip
"""What computes and nothing else. `backoff` for its generators, `oauthlib` for signatures."""

IMPURE_PARTS = {"urllib.request", "urllib.robotparser", "backoff.on_exception", "backoff.on_predicate"}


def imports(tree: ast.AST) -> set[str]:
    """Dotted names of everything that is imported anywhere in it, in functions too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def is_pure(name: str, pure: list[str]) -> bool:
    if name in IMPURE_PARTS:
        return False
    return name.split(".", maxsplit=1)[0] in PURE_IMPORTS or any(
        name == module or name.startswith(module + ".") for module in pure
    )


@pytest.mark.parametrize("module", PURE)
def test_the_pure_core_imports_nothing_that_touches_the_world(module: str) -> None:
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
    impure = {name for name in imports(tree) if not is_pure(name, PURE)}
    assert impure == set()


@pytest.mark.parametrize("module", PURE)
def test_the_pure_core_asks_no_clock_and_opens_no_file(module: str) -> None:
    source = (ROOT / (module.replace(".", "/") + ".py")).read_text()
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}
    clocks = {name for name in called if name.rsplit(".", 1)[-1] in ("now", "utcnow", "today", "monotonic")}
    assert clocks | (called & {"open", "print", "input", "exec", "eval", "__import__"}) == set()


def test_the_check_of_imports_sees_those_in_functions() -> None:
    hidden = ast.parse("def f():\n    import time\n    from os import path\n")
    assert {name for name in imports(hidden) if not is_pure(name, [])} == {"time", "os.path"}


# --- how the code reads ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*SOURCES, *TOOLS], ids=shown)
def test_the_first_line_of_each_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert docstring.splitlines()[0].endswith((".", ":")), (
        "one sentence, so that head -1 describes the module"
    )


@pytest.mark.parametrize("path", [*SOURCES, *TOOLS], ids=shown)
def test_no_module_begins_by_saying_that_it_is_a_file(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert not docstring.startswith(("This file is", "This package is")), "say at once what it does"


def test_no_function_and_no_file_is_too_long() -> None:
    assert longest.too_long() == []


def test_the_longest_functions_and_files_are_found() -> None:
    assert longest.files()[0][0] >= longest.files()[-1][0] > 0
    assert len(longest.files()) == len(SOURCES)
    assert any(
        "relay/core/answers.py" in name and name.endswith(" row_of") for _, name in longest.functions()
    )


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_no_class_is_named_for_what_it_is_not(path: Path) -> None:
    names = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)}
    assert {name for name in names if re.search(r"(Manager|Helper|Utils?|Base|Impl)$", name)} == set()


def test_no_module_is_called_like_one_it_could_be_taken_for() -> None:
    others = sys.stdlib_module_names | {name.replace("-", "_") for name in metadata.packages_distributions()}
    names = {path.stem for path in SOURCES if not path.stem.startswith("__")}
    assert names & others <= {"token", "queue"}  # `relay queue` and its report are nobody's import


def test_nothing_is_written_twice() -> None:
    """Two functions with the same body of some length are one function; the sandbox reads for itself."""
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        if "sandbox" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and (body[-1].end_lineno or 0) - body[0].lineno >= 4:
                    places.setdefault("".join(map(ast.dump, body)), []).append(f"{shown(path)} {node.name}")
    assert [names for names in places.values() if len(names) > 1] == []


def test_whoever_catches_everything_passes_it_on_or_says_why_not() -> None:
    """A broad `except` that swallows hides bugs: it needs its reason beside it, and there are few."""
    swallowing = [
        (path, handler)
        for path in SOURCES
        for handler in ast.walk(ast.parse(path.read_text()))
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException"))
        and not any(isinstance(node, ast.Raise) for node in handler.body)
    ]
    unexplained = [
        f"{shown(path)}:{handler.lineno}"
        for path, handler in swallowing
        if "# " not in path.read_text().splitlines()[handler.lineno - 1]
    ]
    assert unexplained == []
    assert len(swallowing) <= 5


# --- what stands nowhere --------------------------------------------------------------------------

FORBIDDEN = {
    "a path of one machine": r"(?<![\w.])/(wo" + r"rk|ro" + r"ot|home/\w+)/",
    "a package index": "py" + r"pi\.|python" + r"hosted|index" + "-url",
    "the kitchen": r"\.\./sha" + r"red\b|\bcla" + r"ude\b|\bA" + r"I\b|\bLL" + r"M\b",
}


def tracked() -> list[Path]:
    """The text files of the project, as git knows them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:4096]]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout: git knows the project's files")
@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_of_one_machine_or_workshop_is_left_in_the_project(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what], re.IGNORECASE if "index" in what else 0)
    found = [
        f"{shown(path)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_what_is_looked_for_would_be_found() -> None:
    assert re.search(FORBIDDEN["a path of one machine"], "cd /wo" + "rk/main")
    assert not re.search(FORBIDDEN["a path of one machine"], "some/wo" + "rk/place")
    assert re.search(FORBIDDEN["a package index"], "https://py" + "pi.org")


# --- the glossary -------------------------------------------------------------------------------

REPLACED = re.compile(
    r"\b(mend|mends|far side|weather|hand(s|ed|ing)? over|under way|stand-in|by itself|gets on)\b",
    re.IGNORECASE,
)
"""Words that docs/glossary.md replaces."""

OLDER_RECORDS = {path for path in DECISIONS if path.name < "0015"}
"""Decision records from before the glossary."""

WORDED = sorted(
    path
    for pattern in ("README.md", "docs/**/*.md", "relay/**/*.md", "relay/**/*.py", "relay/**/*.html")
    for path in ROOT.glob(pattern)
    if path not in OLDER_RECORDS
)


@pytest.mark.parametrize("path", WORDED, ids=shown)
def test_no_word_that_the_glossary_replaces_is_used(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), 1)
    assert [
        f"{shown(path)}:{number}: {line.strip()}" for number, line in lines if REPLACED.search(line)
    ] == []


def test_a_replaced_word_would_be_found() -> None:
    assert REPLACED.search("Messages are handed over.")
    assert REPLACED.search("the Far Side")
    assert not REPLACED.search("Recommended amendments, handed overtly")


# --- decision records -----------------------------------------------------------------------------

HEADINGS = ["## Context", "## Decision", "## Instead of", "## Consequences"]


@pytest.mark.parametrize("path", DECISIONS, ids=shown)
def test_each_decision_has_its_number_and_the_four_headings(path: Path) -> None:
    lines = path.read_text().splitlines()
    number = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", path.name)
    assert number is not None
    assert re.fullmatch(rf"# {int(number[1])}\. .+", lines[0])
    assert [line for line in lines if line.startswith("## ")] == HEADINGS


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
