"""Check that each pure module is covered completely by its own test file.

The modules are those of the contract "pure" in pyproject.toml, and `relay.ion.inbound_auth`. The test file of
`relay/core/x.py` is `tests/core/test_x.py`. Prints a line for each module; the exit code is 1 if a branch
is not covered, a test fails, or a test file is missing.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WITHOUT_CODE = {"__init__", "admin", "ports"}
"""Modules of the pure packages that only declare, without a branch."""
ALSO = ["relay.ion.inbound_auth"]
"""Modules outside the contract that are held to the same coverage."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The coverage of one module by its test file; `missing`: lines and branches that are not covered."""

    module: str
    percent: float
    missing: str

    def __str__(self) -> str:
        return f"  {self.module:<20} {self.percent:6.1f} %  {self.missing}".rstrip()


def pure_modules() -> list[str]:
    """Return the dotted names of all modules to check."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    named: list[str] = next(contract["source_modules"] for contract in contracts if contract["id"] == "pure")
    return sorted({module for name in [*named, *ALSO] for module in _modules_of(name)})


def _modules_of(name: str) -> list[str]:
    """Return the module itself, or the modules of a package that have code."""
    folder = ROOT / name.replace(".", "/")
    files = list(folder.glob("*.py"))
    return [f"{name}.{file.stem}" for file in files if file.stem not in WITHOUT_CODE] if files else [name]


def measure(module: str) -> Outcome:
    """Run the module's test file with coverage limited to the module."""
    source = ROOT / (module.replace(".", "/") + ".py")
    tests = ROOT / "tests" / source.parent.relative_to(ROOT / "relay") / f"test_{source.stem}.py"
    for needed in (source, tests):
        if not needed.exists():
            return Outcome(module, 0.0, f"{needed.relative_to(ROOT)} does not exist")
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder, "data"), Path(folder, "report.json")
        coverage = [sys.executable, "-m", "coverage"]
        ran = _run(
            [*coverage, "run", f"--data-file={data}"],
            ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        )
        if ran.returncode != 0:
            return Outcome(module, 0.0, f"its tests fail:\n{ran.stdout[-3000:]}{ran.stderr[-1000:]}")
        made = _run(
            [*coverage, "json", "-q", f"--include={source}", f"--data-file={data}", "-o", str(report)], []
        )
        if made.returncode != 0:
            return Outcome(module, 0.0, made.stdout + made.stderr)
        return _read(module, json.loads(report.read_text()))


def _read(module: str, report: dict[str, dict[str, dict[str, list[object]]]]) -> Outcome:
    (found,) = report["files"].values()
    lines = [f"line {line}" for line in found["missing_lines"]]
    branches = [f"branch {branch}" for branch in found["missing_branches"]]
    percent = report["totals"]["percent_covered"]
    assert isinstance(percent, float | int)
    return Outcome(module, float(percent), ", ".join(lines + branches))


def _run(command: list[str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def main() -> int:
    """Measure all modules, two in parallel."""
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(measure, pure_modules()))
    for outcome in outcomes:
        print(outcome)
    short = [outcome.module for outcome in outcomes if outcome.missing or outcome.percent < 100]
    if short:
        print(f"not fully covered by their own test file: {', '.join(short)}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
