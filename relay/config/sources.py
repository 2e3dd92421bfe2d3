"""This file is how variables, `.env` and `relay.toml` become one tree, and which names in them nobody knows.

A tree is nested dicts with lower-case keys, tenant ids in upper case. A shape is the tree of what may be
set: nested mappings, `None` for a value, `ANY` for a tenant id of the person's choice. No value is ever
part of a problem's text: it may be a secret.
"""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic_settings import BaseSettings, EnvSettingsSource

from relay.core.validation import Problem

PREFIX = "RELAY_"
CONFIG = "RELAY_CONFIG"
DOTENV, TOML = ".env", "relay.toml"
ANY = "*"

Tree = dict[str, Any]
Shape = Mapping[str, "Shape | None"]
Where = tuple[str, ...]


def variable(where: Sequence[str]) -> str:
    """The variable that sets this place: `("log", "level")` is `RELAY_LOG__LEVEL`."""
    return PREFIX + "__".join(where).upper()


# --- all sources --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gathered:
    """What all sources say together; `problems` are fatal, `unknown` names are not."""

    tree: Tree
    problems: tuple[Problem, ...]
    unknown: tuple[Problem, ...]
    from_variables: Tree
    from_file: Tree

    def name(self, where: Where) -> str:
        """What a person calls this place: the key where a relay.toml alone sets it, else the variable."""
        if has(self.from_file, where) and not has(self.from_variables, where):
            return f"{TOML}: {'.'.join(where)}"
        return variable(where)


class _Layer(EnvSettingsSource):
    """Pydantic-settings' reading of nested names, from variables handed in instead of the process' own."""

    def __init__(self, model: type[BaseSettings], given: Mapping[str, str]) -> None:
        self._given = {name.lower(): text for name, text in given.items()}
        super().__init__(model)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given


def gather(environ: Mapping[str, str], directory: Path, model: type[BaseSettings], shape: Shape) -> Gathered:
    """Environment before `.env` before the TOML file that RELAY_CONFIG names, or `relay.toml`."""
    dotenv, problems = read_dotenv(directory / DOTENV)
    environment = ours(environ)
    from_file, more, unknown = _file(_config(environment) or _config(dotenv), directory, shape)
    problems += more
    from_variables: Tree = {}
    for given in (dotenv, environment):
        broken = broken_json(given, shape)
        problems += [*spelled_twice(given), *broken.values()]
        raw = _Layer(model, {name: text for name, text in given.items() if name not in broken})()
        layer, strange, _ = tidy(raw, shape)
        named = tuple(name.upper() for name in given)
        inside = [variable(place) for place in strange]  # also those inside a group's JSON
        hidden = [name for name in inside if not any(one.startswith(name) for one in named)]
        unknown += unknown_variables([*named, *hidden], shape)
        from_variables = over(from_variables, layer)
    tree = over(from_file, from_variables)
    return Gathered(tree, tuple(problems), tuple(unknown), from_variables, from_file)


def _config(given: Mapping[str, str]) -> str | None:
    return next((text for name, text in given.items() if name.upper() == CONFIG), None)


def _file(named: str | None, directory: Path, shape: Shape) -> tuple[Tree, list[Problem], list[Problem]]:
    path = directory / Path(named or TOML).expanduser()
    if not path.is_file():
        missing = Problem(CONFIG, "names a file that is not there", "correct the path, or remove it")
        return {}, [missing] if named else [], []
    raw, problems = read_toml(path)
    tree, strange, twice = tidy(raw, shape)
    problems += [by_case(f"{TOML}: {'.'.join(place)}") for place in twice]
    return tree, problems, unknown_keys(strange, shape)


# --- reading ----------------------------------------------------------------------------------------


def ours(environ: Mapping[str, str | None]) -> dict[str, str]:
    """The relay's own variables that have a value; Kubernetes' for a service called "relay" are not ours."""
    return {
        name: text for name, text in environ.items() if text and _is_ours(name.upper()) and name.isprintable()
    }


def _is_ours(name: str) -> bool:
    injected = name in ("RELAY_PORT", "RELAY_SERVICE") or name.startswith(("RELAY_PORT_", "RELAY_SERVICE_"))
    return name.startswith(PREFIX) and not injected


def read_dotenv(path: Path) -> tuple[dict[str, str], list[Problem]]:
    """The variables of a `.env` file, as they stand: nothing in them is expanded. No file: none."""
    try:
        return ours(dotenv_values(path, interpolate=False, encoding="utf-8")), []
    except (OSError, ValueError) as error:
        return {}, [Problem(str(path), f"cannot be read ({why(error)})", "make it a readable text in UTF-8")]


def read_toml(path: Path) -> tuple[Tree, list[Problem]]:
    """The tree of a TOML file; empty, with the problem, where it cannot be had."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file), []
    except tomllib.TOMLDecodeError as error:
        where = str(error).rpartition("(")[2].rstrip(")")  # the rest may quote the line
        return {}, [Problem(str(path), f"is not TOML ({where})", "correct the line")]
    except (OSError, ValueError) as error:
        return {}, [Problem(str(path), f"cannot be read ({why(error)})", "make it a readable text in UTF-8")]


def why(error: OSError | ValueError) -> str:
    """Why a text file cannot be read, in short."""
    return (error.strerror or "error") if isinstance(error, OSError) else "it is not UTF-8"


def broken_json(variables: Mapping[str, str], shape: Shape) -> dict[str, Problem]:
    """The variables that stand for a whole group and are not a JSON object."""
    found: dict[str, Problem] = {}
    for name, text in variables.items():
        below = _below(shape, name.upper().removeprefix(PREFIX).lower().split("__"))
        if below is None:
            continue
        value = _object(text)
        if value is None:
            hint = f'write it like {{"{next(iter(below)).replace(ANY, "ACME_PRD")}": …}}'
            found[name] = Problem(name, "is not a JSON object", f"{hint}, or set the variables below it")
        elif twice := tidy(value, below)[2]:
            found[name] = by_case(f"{name}: {'.'.join(twice[0])}")
    return found


def _below(shape: Shape, where: Sequence[str]) -> Shape | None:
    below: Shape | None = shape
    for key in where:
        if below is None:
            return None
        below = below.get(key, below.get(ANY))
    return below


def _object(text: str) -> Tree | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# --- putting together -------------------------------------------------------------------------------


def over(low: Tree, high: Tree) -> Tree:
    """Both trees in one; where both have a value, the one of `high`."""
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        merged[key] = over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def has(tree: Tree, where: Sequence[str]) -> bool:
    """Whether the tree says something at this place."""
    at: Any = tree
    for key in where:
        if not isinstance(at, dict) or key not in at:
            return False
        at = at[key]
    return True


def tidy(tree: Tree, shape: Shape, where: Where = ()) -> tuple[Tree, list[Where], list[Where]]:
    """The tree with its keys in their case and without what the shape does not know.

    Also the places that are unknown, and those where two keys differ by case alone: they are joined.
    """
    tidied: Tree = {}
    unknown: list[Where] = []
    twice: list[Where] = []
    for key, value in tree.items():
        right, place = key.upper() if ANY in shape else key.lower(), (*where, key)
        if value == "":  # nothing said, as with an empty variable
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
        tidied = over(tidied, {right: inner})
    return tidied, unknown, twice


def by_case(name: str) -> Problem:
    """Two spellings of one name."""
    return Problem(name, "is there twice, in another case too", "keep one spelling")


# --- names --------------------------------------------------------------------------------------------


def names(shape: Shape, tenant: str, where: Where = ()) -> Iterator[str]:
    """Every variable there is, with this tenant's id in it."""
    for key, below in shape.items():
        place = (*where, tenant if key == ANY else key)
        yield variable(place)
        if below is not None:
            yield from names(below, tenant, place)


def spelled_twice(variables: Mapping[str, str]) -> list[Problem]:
    """Variables, or tenants in them, that differ by case alone: nobody could say which one counts."""
    problems: list[Problem] = []
    first: dict[str, str] = {}
    for name in variables:
        spelled = "__".join(name.split("__")[:2]) if name.upper().startswith("RELAY_TENANTS__") else name
        if first.setdefault(spelled.upper(), spelled) != spelled:
            problems.append(by_case(spelled))
    return problems


def unknown_variables(variables: Sequence[str], shape: Shape) -> list[Problem]:
    """The names that nobody reads, each with the one that was probably meant."""
    problems = []
    for name in sorted(variables):
        parts = name.upper().split("__")
        known = {CONFIG, *names(shape, parts[1] if len(parts) > 1 else "ACME_PRD")}
        if name.upper() not in known:
            problems.append(Problem(name, "is not a setting of the relay", _meant(name.upper(), known)))
    return problems


def unknown_keys(places: Sequence[Where], shape: Shape) -> list[Problem]:
    """The same for the keys of a relay.toml."""
    problems = []
    for place in places:
        known = set(names(shape, place[1] if len(place) > 1 else "ACME_PRD"))
        meant = _meant(variable(place), known)
        problems.append(Problem(f"{TOML}: {'.'.join(place)}", "is not a setting of the relay", meant))
    return problems


def _meant(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return f"did you mean {close[0]}?" if close else "remove it"
