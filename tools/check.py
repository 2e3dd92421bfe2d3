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
class Step:
    """A name, what it holds, and the commands that hold it; `{python}` and `{bin}` are the environment's."""

    name: str
    promise: str
    commands: tuple[str, ...]


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
            "{bin}/coverage run --data-file={scratch}/coverage -m pytest -q",
            "{bin}/coverage report --data-file={scratch}/coverage --skip-covered --sort=cover",
        ),
    ),
)


def run(step: Step, scratch: str) -> bool:
    """Run the step's commands until one fails; whether none did."""
    for command in step.commands:
        filled = command.format(python=sys.executable, bin=BIN, scratch=scratch)
        shown = command.format(python="python", bin="bin", scratch="scratch").replace("bin/", "")
        print(f"$ {shown}", flush=True)
        if subprocess.run(shlex.split(filled), cwd=ROOT, check=False).returncode != 0:
            return False
    return True


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
