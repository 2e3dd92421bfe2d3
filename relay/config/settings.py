"""This file is every setting there is, and the only way in: nothing unvalidated gets past it.

Environment before `.env` before `relay.toml` before the defaults. All problems are told at once, by the
variable's name, with the mend, and never with a secret. What files hold (an `.ionapi`, a consumer's secret)
is read by the tenant's endpoint, so that a file that is missing or wrong halts that tenant alone; `relay
check` says so too.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel, Field, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict

from relay.config import sources
from relay.config import tenants_dir as tenant_files
from relay.config.problems import Found, explain, inbound_key_problems, patterns_of, tenant_problems
from relay.config.sections import (
    Group,
    HttpSettings,
    InboundSettings,
    LogSettings,
    OutboxSettings,
    Patterns,
    RetentionSettings,
    RetrySettings,
    Seconds,
    StopSettings,
    TenantSettings,
    WebSettings,
)
from relay.config.sources import ANY, Shape, Tree, Where
from relay.config.tenants_dir import NOTHING, Folder
from relay.core.model import Problem

# --- the settings -------------------------------------------------------------------------------------


class Settings(Group):
    """All of it, valid; names that nobody reads, and broken tenants, are no reason to refuse the rest."""

    outbox: OutboxSettings = OutboxSettings()
    lease_seconds: float = Field(15.0, ge=3, le=3600)
    """Where relays share an outbox: a relay that did not beat for so long loses its tenants to the others."""
    retry: RetrySettings = RetrySettings()
    log: LogSettings = LogSettings()
    http: HttpSettings = HttpSettings()
    retention: RetentionSettings = RetentionSettings()
    stop: StopSettings = StopSettings()
    web: WebSettings = WebSettings()
    inbound: InboundSettings = InboundSettings()
    park_nothing: bool = False
    """For the night of a risky change on the other side: nothing is parked, everything waits."""
    park_after_seconds: Seconds | None = None
    """A message that waited so long is parked; unset: age never parks."""
    warn_after_seconds: Seconds = 14400.0
    """The log warns of messages that have waited so long."""
    max_in_flight: int = Field(256, ge=1, le=100_000)
    """So many posts may be under way at a time, of all tenants together; they are shared fairly."""
    tenants_dir: Path | None = None
    """A folder of tenants: `<TENANT>.toml` each, or files of `[TENANT]` tables; changes there are applied
    while the relay runs."""
    only_tenants: Patterns | None = None
    """This relay carries these tenants alone: patterns such as `ACME_*,GLOBEX_TST`, in any case."""
    not_tenants: Patterns | None = None
    """This relay does not carry these tenants: patterns as above."""
    tenants: dict[str, TenantSettings] = Field(default_factory=dict)
    _unknown: tuple[Problem, ...] = PrivateAttr(())
    _apart: Folder = PrivateAttr(NOTHING)
    _signature: int | None = PrivateAttr(None)

    @property
    def unknown(self) -> tuple[Problem, ...]:
        """Names that nobody reads, each with the likely right one."""
        return self._unknown

    @property
    def broken(self) -> tuple[Problem, ...]:
        """What keeps tenants of the folder from being carried; the others are."""
        return tuple(one.problem for one in self._apart.broken)

    @property
    def signature(self) -> int | None:
        """Of the folder of tenants, as it was when these settings were read."""
        return self._signature

    def directory_signature(self) -> int | None:
        """The same as it is now: another number once a file there was added, changed or removed."""
        try:
            return None if self.tenants_dir is None else tenant_files.signature(self.tenants_dir)
        except OSError:
            return 0

    def owns(self, tenant: str) -> bool:
        """Whether this relay is to carry such a tenant, configured or not."""
        name = tenant.upper()
        if self.only_tenants is not None and not _matches(name, self.only_tenants):
            return False
        return self.not_tenants is None or not _matches(name, self.not_tenants)

    @property
    def directory(self) -> Folder:
        """What the folder of tenants says."""
        return self._apart

    def with_broken_as_before(self, before: "Settings") -> "Settings":
        """The same, and tenants whose file is broken now go on with what they had."""
        files = before.directory.files
        kept = {
            name: tenant
            for name, tenant in before.tenants.items()
            if name not in self.tenants and self._apart.breaks(name, files.get(name))
        }
        settings = self.model_copy(update={"tenants": self.tenants | kept})
        still = {name: files[name] for name in kept if name in files}
        settings._apart = replace(self._apart, files={**self._apart.files, **still})  # noqa: SLF001  # its own
        return settings


def _matches(tenant: str, patterns: str) -> bool:
    return any(fnmatchcase(tenant, pattern) for pattern in patterns_of(patterns))


class SettingsError(Exception):
    """The settings are not valid. `problems`: all of them, the misspelt names last."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


# --- loading ------------------------------------------------------------------------------------------


class _Variables(BaseSettings, Settings):
    """Only for pydantic-settings' reading of nested names: what it reads is validated with all the rest."""

    model_config = SettingsConfigDict(env_prefix=sources.PREFIX, env_nested_delimiter="__")


def load(environ: Mapping[str, str], *, directory: Path) -> Settings:
    """Read all sources; relative paths (also `.env` and `relay.toml`) start at `directory`.

    Raises SettingsError with every problem there is; a bad file in the folder of tenants is none of them.
    """
    gathered = sources.gather(environ, directory, _Variables, SHAPE)
    tree, found = _with_outbox_url(gathered.tree, directory)
    apart, signature = NOTHING, None
    if isinstance(tree.get("tenants_dir"), str):
        at = directory / Path(tree["tenants_dir"]).expanduser()
        try:
            signature = tenant_files.signature(at)  # before it is read: what changes meanwhile is seen as new
            apart = tenant_files.read(at, SHAPE, gathered)
        except OSError as error:
            what = f"names a folder that cannot be read ({sources.why(error)})"
            found.append(Found(("tenants_dir",), what, "correct the path, or create the folder"))
    tree = _without(tree, apart.names)
    for tenant, given in tree.get("tenants", {}).items():
        found += tenant_problems(tenant, given)
    found += inbound_key_problems(tree.get("tenants", {}))
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        found += map(explain, error.errors(include_url=False, include_input=False))
    problems = [*gathered.problems, *(Problem(gathered.name(at.where), at.what, at.hint) for at in found)]
    if problems or settings is None:
        raise SettingsError(list(dict.fromkeys([*problems, *gathered.unknown])))
    settings = _anchored(settings, {**settings.tenants, **apart.tenants}, directory)
    settings._unknown = (*gathered.unknown, *apart.unknown)  # noqa: SLF001  # found out, not set
    settings._apart, settings._signature = apart, signature  # noqa: SLF001  # the same
    return settings


def _with_outbox_url(tree: Tree, directory: Path) -> tuple[Tree, list[Found]]:
    """The tree with the outbox' URL from its file, where there is one; it counts before the URL itself."""
    given = tree.get("outbox")
    if not isinstance(given, dict) or not isinstance(given.get("url_file"), str):
        return tree, []
    try:
        url = (directory / Path(given["url_file"]).expanduser()).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        what = f"names a file that cannot be read ({sources.why(error)})"
        return tree, [Found(("outbox", "url_file"), what, "correct the path, or make it readable")]
    return {**tree, "outbox": {**given, "url": url}}, []


def _without(tree: Tree, names: Set[str]) -> Tree:
    """Without the tenants that are judged by themselves."""
    tenants = tree.get("tenants")
    if not isinstance(tenants, dict) or not names:
        return tree
    return {**tree, "tenants": {name: given for name, given in tenants.items() if name not in names}}


def _anchored(settings: Settings, given: Mapping[str, TenantSettings], directory: Path) -> Settings:
    """With these tenants, and relative paths of files from the directory on."""
    tenants = {}
    for name, tenant in given.items():
        changes: dict[str, object] = {}
        if tenant.ionapi_file is not None:
            changes["ionapi_file"] = directory / tenant.ionapi_file.expanduser()
        if tenant.oauth1 is not None and tenant.oauth1.consumer_secret_file is not None:
            path = directory / tenant.oauth1.consumer_secret_file.expanduser()
            changes["oauth1"] = tenant.oauth1.model_copy(update={"consumer_secret_file": path})
        if tenant.inbound is not None and tenant.inbound.consumer_secret_file is not None:
            path = directory / tenant.inbound.consumer_secret_file.expanduser()
            changes["inbound"] = tenant.inbound.model_copy(update={"consumer_secret_file": path})
        tenants[name] = tenant.model_copy(update=changes)
    update: dict[str, object] = {"tenants": tenants}
    files = {name: getattr(settings.web, name) for name in ("token_file", "read_token_file")}
    placed = {name: directory / file.expanduser() for name, file in files.items() if file is not None}
    update["web"] = settings.web.model_copy(update=placed)
    if settings.tenants_dir is not None:
        update["tenants_dir"] = directory / settings.tenants_dir.expanduser()
    return settings.model_copy(update=update)


# --- the table of all settings ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting: its variable, its default as one would write it ("" where there is none), its meaning."""

    name: str
    default: str
    meaning: str


def reference(tenant: str = "<TENANT>") -> Sequence[SettingLine]:
    """Every setting in the order of the documentation; those of a tenant with this id in their names."""
    config = SettingLine(sources.CONFIG, sources.TOML, "A TOML file with any of these settings.")
    return (config, *_lines(Settings, tenant, ()))


def _lines(model: type[BaseModel], tenant: str, where: Where) -> Iterator[SettingLine]:
    for attribute, field in model.model_fields.items():
        name, below = field.alias or attribute, _group(field)
        if below is None:
            meaning = " ".join((field.description or "").split())
            yield SettingLine(sources.variable((*where, name)), _written(field.default), meaning)
        elif _is_map(field):
            yield from _lines(below, tenant, (*where, name, tenant))
        else:
            yield from _lines(below, tenant, (*where, name))


def _written(default: object) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def _is_map(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is dict


def _group(field: FieldInfo) -> type[BaseModel] | None:
    """The group of settings below this field, if it is one (or a map of them, or an optional one)."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _shape(model: type[BaseModel]) -> Shape:
    shape: dict[str, Shape | None] = {}
    for attribute, field in model.model_fields.items():
        name, below = field.alias or attribute, _group(field)
        inner = None if below is None else _shape(below)
        shape[name] = {ANY: inner} if _is_map(field) else inner
    return shape


SHAPE = _shape(Settings)
