"""All settings, and `load`, the only way to get them: nothing that is not validated passes.

Environment before `.env` before `relay.toml` before the defaults. All problems are reported at once, by the
variable's name, with a hint, and never with a secret. The files that settings name (an `.ionapi`, a consumer
secret) are read by the tenant's ION client, so that a missing or invalid one halts that tenant only; `relay
check` reports it too.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from relay.config import sources, tenants_dir
from relay.config.problems import Found, explain, inbound_key_problems, patterns_of, tenant_problems
from relay.config.sections import (
    AnchoredPath,
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
    shape_of,
)
from relay.config.sources import Tree
from relay.config.tenants_dir import TenantsDirectory
from relay.config.variables import PREFIX, reason
from relay.core.validation import Problem
from relay.observability.regular_file import read_regular_text


class Settings(Group):
    """All settings, valid. Names that are not settings, and broken tenants, do not invalidate the rest."""

    outbox: OutboxSettings = OutboxSettings()
    lease_seconds: float = Field(15.0, ge=3, le=3600)
    """Where replicas share an outbox: a replica without a heartbeat for this time loses its tenants to the
    others."""
    retry: RetrySettings = RetrySettings()
    log: LogSettings = LogSettings()
    http: HttpSettings = HttpSettings()
    retention: RetentionSettings = RetentionSettings()
    stop: StopSettings = StopSettings()
    web: WebSettings = WebSettings()
    inbound: InboundSettings = InboundSettings()
    park_nothing: bool = False
    """Nothing is parked, everything waits: for a risky change on ION's side."""
    park_after_seconds: Seconds | None = None
    """A message that has waited this long is parked; unset: age never parks."""
    warn_after_seconds: Seconds = 14400.0
    """Messages that have waited this long are reported in the log."""
    max_in_flight: int = Field(256, ge=1, le=100_000)
    """Maximum number of posts in flight, of all tenants together; they are shared fairly."""
    max_bytes_in_memory: int = Field(192 * 2**20, ge=16 * 2**20, le=2**40)
    """Memory in bytes for the messages of all tenants together: what is prefetched, bodies, and posts in
    flight. It is shared fairly; the process needs at most 112 MiB besides."""
    tenants_dir: AnchoredPath | None = None
    """A directory of tenants: `<TENANT>.toml` each, or files of `[TENANT]` tables; changes there are applied
    while the relay runs."""
    only_tenants: Patterns | None = None
    """This relay owns these tenants only: patterns such as `ACME_*,GLOBEX_TST`, in any case."""
    not_tenants: Patterns | None = None
    """This relay does not own these tenants: patterns as above."""
    tenants: dict[str, TenantSettings] = Field(default_factory=dict)
    _unknown: tuple[Problem, ...] = PrivateAttr(())
    _directory: TenantsDirectory = PrivateAttr(TenantsDirectory())
    _signature: int | None = PrivateAttr(None)

    @property
    def unknown(self) -> tuple[Problem, ...]:
        """Names that are not settings, each with the likely right one."""
        return self._unknown

    @property
    def directory(self) -> TenantsDirectory:
        """What the tenants directory contains."""
        return self._directory

    @property
    def broken(self) -> tuple[Problem, ...]:
        """What is wrong with tenants of the directory; the others are valid."""
        return tuple(one.problem for one in self._directory.broken)

    @property
    def signature(self) -> int | None:
        """The tenants directory's signature when these settings were read."""
        return self._signature

    def directory_signature(self) -> int | None:
        """Its signature now: another number once a file there was added, changed or removed."""
        try:
            return None if self.tenants_dir is None else tenants_dir.signature(self.tenants_dir)
        except OSError:
            return 0

    def owns(self, tenant: str) -> bool:
        """Whether this relay may own such a tenant, configured or not."""
        name = tenant.upper()
        if self.only_tenants is not None and not _matches(name, self.only_tenants):
            return False
        return self.not_tenants is None or not _matches(name, self.not_tenants)

    def with_broken_as_before(self, before: "Settings") -> "Settings":
        """These settings, where a tenant whose file is broken now keeps its former ones."""
        files = before.directory.files
        kept = {
            name: tenant
            for name, tenant in before.tenants.items()
            if name not in self.tenants and self._directory.is_broken(name, files.get(name))
        }
        settings = self.model_copy(update={"tenants": self.tenants | kept})
        kept_files = {name: files[name] for name in kept if name in files}
        settings._directory = replace(self._directory, files={**self._directory.files, **kept_files})  # noqa: SLF001
        return settings


SHAPE = shape_of(Settings)


def _matches(tenant: str, patterns: str) -> bool:
    return any(fnmatchcase(tenant, pattern) for pattern in patterns_of(patterns))


class SettingsError(Exception):
    """The settings are not valid. `problems`: all of them, the unknown names last."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


# --- loading ------------------------------------------------------------------------------------------


class _SettingsSource(BaseSettings, Settings):
    """Tells pydantic-settings how names are nested; what it reads is validated with all the rest."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__")


def load(environ: Mapping[str, str], *, directory: Path) -> Settings:
    """Read all sources; relative paths (also `.env` and `relay.toml`) start at `directory`.

    Raises SettingsError with every problem there is; a bad file in the tenants directory is none of them.
    """
    gathered = sources.gather(environ, directory, _SettingsSource, SHAPE)
    tree, found = _with_outbox_url(gathered.tree, directory)
    tenants, signature = TenantsDirectory(), None
    if isinstance(tree.get("tenants_dir"), str):
        try:
            path = sources.anchored(directory, tree["tenants_dir"])
            signature = tenants_dir.signature(path)  # before it is read: a change meanwhile is seen as new
            tenants = tenants_dir.read(path, directory, SHAPE, gathered)
        except OSError as error:
            what = f"names a directory that cannot be read ({reason(error)})"
            found.append(Found(("tenants_dir",), what, "correct the path, or create the directory"))
    tree = _without(tree, tenants.names)
    for tenant, given in tree.get("tenants", {}).items():
        found += tenant_problems(tenant, given)
    found += inbound_key_problems(tree.get("tenants", {}))
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(tree, context=directory)
    except ValidationError as error:
        found += explain(error)
    problems = [*gathered.problems, *(Problem(gathered.name(at.where), at.what, at.hint) for at in found)]
    if problems or settings is None:
        raise SettingsError(list(dict.fromkeys([*problems, *gathered.unknown])))
    settings.tenants.update(tenants.tenants)
    settings._unknown = (*gathered.unknown, *tenants.unknown)  # noqa: SLF001
    settings._directory, settings._signature = tenants, signature  # noqa: SLF001
    return settings


def _with_outbox_url(tree: Tree, directory: Path) -> tuple[Tree, list[Found]]:
    """The tree with the outbox' URL from its file, which takes precedence over the URL itself."""
    given = tree.get("outbox")
    if not isinstance(given, dict) or not isinstance(given.get("url_file"), str):
        return tree, []
    try:
        url = read_regular_text(sources.anchored(directory, given["url_file"])).strip()
    except (OSError, ValueError) as error:
        what = f"names a file that cannot be read ({reason(error)})"
        return tree, [Found(("outbox", "url_file"), what, "correct the path, or make it readable")]
    return {**tree, "outbox": {**given, "url": url}}, []


def _without(tree: Tree, names: Set[str]) -> Tree:
    """Without the tenants that the directory defines: they are validated one by one."""
    tenants = tree.get("tenants")
    if not isinstance(tenants, dict) or not names:
        return tree
    return {**tree, "tenants": {name: given for name, given in tenants.items() if name not in names}}
