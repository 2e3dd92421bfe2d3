"""This file is the coverage check of the pure core: each module fully covered by its own test file alone.

The modules are those of the contract "pure" in pyproject.toml, `relay.ion.oauth` and `relay.ion.inbound`.
`relay/x.py` and `relay/ion/x.py` are tested by `tests/unit/test_x.py`. Prints a line a module; ends with 1 if
a branch of one is not covered, its tests fail, or it has no test file.
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
"""Of the pure packages: what is declared there has no branch of its own."""
ALSO = ["relay.ion.oauth", "relay.ion.inbound_auth"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one module's test file covers; `missing`: lines and branches, empty when it is all of it."""

    module: str
    percent: float
    missing: str

    def __str__(self) -> str:
        return f"  {self.module:<20} {self.percent:6.1f} %  {self.missing}".rstrip()


def pure_modules() -> list[str]:
    """Dotted names."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    named: list[str] = next(contract["source_modules"] for contract in contracts if contract["id"] == "pure")
    return sorted({module for name in [*named, *ALSO] for module in _modules_of(name)})


def _modules_of(name: str) -> list[str]:
    """The module itself, or those of a package that hold code."""
    folder = ROOT / name.replace(".", "/")
    files = list(folder.glob("*.py"))
    return [f"{name}.{file.stem}" for file in files if file.stem not in WITHOUT_CODE] if files else [name]


def measure(module: str) -> Outcome:
    """Run the module's own test file with coverage limited to the module."""
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
    """Measure all, two at a time."""
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
