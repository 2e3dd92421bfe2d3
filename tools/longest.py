"""Measure the longest functions and files of the relay, and hold them to a ceiling.

    python tools/longest.py

No function may be longer than the ceiling. A file may, if `REASONS` says why it is still one thing.
"""

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUNCTION_CEILING = 40
FILE_CEILING = 350
REASONS: dict[str, str] = {}
"""The files over the ceiling, each with the reason."""

SHOWN = 5

Measured = list[tuple[int, str]]
"""Numbers of lines with the name of the function or file; the longest first."""


def files() -> Measured:
    """Return all modules of the relay with their length."""
    return _longest_first((len(path.read_text().splitlines()), _shown(path)) for path in _sources())


def functions() -> Measured:
    """Return all functions of the relay with their length, including the docstring."""
    return _longest_first(
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{_shown(path)}:{node.lineno} {node.name}")
        for path in _sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def too_long() -> list[str]:
    """Return a line for each function and file that is too long, and for each reason that is not needed."""
    over = {name for lines, name in files() if lines > FILE_CEILING}
    return [
        *(
            f"{name} has {lines} lines, the ceiling is {FUNCTION_CEILING}"
            for lines, name in functions()
            if lines > FUNCTION_CEILING
        ),
        *(
            f"{name} has {lines} lines, the ceiling is {FILE_CEILING}: split it, or give a reason here"
            for lines, name in files()
            if name in over and name not in REASONS
        ),
        *(f"{name} needs no reason any more" for name in sorted(REASONS.keys() - over)),
    ]


def _sources() -> list[Path]:
    return sorted((ROOT / "relay").rglob("*.py"))


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _longest_first(measured: Iterable[tuple[int, str]]) -> Measured:
    return sorted(measured, reverse=True)


def main() -> int:
    """Print the longest, the files over the ceiling with their reasons, and everything that is too long."""
    for title, measured in (("functions", functions()), ("files", files())):
        print(f"The longest {title}:")
        for lines, name in measured[:SHOWN]:
            print(f"  {lines:4} {name}")
    print(f"Files over {FILE_CEILING} lines, with the reason:")
    for lines, name in files():
        if name in REASONS:
            print(f"  {lines:4} {name}: {REASONS[name]}")
    failures = too_long()
    print("\n".join(failures), end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
