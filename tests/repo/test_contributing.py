"""Makefile, CONTRIBUTING.md, the commit hooks and the workflows agree on targets, steps and versions."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import check, pythons

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
HOOKS: dict[str, Any] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


def unknown_target(words: list[str]) -> str | None:
    """The target of a `make` command if the Makefile does not have it; a `check-` target needs its step."""
    target = words[1]
    if target.startswith("check-"):
        return None if target.removeprefix("check-") in {*check.STEPS, "NAME"} else target
    return None if re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE) else target


def make_commands(lines: str) -> Iterator[list[str]]:
    for line in lines.splitlines():
        words = shlex.split(line)
        if words[:1] == ["make"]:
            yield words


def ran_by(job: str) -> list[str]:
    """The targets that a job of the workflow runs."""
    runs = [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]
    return [words[1] for run in runs for words in make_commands(run)]


@pytest.mark.parametrize("job", WORKFLOW["jobs"])
def test_each_job_of_the_workflow_runs_targets_that_exist(job: str) -> None:
    assert ran_by(job)
    assert [target for target in ran_by(job) if unknown_target(["make", target])] == []


def test_each_commit_hook_runs_a_target_that_exists() -> None:
    entries = [hook["entry"] for repository in HOOKS["repos"] for hook in repository["hooks"]]
    assert "make quick" in entries
    assert [entry for entry in entries if unknown_target(shlex.split(entry))] == []


def test_contributing_names_targets_that_exist() -> None:
    named = re.findall(r"`(make [^`]+)`", CONTRIBUTING)
    assert {"make quick", "make test"} <= set(named)
    assert [command for command in named if unknown_target(shlex.split(command))] == []


def test_contributing_names_every_step_of_the_check() -> None:
    (row,) = re.findall(r"^\| `make check-NAME` \|.*$", CONTRIBUTING, re.MULTILINE)
    assert set(re.findall(r"`([a-z]+)`", row)) == set(check.STEPS)


def test_every_target_is_declared_phony_and_described() -> None:
    targets = re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)
    assert set(targets) == set(re.findall(r"^\.PHONY: ([a-z-]+)$", MAKEFILE, re.MULTILINE))
    described = set(re.findall(r"^([a-z-]+):.*## .+$", MAKEFILE, re.MULTILINE))
    assert set(targets) - described == {"tools"}


def test_the_quick_tests_exist_and_are_part_of_all() -> None:
    folders = check.QUICK_TESTS.split()
    assert [folder for folder in folders if not any((ROOT / folder).glob("test_*.py"))] == []
    covered = check.TESTS.commands[0]
    assert not any(f"--ignore={folder}" in covered for folder in folders)


def test_the_workflow_covers_every_supported_python() -> None:
    matrix = WORKFLOW["jobs"]["whole"]["strategy"]["matrix"]["python"]
    oldest = ".".join(map(str, pythons.OLDEST))
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert requires == f">={oldest}"
    assert matrix[0] == oldest
    assert [tuple(map(int, version.split("."))) for version in matrix] == [(3, 11), (3, 12), (3, 13)]
    image = re.search(r"^FROM python:(\d+\.\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert image is not None
    assert image[1] in matrix


def test_pushes_run_the_quick_check_and_nights_the_long_one() -> None:
    assert ran_by("quick") == ["quick"]
    assert ran_by("whole") == ["test"]
    assert ran_by("nightly") == ["check-mutants", "test-long"]
    triggers = WORKFLOW[True]  # YAML reads the key `on` as true
    assert {"push", "schedule"} <= set(triggers)


def test_the_integration_installs_a_browser_before_it_tests() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert script.index("\nmake browser") < script.index("make test; then")


def test_the_test_target_installs_nothing_on_the_machine() -> None:
    """Only `make browser` may: no other recipe installs or refreshes packages of the system."""
    recipes = dict(re.findall(r"^([^\s#:.][^:=\n]*):[^=\n]*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE))
    assert "tools" in recipes
    changing = {
        name for name, recipe in recipes.items() if re.search(r"apt-get (install|update|upgrade)", recipe)
    }
    assert changing == {"browser"}


def test_a_target_that_does_not_exist_would_be_found() -> None:
    assert unknown_target(["make", "quik"]) == "quik"
    assert unknown_target(["make", "check-length"]) is None
    assert unknown_target(["make", "check-lenght"]) == "check-lenght"
