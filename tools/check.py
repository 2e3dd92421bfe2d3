"""Run the steps of the check: `make test`, `make quick` and the continuous integration all start here.

    python tools/check.py [--quick] [STEP…]

Without a step it runs all of them, a phase after the other, until a phase has a step that fails. The steps of
one phase run in parallel. `--quick` runs the steps that need no database and no process of the relay.
`RELAY_TEST_LONG=1` lets the tests run their long, randomly seeded forms.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
GENERATED = "docs/settings.md docs/what-happens-when.md docs/runbook.md docs/metrics.md docs/log.md"
QUICK_TESTS = "tests/core tests/config tests/daemon tests/ion tests/observability tests/reports tests/sandbox"


@dataclass(frozen=True, slots=True)
class Step:
    """A name, what the step ensures, and its commands, where `{python}` and `{bin}` are the environment's.

    The commands run one after the other until one fails, or all at once where they are `parallel`.
    """

    name: str
    ensures: str
    commands: tuple[str, ...]
    parallel: bool = False


FORMAT = Step("format", "the formatter has nothing to change", ("{bin}/ruff format --check .",))
LINT = Step("lint", "the linter reports nothing", ("{bin}/ruff check --quiet .",))
TYPES = Step("types", "the types are right, strictly", ("{bin}/mypy",))
LAYERS = Step("layers", "imports go downwards only; the core is pure", ("{bin}/lint-imports",))
LENGTH = Step("length", "no function and no file is too long", ("{python} tools/longest.py",))
UNIT = Step(
    "unit",
    "the quick tests pass",
    (
        f"{{python}} -m pytest -q {QUICK_TESTS}",
        "{python} -m pytest -q --ignore=tests/repo/test_deploy.py tests/repo",
    ),
    parallel=True,
)
COVERAGE = Step("coverage", "its own test covers each pure module", ("{python} tools/pure_coverage.py",))
MUTANTS = Step("mutants", "the tests notice every change to the protocol", ("{python} tools/mutate.py",))
PAGES = Step(
    "generated",
    "the pages made from the code are up to date",
    ("{python} -m tools.generate", f"git diff --exit-code -- {GENERATED}"),
)
TESTS = Step(
    "tests",
    "all tests pass",
    (
        "{python} -m pytest -q --ignore=tests/e2e --ignore=tests/web tests",
        "{python} -m pytest -q tests/web tests/e2e/test_[a-n]*.py",
        "{python} -m pytest -q tests/e2e/test_[o-z]*.py",
    ),
    parallel=True,  # the tests of whole processes wait more than they compute
)

QUICK = ((UNIT, TYPES, FORMAT, LINT, LAYERS, LENGTH),)
WHOLE = ((FORMAT, LINT, TYPES, LAYERS, LENGTH), (PAGES,), (COVERAGE,), (MUTANTS,), (TESTS,))
STEPS = {step.name: step for phases in (QUICK, WHOLE) for phase in phases for step in phase}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step or a command ended; `output` is empty where it was shown at once."""

    passed: bool
    output: str
    seconds: float


def run_phase(steps: Sequence[Step]) -> dict[Step, Outcome]:
    """Run the steps in parallel and print the output of each when it has ended; of a single one at once."""
    if len(steps) == 1:
        print(f"\n--- {steps[0].name}: {steps[0].ensures}", flush=True)
        return {steps[0]: run_step(steps[0], shows=True)}
    outcomes = {}
    with ThreadPoolExecutor(len(steps)) as pool:
        running = {pool.submit(run_step, step, shows=False): step for step in steps}
        for future in as_completed(running):
            step, outcome = running[future], future.result()
            outcomes[step] = outcome
            print(f"\n--- {step.name}: {step.ensures}\n{outcome.output.rstrip()}", flush=True)
    return outcomes


def run_step(step: Step, *, shows: bool) -> Outcome:
    """Run the step's commands. `shows`: print what they print, instead of returning it."""
    started = time.monotonic()
    outcomes = []
    if step.parallel:
        with ThreadPoolExecutor(len(step.commands)) as pool:
            for outcome in pool.map(run_command, step.commands):
                outcomes.append(outcome)
                if shows:
                    print(outcome.output, flush=True)
    else:
        for command in step.commands:
            outcomes.append(run_command(command, shows=shows))
            if not outcomes[-1].passed:
                break
    output = "" if shows else "".join(outcome.output for outcome in outcomes)
    return Outcome(all(outcome.passed for outcome in outcomes), output, time.monotonic() - started)


def run_command(command: str, *, shows: bool = False) -> Outcome:
    """Run one command from the top of the checkout."""
    started = time.monotonic()
    shown = "$ " + command.format(python="python", bin="bin").replace("bin/", "") + "\n"
    if shows:
        print(shown, end="", flush=True)
    ran = subprocess.run(
        arguments_of(command),
        cwd=ROOT,
        stdout=None if shows else subprocess.PIPE,
        stderr=None if shows else subprocess.STDOUT,
        check=False,
    )
    output = "" if shows else shown + ran.stdout.decode(errors="replace") + "\n"
    return Outcome(ran.returncode == 0, output, time.monotonic() - started)


def arguments_of(command: str) -> list[str]:
    """The command's words; a pattern becomes the files of the checkout that match it."""
    words = shlex.split(command.format(python=sys.executable, bin=BIN))
    expanded = [
        sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(word)) if "*" in word else [word]
        for word in words
    ]
    return [word for group in expanded for word in group]


def chosen_phases(words: Sequence[str]) -> Sequence[Sequence[Step]]:
    """The phases that the arguments ask for; ends the process with 2 where a step is unknown."""
    if list(words) == ["--quick"]:
        return QUICK
    unknown = [word for word in words if word not in STEPS]
    if unknown:
        print(f"no such step: {', '.join(unknown)}; the steps are {', '.join(STEPS)}")
        sys.exit(2)
    return [[STEPS[word]] for word in words] or WHOLE


def main(words: Sequence[str]) -> int:
    """Run the chosen steps."""
    durations: list[str] = []
    for phase in chosen_phases(words):
        outcomes = run_phase(phase)
        failed = [step for step, outcome in outcomes.items() if not outcome.passed]
        for step in failed:
            print(f"\nFAILED at {step.name}: not true that {step.ensures}. Again: make check-{step.name}")
        if failed:
            return 1
        durations += [f"{step.name} {outcome.seconds:.0f} s" for step, outcome in outcomes.items()]
    print(f"\nPASSED: {' · '.join(durations)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
