"""This file is what measures the longest functions and files of the relay, and holds them to a ceiling.

    python tools/longest.py

About 30 lines a function and 250 a file is where to ask "is this one thing?"; beyond the ceilings it is not.
"""

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUNCTION_CEILING = 45
FILE_CEILING = 430
SHOWN = 5

Measured = list[tuple[int, str]]
"""Lines, and whose they are; the longest first."""


def files() -> Measured:
    """All modules of the relay with their length."""
    return _longest_first((len(path.read_text().splitlines()), _shown(path)) for path in _sources())


def functions() -> Measured:
    """All functions of the relay with their length, docstring and all."""
    return _longest_first(
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{_shown(path)}:{node.lineno} {node.name}")
        for path in _sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def too_long() -> list[str]:
    """What is beyond its ceiling, a line each."""
    return [
        f"{name} has {lines} lines, the ceiling is {ceiling}"
        for measured, ceiling in ((functions(), FUNCTION_CEILING), (files(), FILE_CEILING))
        for lines, name in measured
        if lines > ceiling
    ]


def _sources() -> list[Path]:
    return sorted((ROOT / "relay").rglob("*.py"))


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _longest_first(measured: Iterable[tuple[int, str]]) -> Measured:
    return sorted(measured, reverse=True)


def main() -> int:
    """Print the longest, then what is too long."""
    for title, measured in (("functions", functions()), ("files", files())):
        print(f"The longest {title}:")
        for lines, name in measured[:SHOWN]:
            print(f"  {lines:4} {name}")
    beyond = too_long()
    print("\n".join(beyond), end="\n" if beyond else "")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
