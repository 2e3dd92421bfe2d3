"""A directory of tenants' settings: a bad file there affects its own tenant only.

`<TENANT>.toml` is one tenant; a file of tables only is several, `[TENANT]` each. Names that do not end in
`.toml`, and those that begin with a dot, are ignored. Variables take precedence over the file.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
    has,
    merged,
    read_toml,
    tidy,
    unknown_key,
)
from relay.config.variables import case_problem
from relay.core.validation import Problem


@dataclass(frozen=True, slots=True)
class Entry:
    """A tenant as its file has it. `at`: its place in the file, () for the whole file."""

    file: Path
    at: Where
    tree: Tree

    def name(self, where: Where) -> str:
        """How an operator knows a place in this tenant's settings."""
        place = ".".join((*self.at, *where))
        return f"{self.file}: {place}" if place else str(self.file)


@dataclass(frozen=True, slots=True)
class Broken:
    """What is wrong with a tenant; `tenant` is None where the file cannot be read."""

    file: Path
    tenant: str | None
    problem: Problem


@dataclass(frozen=True, slots=True)
class TenantsDirectory:
    """The valid tenants of the directory, the file of each, and what is wrong."""

    tenants: Mapping[str, TenantSettings] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    broken: tuple[Broken, ...] = ()
    unknown: tuple[Problem, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The tenants that have a file there, valid or not."""
        return frozenset(self.tenants) | {one.tenant or one.file.stem.upper() for one in self.broken}

    def is_broken(self, tenant: str, file: Path | None) -> bool:
        """Whether this tenant, which was last read from that file, is broken now."""
        return any(one.tenant == tenant if one.tenant else one.file == file for one in self.broken)


def signature(directory: Path) -> int:
    """Another number once a file there was added, changed or removed. Raises OSError without a directory."""
    with os.scandir(directory) as entries:
        return sum(hash((entry.name, _stamp(entry))) for entry in entries if _is_read(entry.name))


def _stamp(entry: "os.DirEntry[str]") -> tuple[int, ...]:
    try:
        stat = entry.stat()
    except OSError:  # deleted meanwhile, or a dangling link
        return ()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _is_read(name: str) -> bool:
    return name.endswith(".toml") and not name.startswith(".")


# --- reading ------------------------------------------------------------------------------------------


def read(directory: Path, anchor: Path, shape: Shape, gathered: Gathered) -> TenantsDirectory:
    """Read every file there; `anchor`: where relative paths start. Raises OSError without a directory.

    `shape`: of all settings.
    """
    entries: dict[str, Entry] = {}
    broken: list[Broken] = []
    unknown: list[Problem] = []
    of_tenant = _inner(_inner(shape, "tenants"), ANY)
    for file in sorted(path for path in directory.iterdir() if _is_read(path.name)):
        raw, problems = read_toml(file)
        broken += (Broken(file, None, problem) for problem in problems)
        for tenant, at, given in () if problems else _tenants(file, raw, of_tenant):
            tree, strange, twice = tidy(given, of_tenant)
            entry = Entry(file, at, tree)
            unknown += (
                unknown_key(entry.name(place), ("tenants", tenant, *place), shape) for place in strange
            )
            broken += (Broken(file, tenant, case_problem(entry.name(place))) for place in twice)
            if tenant in entries:
                hint = f"keep this one or the one in {entries[tenant].file}"
                what = f"{tenant} is defined twice"
                broken.append(Broken(file, tenant, Problem(entry.name(()), what, hint)))
            entries[tenant] = entry
    tenants = _validated(entries, anchor, broken, gathered)
    files = {tenant: entries[tenant].file for tenant in tenants}
    return TenantsDirectory(tenants, files, tuple(broken), tuple(unknown))


def _validated(
    entries: Mapping[str, Entry], anchor: Path, broken: list[Broken], gathered: Gathered
) -> dict[str, TenantSettings]:
    """The valid tenants; the problems of the others are added to `broken`."""
    tenants: dict[str, TenantSettings] = {}
    already_broken = {one.tenant for one in broken}
    for tenant, entry in entries.items():
        given = gathered.tree.get("tenants", {}).get(tenant, {})
        tree = merged(entry.tree, given) if isinstance(given, dict) else entry.tree
        found = list(tenant_problems(tenant, tree))
        try:
            valid = TenantSettings.model_validate(tree, context=anchor)
        except ValidationError as error:
            found += explain(error, ("tenants", tenant))
        else:
            if not found and tenant not in already_broken:
                tenants[tenant] = valid
        for one in found:
            name = gathered.name(one.where) if has(gathered.tree, one.where) else entry.name(one.where[2:])
            broken.append(Broken(entry.file, tenant, Problem(name, one.what, one.hint)))
    return tenants


def _inner(shape: Shape, key: str) -> Shape:
    below = shape[key]
    assert below is not None, "a group"
    return below


def _tenants(file: Path, raw: Tree, of_tenant: Shape) -> Iterator[tuple[str, Where, Tree]]:
    """Each tenant of a file: its id, its place there, its settings."""
    if raw and all(isinstance(value, dict) and key.lower() not in of_tenant for key, value in raw.items()):
        for key, value in raw.items():
            yield key.upper(), (key,), value
    else:
        yield file.stem.upper(), (), raw
