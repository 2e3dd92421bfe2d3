"""This file is a folder of tenants' settings: a bad file there is its tenant's trouble alone.

`<TENANT>.toml` is one tenant; a file of nothing but tables is several, `[TENANT]` each. Names that do not end
in `.toml`, and those that begin with a dot, are left alone. What variables say of a tenant counts before.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from relay.config.problems import explain, tenant_problems
from relay.config.sections import TenantSettings
from relay.config.sources import (
    ANY,
    Gathered,
    Shape,
    Tree,
    Where,
    by_case,
    has,
    over,
    read_toml,
    tidy,
    unknown_keys,
)
from relay.core.validation import Problem

ENDING = ".toml"


@dataclass(frozen=True, slots=True)
class Entry:
    """A tenant as its file has it. `at`: where it stands in the file, () for the whole of it."""

    file: Path
    at: Where
    tree: Tree

    def name(self, where: Where) -> str:
        """What a person calls a place in this tenant's settings."""
        place = ".".join((*self.at, *where))
        return f"{self.file}: {place}" if place else str(self.file)


@dataclass(frozen=True, slots=True)
class Broken:
    """What keeps a tenant from being carried; `tenant` is None where nobody can read whose file it is."""

    file: Path
    tenant: str | None
    problem: Problem


@dataclass(frozen=True, slots=True)
class Folder:
    """All that the folder says: the valid tenants, the file of each, and what is wrong."""

    tenants: Mapping[str, TenantSettings] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    broken: tuple[Broken, ...] = ()
    unknown: tuple[Problem, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The tenants that the folder speaks for, well or badly."""
        return frozenset(self.tenants) | {one.tenant or one.file.stem.upper() for one in self.broken}

    def breaks(self, tenant: str, file: Path | None) -> bool:
        """Whether this tenant, once of that file, is broken now."""
        return any(one.tenant == tenant if one.tenant else one.file == file for one in self.broken)


NOTHING = Folder()


def signature(folder: Path) -> int:
    """Another number once a file there was added, changed or removed. Raises OSError without a folder."""
    with os.scandir(folder) as entries:
        return sum(hash((entry.name, _stamp(entry))) for entry in entries if _is_meant(entry.name))


def _stamp(entry: "os.DirEntry[str]") -> tuple[int, ...]:
    try:
        stat = entry.stat()
    except OSError:  # gone meanwhile, or a link that leads nowhere
        return ()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _is_meant(name: str) -> bool:
    return name.endswith(ENDING) and not name.startswith(".")


# --- reading ------------------------------------------------------------------------------------------


def read(folder: Path, shape: Shape, gathered: Gathered) -> Folder:
    """Read every file there. `shape`: of all settings. Raises OSError where there is no folder."""
    entries: dict[str, Entry] = {}
    broken: list[Broken] = []
    unknown: list[Problem] = []
    of_tenant = _inner(_inner(shape, "tenants"), ANY)
    for file in sorted(path for path in folder.iterdir() if _is_meant(path.name)):
        raw, problems = read_toml(file)
        broken += (Broken(file, None, problem) for problem in problems)
        for tenant, at, given in () if problems else _tenants(file, raw, of_tenant):
            tree, strange, twice = tidy(given, of_tenant)
            entry = Entry(file, at, tree)
            unknown += (_unknown(entry, tenant, place, shape) for place in strange)
            broken += (Broken(file, tenant, by_case(entry.name(place))) for place in twice)
            if tenant in entries:
                hint = f"keep this one or the one in {entries[tenant].file}"
                broken.append(Broken(file, tenant, Problem(entry.name(()), f"{tenant} is there twice", hint)))
            entries[tenant] = entry
    return _validated(entries, broken, unknown, gathered)


def _validated(
    entries: Mapping[str, Entry], broken: list[Broken], unknown: list[Problem], gathered: Gathered
) -> Folder:
    tenants: dict[str, TenantSettings] = {}
    before = {one.tenant for one in broken}
    for tenant, entry in entries.items():
        given = gathered.tree.get("tenants", {}).get(tenant, {})
        tree = over(entry.tree, given) if isinstance(given, dict) else entry.tree
        found = list(tenant_problems(tenant, tree))
        try:
            valid = TenantSettings.model_validate(tree)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False)
            found += (explain(one, ("tenants", tenant)) for one in wrong)
        else:
            if not found and tenant not in before:
                tenants[tenant] = valid
        for one in found:
            name = gathered.name(one.where) if has(gathered.tree, one.where) else entry.name(one.where[2:])
            broken.append(Broken(entry.file, tenant, Problem(name, one.what, one.hint)))
    files = {tenant: entries[tenant].file for tenant in tenants}
    return Folder(tenants, files, tuple(broken), tuple(unknown))


def _unknown(entry: Entry, tenant: str, place: Where, shape: Shape) -> Problem:
    (problem,) = unknown_keys([("tenants", tenant, *place)], shape)
    return replace(problem, field=entry.name(place))


def _inner(shape: Shape, key: str) -> Shape:
    below = shape[key]
    assert below is not None, "a group"
    return below


def _tenants(file: Path, raw: Tree, of_tenant: Shape) -> Iterator[tuple[str, Where, Tree]]:
    """Each tenant of a file: its id, where it stands there, what is said of it."""
    if raw and all(isinstance(value, dict) and key.lower() not in of_tenant for key, value in raw.items()):
        for key, value in raw.items():
            yield key.upper(), (key,), value
    else:
        yield file.stem.upper(), (), raw
