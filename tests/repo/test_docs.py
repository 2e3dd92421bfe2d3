"""What is written for people agrees with what the code does: commands, options, settings, links, targets."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from relay.cli import command_line
from relay.config.reference import setting_lines

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in (
        *(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),  # which has names of the past
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("relay/observability/runbook/*.md"),
        *ROOT.glob("deploy/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
    )
    if path.exists()
)
EXAMPLES = [ROOT / ".env.example", ROOT / "Dockerfile", *sorted((ROOT / "deploy").rglob("*.yaml"))]
NOT_SETTINGS = {"RELAY_TEST_LONG", "RELAY_LOG__LEVL"}
"""A switch of the tests, and the misspelt name in the sample of `setting.ignored`."""


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- commands -------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `relay …` command in the page's code, with continued lines joined."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(relay [^`]+)`", text)
    for line in lines:
        found = re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\S*/bin/)?relay( .*|$)", line.strip())
        if found is not None:
            yield shlex.split(re.split(r" [|>#]|&&|;", found[1])[0], comments=True)


def unknown_in(words: list[str]) -> str | None:
    """The first word or option of this command that the command line does not know, if any."""
    command = typer.main.get_command(command_line(words))
    for place, word in enumerate(words):
        if not re.fullmatch(r"[a-z-]+", word):
            continue  # an argument, a placeholder such as FILE or …
        if word.startswith("--"):
            options = {
                option for parameter in command.params for option in parameter.opts + parameter.secondary_opts
            }
            if word not in options | {"--help"}:
                return word
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return " ".join(words[: place + 1])
            command = command.commands[word]
    return None


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_command_in_the_documents_exists_with_its_options(page: Path) -> None:
    wrong = {" ".join(words): unknown_in(words) for words in commands(page.read_text())}
    assert {command: word for command, word in wrong.items() if word is not None} == {}


def test_a_command_that_does_not_exist_would_be_found() -> None:
    page = "```\n$ relay status --jsn\nrelay mesages list\n```\nSee `relay check --json | less`."
    found = [unknown_in(words) for words in commands(page)]
    assert found == ["--jsn", "mesages", None]


# --- settings -------------------------------------------------------------------------------------


def known_settings() -> list[re.Pattern[str]]:
    return [
        re.compile(re.escape(line.name).replace("TENANT_ID", "[A-Z0-9_]+?"))
        for line in setting_lines("TENANT_ID")
    ]


def mentioned(text: str) -> set[str]:
    """Whole names only: `RELAY_LOG__…` and `RELAY_` speak of many."""
    names = set(re.findall(r"\bRELAY_[A-Z0-9_]*[A-Z0-9](?![A-Z0-9_]|…|\*|<|\{)", text))
    return names - {"RELAY_TENANTS"}


@pytest.mark.parametrize("page", [*PAGES, *[path for path in EXAMPLES if path.exists()]], ids=shown)
def test_every_setting_that_is_mentioned_exists(page: Path) -> None:
    known = known_settings()
    unknown = {
        name for name in mentioned(page.read_text()) if not any(pattern.fullmatch(name) for pattern in known)
    }
    assert unknown - NOT_SETTINGS == set()


def test_the_example_environment_names_every_setting() -> None:
    example = mentioned((ROOT / ".env.example").read_text())
    missing = [
        pattern.pattern
        for pattern in known_settings()
        if not any(pattern.fullmatch(name) for name in example)
    ]
    assert missing == []


# --- links and targets ----------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """As the usual renderers make them from headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", name):
            continue
        file = page.parent / name if name else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    assert broken == []


def paths_in(text: str) -> set[str]:
    """The paths of the checkout that stand in backticks; `*`, `…` and `<…>` stand for many."""
    quoted = re.findall(r"`((?:relay|tests|tools|docs|deploy|examples|\.github|\.ci)/[^`\s]*)`", text)
    return {path for path in quoted if not re.search(r"[*…<>]", path)}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_path_in_backticks_exists(page: Path) -> None:
    missing = {path for path in paths_in(page.read_text()) if not (ROOT / path).exists()}
    assert missing == set()


def test_a_path_that_does_not_exist_would_be_found() -> None:
    assert paths_in("`relay/gone.py`, `relay run`, `docs/*.md`, `tests/`") == {"relay/gone.py", "tests/"}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_make_target_in_the_documents_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert {name for name in named if not name.startswith("check-")} <= targets


def test_the_readme_names_the_test_command_that_the_integration_runs() -> None:
    assert "make test" in (ROOT / "README.md").read_text()
    assert re.search(r"^\s*if timeout .* make test", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
