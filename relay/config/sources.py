"""Environment variables, `.env` and `relay.toml` as one tree, and the names in them that are not settings.

A tree is nested dicts with lower-case keys, tenant ids in upper case. A shape is the tree of all settings:
nested mappings, `None` for a value, `ANY` for a tenant id. No problem's text ever contains a value: it may
be a secret.
"""

import difflib
import errno
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource
from typing_extensions import override

from relay.config.variables import (
    DOTENV,
    PREFIX,
    case_problem,
    case_problems,
    is_absent,
    own,
    read_dotenv,
    reason,
    unquoted,
    unreadable,
)
from relay.core.validation import Problem
from relay.observability.regular_file import read_regular_text

CONFIG = "RELAY_CONFIG"
TOML = "relay.toml"
ANY = "*"

_EXAMPLE_TENANT = "ACME_PRD"
_SIMILARITY = 0.75

Tree = dict[str, Any]
Shape = Mapping[str, "Shape | None"]
Where = tuple[str, ...]


def variable(where: Sequence[str]) -> str:
    """The variable that sets this place: `("log", "level")` is `RELAY_LOG__LEVEL`."""
    return PREFIX + "__".join(where).upper()


# --- all sources --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gathered:
    """All sources merged; `problems` are fatal, `unknown` names are not."""

    tree: Tree
    problems: tuple[Problem, ...]
    unknown: tuple[Problem, ...]
    from_variables: Tree
    from_file: Tree

    def name(self, where: Where) -> str:
        """How an operator knows this place: the key where only a relay.toml sets it, else the variable."""
        if has(self.from_file, where) and not has(self.from_variables, where):
            return f"{TOML}: {'.'.join(where)}"
        return variable(where)


class _Variables(EnvSettingsSource):
    """Pydantic-settings' parsing of nested names, for the given variables instead of the process' own."""

    def __init__(self, model: type[BaseSettings], given: Mapping[str, str]) -> None:
        self._given = {name.lower(): text for name, text in given.items()}
        super().__init__(model)

    @override
    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given


def gather(environ: Mapping[str, str], directory: Path, model: type[BaseSettings], shape: Shape) -> Gathered:
    """Environment before `.env` before the TOML file that RELAY_CONFIG names, or `relay.toml`."""
    dotenv, problems, unknown = read_dotenv(directory / DOTENV)
    environment, misquoted = unquoted(own(environ))
    problems += misquoted
    unknown += _working_directory_problems(directory)
    from_file, more, strange_keys = _read_config(_config(environment) or _config(dotenv), directory, shape)
    problems += more
    unknown += strange_keys
    from_variables: Tree = {}
    for given in (dotenv, environment):
        broken = _json_problems(given, shape)
        problems += [*case_problems(given), *broken.values()]
        raw = _Variables(model, {name: text for name, text in given.items() if name not in broken})()
        layer, strange, _ = tidy(raw, shape)
        named = tuple(name.upper() for name in given)
        inside = [variable(place) for place in strange]  # also those inside a group's JSON
        hidden = [name for name in inside if not any(one.startswith(name) for one in named)]
        unknown += _unknown_variables([*named, *hidden], shape)
        from_variables = merged(from_variables, layer)
    tree = merged(from_file, from_variables)
    return Gathered(tree, tuple(problems), tuple(unknown), from_variables, from_file)


def _config(given: Mapping[str, str]) -> str | None:
    return next((text for name, text in given.items() if name.upper() == CONFIG), None)


# --- reading ----------------------------------------------------------------------------------------


def _working_directory_problems(directory: Path) -> list[Problem]:
    """Why its files are not read, though there may be some."""
    gone = not directory.is_absolute()
    if not gone and os.access(directory, os.X_OK):
        return []
    what = "are not read, because the working directory " + ("was deleted" if gone else "cannot be searched")
    return [Problem(f"{DOTENV} and {TOML}", what, "change to another directory if they are to be used")]


def _read_config(
    named: str | None, directory: Path, shape: Shape
) -> tuple[Tree, list[Problem], list[Problem]]:
    if not named and is_absent(directory / TOML):
        return {}, [], []
    try:
        path = anchored(directory, named or TOML)
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        missing = Problem(CONFIG, "names a file that does not exist", "correct the path, or remove it")
        return {}, [missing], []
    except OSError as error:
        what = f"names a file that cannot be read ({reason(error)})"
        return {}, [Problem(CONFIG, what, "correct the path, or remove it")], []
    raw, problems = read_toml(path)
    tree, strange, twice = tidy(raw, shape)
    problems += [case_problem(f"{TOML}: {'.'.join(place)}") for place in twice]
    unknown = [unknown_key(f"{TOML}: {'.'.join(place)}", place, shape) for place in strange]
    return tree, problems, unknown


def read_toml(path: Path) -> tuple[Tree, list[Problem]]:
    """The tree of a TOML file; empty, with the problem, where it cannot be read."""
    try:
        return tomllib.loads(read_regular_text(path)), []
    except tomllib.TOMLDecodeError as error:
        where = str(error).rpartition("(")[2].rstrip(")")  # the rest may quote the line
        return {}, [Problem(str(path), f"is not TOML ({where})", "correct the line")]
    except (OSError, ValueError) as error:
        return {}, [unreadable(path, error)]


def anchored(directory: Path, named: str | Path) -> Path:
    """Where a path that settings name is: below this directory, `~` expanded. Raises OSError."""
    try:
        return directory / Path(named).expanduser()
    except RuntimeError:
        raise OSError(errno.EINVAL, "~: this user has no home directory") from None


def _json_problems(variables: Mapping[str, str], shape: Shape) -> dict[str, Problem]:
    """The variables that set a whole group and are not a JSON object."""
    found: dict[str, Problem] = {}
    for name, text in variables.items():
        group = _group(shape, name.upper().removeprefix(PREFIX).lower().split("__"))
        if group is None:
            continue
        value = _parse_object(text)
        if value is None:
            hint = f'write it like {{"{next(iter(group)).replace(ANY, _EXAMPLE_TENANT)}": …}}'
            found[name] = Problem(name, "is not a JSON object", f"{hint}, or set the variables below it")
        elif twice := tidy(value, group)[2]:
            found[name] = case_problem(f"{name}: {'.'.join(twice[0])}")
    return found


def _group(shape: Shape, where: Sequence[str]) -> Shape | None:
    below: Shape | None = shape
    for key in where:
        if below is None:
            return None
        below = below.get(key, below.get(ANY))
    return below


def _parse_object(text: str) -> Tree | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# --- trees ------------------------------------------------------------------------------------------


def merged(low: Tree, high: Tree) -> Tree:
    """Both trees in one; where both have a value, the one of `high`."""
    both = dict(low)
    for key, value in high.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both


def has(tree: Tree, where: Sequence[str]) -> bool:
    """Whether the tree has this place."""
    at: Any = tree
    for key in where:
        if not isinstance(at, dict) or key not in at:
            return False
        at = at[key]
    return True


def tidy(tree: Tree, shape: Shape, where: Where = ()) -> tuple[Tree, list[Where], list[Where]]:
    """The tree with its keys in their case, without empty values and what the shape does not know.

    Also the places that are unknown, and those where two keys differ by case only: they are merged.
    """
    tidied: Tree = {}
    unknown: list[Where] = []
    twice: list[Where] = []
    for key, value in tree.items():
        right, place = key.upper() if ANY in shape else key.lower(), (*where, key)
        if value == "":  # not set, as with an empty variable
            continue
        if right not in shape and ANY not in shape:
            unknown.append(place)
            continue
        if right in tidied:
            twice.append(place)
        below, inner = shape.get(right, shape.get(ANY)), value
        if below is not None and isinstance(value, dict):
            inner, more_unknown, more_twice = tidy(value, below, place)
            unknown += more_unknown
            twice += more_twice
        tidied = merged(tidied, {right: inner})
    return tidied, unknown, twice


# --- names --------------------------------------------------------------------------------------------


def names(shape: Shape, tenant: str, where: Where = ()) -> Iterator[str]:
    """Every variable there is, with this tenant's id in it."""
    for key, below in shape.items():
        place = (*where, tenant if key == ANY else key)
        yield variable(place)
        if below is not None:
            yield from names(below, tenant, place)


def _unknown_variables(variables: Sequence[str], shape: Shape) -> list[Problem]:
    problems = []
    for name in sorted(variables):
        parts = name.upper().split("__")
        known = {CONFIG, *names(shape, parts[1] if len(parts) > 1 else _EXAMPLE_TENANT)}
        if name.upper() not in known:
            problems.append(_unknown(name, name.upper(), known))
    return problems


def unknown_key(field: str, where: Where, shape: Shape) -> Problem:
    """A key of a TOML file that is not a setting; `field` is how the problem names it."""
    known = set(names(shape, where[1] if len(where) > 1 else _EXAMPLE_TENANT))
    return _unknown(field, variable(where), known)


def _unknown(field: str, name: str, known: set[str]) -> Problem:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=_SIMILARITY)
    hint = f"did you mean {close[0]}?" if close else "remove it"
    return Problem(field, "is not a setting of the relay", hint)
