"""This file is what `make test` runs: the steps of the check, one after the other, until one fails.

    python tools/check.py [STEP…]

Without a step all of them. `RELAY_TEST_LONG=1` lets the tests run their long, seed-varied forms.
"""

import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
GENERATED = "docs/settings.md docs/what-happens-when.md docs/runbook.md docs/metrics.md docs/log.md"


@dataclass(frozen=True, slots=True)
class Together:
    """Commands that run side by side: the tests of whole processes wait more than they work."""

    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A name, what it holds, and the commands that hold it; `{python}` and `{bin}` are the environment's."""

    name: str
    promise: str
    commands: tuple[str | Together, ...]


STEPS = (
    Step("format", "the formatter has nothing to change", ("{bin}/ruff format --check .",)),
    Step("lint", "the linter has nothing to say", ("{bin}/ruff check --quiet .",)),
    Step("types", "the types are right, strictly", ("{bin}/mypy",)),
    Step("layers", "imports go downwards only; the core is pure", ("{bin}/lint-imports",)),
    Step("length", "no function or file is too long to be one thing", ("{python} tools/longest.py",)),
    Step(
        "generated",
        "the pages made from the code are up to date",
        ("{python} -m tools.generate", f"git diff --exit-code -- {GENERATED}"),
    ),
    Step("coverage", "each pure module is covered by its own test", ("{python} tools/pure_coverage.py",)),
    Step("mutants", "no change to the core goes unnoticed", ("{python} tools/mutate.py",)),
    Step(
        "tests",
        "all tests pass",
        (
            Together(
                (
                    "{python} -m pytest -q --ignore=tests/e2e --ignore=tests/web tests",
                    "{python} -m pytest -q tests/web tests/e2e/test_[a-o]*.py",
                    "{python} -m pytest -q tests/e2e/test_[p-z]*.py",
                )
            ),
        ),
    ),
)


def run(step: Step, scratch: str) -> bool:
    """Run the step's commands until one fails; whether none did."""
    for command in step.commands:
        if isinstance(command, Together):
            done = run_together(command, scratch)
        else:
            print(f"$ {shown(command)}", flush=True)
            done = subprocess.run(words(command, scratch), cwd=ROOT, check=False).returncode == 0
        if not done:
            return False
    return True


def run_together(together: Together, scratch: str) -> bool:
    """Run them at once, and print what each said when it has ended; whether all went well."""
    running = []
    for number, command in enumerate(together.commands):
        print(f"$ {shown(command)} &", flush=True)
        said = Path(scratch, f"said.{number}")
        with said.open("wb") as file:
            process = subprocess.Popen(words(command, scratch), cwd=ROOT, stdout=file, stderr=file)
        running.append((command, process, said))
    for command, process, said in running:
        process.wait()
        print(f"\n$ {shown(command)}\n{said.read_text(errors='replace')}", flush=True)
        said.unlink()
    return all(process.returncode == 0 for _, process, _ in running)


def words(command: str, scratch: str) -> list[str]:
    """As the system takes them; patterns of files in the checkout are what they stand for."""
    filled = shlex.split(command.format(python=sys.executable, bin=BIN, scratch=scratch))
    found = [
        sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(word)) if "*" in word else [word]
        for word in filled
    ]
    return [word for words in found for word in words]


def shown(command: str) -> str:
    """For a person."""
    return command.format(python="python", bin="bin", scratch="scratch").replace("bin/", "")


def main(names: list[str]) -> int:
    """Run the named steps, or all."""
    unknown = set(names) - {step.name for step in STEPS}
    if unknown:
        print(f"no such step: {', '.join(unknown)}; there are {', '.join(step.name for step in STEPS)}")
        return 2
    chosen = [step for step in STEPS if not names or step.name in names]
    took: list[str] = []
    with tempfile.TemporaryDirectory(prefix="relay-check-") as scratch:
        for step in chosen:
            print(f"\n--- {step.name}: {step.promise}", flush=True)
            started = time.monotonic()
            if not run(step, scratch):
                print(f"\nFAILED at {step.name}: not true that {step.promise}. Again: make check-{step.name}")
                return 1
            took.append(f"{step.name} {time.monotonic() - started:.0f} s")
    print(f"\nPASSED: {' · '.join(took)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
