"""The mutation check: whether the tests of the protocol fail at every small change to it.

Each mutant is the source of a module with one expression changed. It replaces the module in a forked child,
which runs the module's own test file; a test that fails kills the mutant. Texts are not mutated.

    python tools/mutate.py [--list] [--only TEXT]

Ends with 1 if a mutant survives, 0 otherwise.
"""

import argparse
import ast
import contextlib
import gc
import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [
    "-x",
    "-q",
    "-p",
    "no:cacheprovider",
    "--tb=no",
    "--assert=plain",
    "-c",
    os.devnull,
    "--rootdir",
    str(ROOT),
    "--import-mode=importlib",
    "--noconftest",
]  # no settings, plugins or rewriting: most of a mutant's time was pytest's start
TIMEOUT_SECONDS = 20
ENUMS = ("Opening", "Posting", "Fate", "FaultOwner")

_ORDER_ONLY = "only the order of the distances counts, and it stays the same"
EQUIVALENT = {  # the changed line: why no test can ever tell the difference
    "return (0 - 1)": _ORDER_ONLY,
    "return (4 + 1) if until_resumed else 3": _ORDER_ONLY,
}


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the core, and the test file that must notice every change of it."""

    name: str

    @property
    def path(self) -> Path:
        """Its source."""
        return ROOT / "relay" / "core" / f"{self.name}.py"

    @property
    def tests(self) -> Path:
        """Its test file."""
        return ROOT / "tests" / "core" / f"test_{self.name}.py"


MODULES = (Module("states"), Module("answers"), Module("protocol"))


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the bytes from `start` to `end` become `text`."""

    start: int
    end: int
    text: str
    line: int

    def apply(self, source: bytes) -> bytes:
        """The whole mutated source."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def difference(self, source: bytes) -> tuple[str, str]:
        """The line before and after, stripped."""
        first = source.rfind(b"\n", 0, self.start) + 1
        last = source.find(b"\n", self.end)
        after = source[first : self.start] + self.text.encode() + source[self.end : last]
        return source[first:last].decode().strip(), after.decode().strip()


# --- making mutants -------------------------------------------------------------------------------


class Grower:
    """Walks the syntax tree and makes mutants; one method a kind of node."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        starts = [0]
        for line in source.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self._starts = starts
        self._tree = ast.parse(source)
        self._members = _enum_members(ast.parse(Module("answers").path.read_bytes()))
        self._rows = _row_names(self._tree)

    def mutants(self) -> list[Mutant]:
        """All of them, in the order of the source, each change once."""
        found = {(m.start, m.end, m.text): m for node in self._nodes() for m in self._of(node)}
        unchanged = {key for key, m in found.items() if m.text == self._text_at(m.start, m.end)}
        return sorted(
            (m for key, m in found.items() if key not in unchanged), key=lambda m: (m.start, m.text)
        )

    def _nodes(self) -> Iterator[ast.AST]:
        todo: list[ast.AST] = [self._tree]
        while todo:
            node = todo.pop()
            yield node
            for name, value in ast.iter_fields(node):
                if name in ("annotation", "returns"):  # types are the type checker's to hold
                    continue
                children = value if isinstance(value, list) else [value]
                todo += [
                    child
                    for child in children
                    if isinstance(child, ast.AST) and not _is_left_alone(node, child)
                ]

    def _of(self, node: ast.AST) -> Iterator[Mutant]:
        method: Callable[[ast.AST], Iterator[Mutant]] | None = getattr(
            self, f"_{type(node).__name__.lower()}", None
        )
        return method(node) if method is not None else iter(())

    # constants and names

    def _constant(self, node: ast.Constant) -> Iterator[Mutant]:
        if isinstance(node.value, bool):
            yield self._swap(node, str(not node.value))
        elif isinstance(node.value, int | float):
            yield self._swap(node, f"({node.value!r} + 1)")
            yield self._swap(node, f"({node.value!r} - 1)")

    def _attribute(self, node: ast.Attribute) -> Iterator[Mutant]:
        if isinstance(node.value, ast.Name) and node.value.id in ENUMS:
            for member in self._members[node.value.id]:
                yield self._swap(node, f"{node.value.id}.{member}")
        if node.attr in ("failures", "rejected"):
            other = {"failures": "rejected", "rejected": "failures"}[node.attr]
            yield self._swap(node, f"{self._text(node.value)}.{other}")

    def _name(self, node: ast.Name) -> Iterator[Mutant]:
        if node.id in self._rows and isinstance(node.ctx, ast.Load):
            rows = self._rows
            yield self._swap(node, rows[(rows.index(node.id) + 1) % len(rows)])
            yield self._swap(node, rows[rows.index(node.id) - 1])
        swaps = {"max": "min", "min": "max", "any": "all", "all": "any"}
        swaps |= {"Parked": "Released", "Released": "Parked", "Initialise": "Halt", "failed": "state.streak"}
        if node.id in swaps and isinstance(node.ctx, ast.Load):
            yield self._swap(node, swaps[node.id])

    # expressions

    def _compare(self, node: ast.Compare) -> Iterator[Mutant]:
        swaps = {
            "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"),
            "==": ("!=",), "!=": ("==",),
            "in": ("not in",), "not in": ("in",), "is": ("is not",), "is not": ("is",),
        }  # fmt: skip
        left = node.left
        for right in node.comparators:
            start, end = self._end(left), self._start(right)
            operator = self._text_at(start, end).strip()
            for other in swaps[operator]:
                yield Mutant(start, end, f" {other} ", right.lineno)
            left = right

    def _boolop(self, node: ast.BoolOp) -> Iterator[Mutant]:
        word, other = (" and ", " or ") if isinstance(node.op, ast.And) else (" or ", " and ")
        parts = [f"({self._text(value)})" for value in node.values]
        yield self._swap(node, f"({other.join(parts)})")
        for index in range(len(parts)):
            yield self._swap(node, f"({word.join(parts[:index] + parts[index + 1 :])})")

    def _unaryop(self, node: ast.UnaryOp) -> Iterator[Mutant]:
        yield self._swap(node, f"({self._text(node.operand)})")

    def _binop(self, node: ast.BinOp) -> Iterator[Mutant]:
        if isinstance(node.op, ast.Add):
            left, right = self._text(node.left), self._text(node.right)
            yield self._swap(node, f"({left})")
            yield self._swap(node, f"({left} - {right})")

    def _ifexp(self, node: ast.IfExp) -> Iterator[Mutant]:
        yield from self._decided(node.test)

    def _call(self, node: ast.Call) -> Iterator[Mutant]:
        if isinstance(node.func, ast.Name) and node.func.id in (
            "Row",
            "assert_never",
            "isinstance",
            "dataclass",
        ):
            return
        pieces: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
        for index, piece in enumerate(pieces):
            if isinstance(piece, ast.keyword) or index == len(node.args) - 1:
                kept = [self._text(other) for other in pieces if other is not piece]
                yield self._swap(node, f"{self._text(node.func)}({', '.join(kept)})")

    def _set(self, node: ast.Set) -> Iterator[Mutant]:
        for item in node.elts:
            kept = [self._text(other) for other in node.elts if other is not item]
            yield self._swap(node, "{" + ", ".join(kept) + "}")

    def _tuple(self, node: ast.Tuple) -> Iterator[Mutant]:
        if not isinstance(node.ctx, ast.Load) or self._source[self._start(node) :][:1] != b"(":
            return
        for item in node.elts:
            kept = [self._text(other) for other in node.elts if other is not item]
            yield self._swap(node, "(" + ", ".join(kept) + ",)")

    def _dict(self, node: ast.Dict) -> Iterator[Mutant]:
        pairs = [
            (self._text(key), self._text(value))
            for key, value in zip(node.keys, node.values, strict=True)
            if key
        ]
        for dropped in pairs:
            kept = ", ".join(f"{key}: {value}" for key, value in pairs if key != dropped[0])
            yield self._swap(node, "{" + kept + "}")

    # statements

    def _if(self, node: ast.If) -> Iterator[Mutant]:
        yield from self._decided(node.test)

    def _match_case(self, node: ast.match_case) -> Iterator[Mutant]:
        if node.guard is not None:
            yield from self._decided(node.guard)
        if isinstance(node.pattern, ast.MatchOr):
            for dropped in node.pattern.patterns:
                kept = [self._text(other) for other in node.pattern.patterns if other is not dropped]
                yield self._swap(node.pattern, " | ".join(kept))

    def _return(self, node: ast.Return) -> Iterator[Mutant]:
        if node.value is None:
            return
        if not isinstance(node.value, ast.Constant):
            yield self._swap(node.value, "None")
        if isinstance(node.value, ast.Compare | ast.BoolOp):
            yield self._swap(node.value, f"not ({self._text(node.value)})")

    def _decided(self, test: ast.expr) -> Iterator[Mutant]:
        yield self._swap(test, "True")
        yield self._swap(test, "False")

    # the source's bytes

    def _swap(self, node: ast.expr | ast.pattern, text: str) -> Mutant:
        return Mutant(self._start(node), self._end(node), text, node.lineno)

    def _start(self, node: ast.expr | ast.pattern | ast.keyword) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.pattern | ast.keyword) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr | ast.pattern | ast.keyword) -> str:
        return self._text_at(self._start(node), self._end(node))

    def _text_at(self, start: int, end: int) -> str:
        return self._source[start:end].decode()


def _is_left_alone(parent: ast.AST, child: ast.AST) -> bool:
    """Not looked into: the classes' bases, and what unions like `State` are made of."""
    if isinstance(parent, ast.ClassDef):
        return child in parent.bases
    return isinstance(parent, ast.Assign) and isinstance(child, ast.BinOp) and isinstance(child.op, ast.BitOr)


def _enum_members(tree: ast.Module) -> dict[str, list[str]]:
    return {
        node.name: [
            target.id
            for statement in node.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        ]
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name in ENUMS
    }


def _row_names(tree: ast.Module) -> list[str]:
    return [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "Row"
    ]


# --- trying them ----------------------------------------------------------------------------------


def survives(module: Module, source: bytes) -> bool:
    """Run the tests against this source in a child process. A crash or a hang is a kill too."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            signal.alarm(TIMEOUT_SECONDS)
            code = _run_tests(module, source)
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return status == 0


def _run_tests(module: Module, source: bytes) -> int:
    import relay.core

    name = f"relay.core.{module.name}"
    mutated = ModuleType(name)
    mutated.__file__ = str(module.path)
    sys.modules[name] = mutated
    setattr(relay.core, module.name, mutated)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    exec(compile(source, str(module.path), "exec"), mutated.__dict__)  # noqa: S102 - this is what it is for
    import pytest

    return int(pytest.main([*PYTEST, str(module.tests)]))


def warm_up(scratch: str) -> None:
    """Import once, before forking, what every child would import otherwise."""
    sys.pycache_prefix, sys.dont_write_bytecode = scratch, False  # the tests are compiled once, not 900 times
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import _pytest.assertion.rewrite  # noqa: F401
    import hypothesis
    import hypothesis.strategies
    import pytest

    hypothesis.settings.register_profile(
        "mutants", database=None, derandomize=True, max_examples=60, phases=[hypothesis.Phase.generate]
    )
    hypothesis.settings.load_profile("mutants")
    empty = Path(scratch, "test_nothing.py")
    empty.write_text("")
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*PYTEST, str(empty)])  # imports the rest of pytest
    gc.freeze()  # what is here is shared with every child


def try_all(module: Module, source: bytes, mutants: list[Mutant], workers: int) -> list[bool]:
    """For each mutant whether it survives; forked workers share the work."""
    pipes = []
    for worker in range(workers):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(reading)
            verdicts = bytes(survives(module, mutant.apply(source)) for mutant in mutants[worker::workers])
            os.write(writing, verdicts)
            os._exit(0)
        os.close(writing)
        pipes.append(reading)
    found = [False] * len(mutants)
    for worker, reading in enumerate(pipes):
        with io.FileIO(reading) as pipe:
            verdicts = pipe.readall()
        if len(verdicts) != len(mutants[worker::workers]):
            sys.exit("a worker of the mutation check died")
        found[worker::workers] = [bool(verdict) for verdict in verdicts]
    for _ in range(workers):
        os.wait()
    return found


# --- the report -----------------------------------------------------------------------------------


def main() -> int:
    """Make the mutants of each module, try them, report."""
    options = argparse.ArgumentParser(
        description="Mutation check of relay/core: answers.py, protocol.py, states.py"
    )
    options.add_argument("--list", action="store_true", help="only print the mutants")
    options.add_argument(
        "--only", default="", metavar="TEXT", help="only mutants whose changed line has this text"
    )
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if not chosen.list:
            warm_up(scratch)
        return max([_check(module, chosen.only, is_list=chosen.list) for module in MODULES])


def _check(module: Module, text: str, *, is_list: bool) -> int:
    source = module.path.read_bytes()
    mutants = [m for m in Grower(source).mutants() if text in "\n".join(m.difference(source))]
    if is_list:
        for mutant in mutants:
            _show(module, mutant, source)
        return 0
    started = time.monotonic()
    if not survives(module, source):
        print(f"the tests fail already without a change: run pytest {module.tests.relative_to(ROOT)}")
        return 1
    verdicts = try_all(module, source, mutants, max(2, os.cpu_count() or 2))
    return _report(module, mutants, verdicts, source, time.monotonic() - started)


def _report(
    module: Module, mutants: list[Mutant], verdicts: list[bool], source: bytes, seconds: float
) -> int:
    alive = [mutant for mutant, lives in zip(mutants, verdicts, strict=True) if lives]
    excused = [mutant for mutant in alive if mutant.difference(source)[1] in EQUIVALENT]
    survivors = [mutant for mutant in alive if mutant not in excused]
    for mutant in survivors:
        _show(module, mutant, source)
    killed = len(mutants) - len(alive)
    equivalent = f", {len(excused)} equivalent" if excused else ""
    print(f"mutation check of {module.name}: {killed} of {len(mutants)} mutants killed{equivalent}, "
          f"{len(survivors)} survived, {seconds:.0f} s")  # fmt: skip
    return 1 if survivors else 0


def _show(module: Module, mutant: Mutant, source: bytes) -> None:
    before, after = mutant.difference(source)
    print(f"{module.path.relative_to(ROOT)}:{mutant.line}\n  - {before}\n  + {after}")


if __name__ == "__main__":
    sys.exit(main())
