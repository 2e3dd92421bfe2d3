"""This file is every setting there is, and the only way in: nothing unvalidated gets past it.

Environment before `.env` before `relay.toml` before the defaults. All problems are told at once, by the
variable's name, with the mend, and never with a secret. What files hold (an `.ionapi`, a consumer's secret)
is read by the tenant's endpoint, so that a file that is missing or wrong halts that tenant alone; `relay
check` says so too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict

from relay import mends, variables
from relay.model import Ordering, Problem, logical_id_problem
from relay.variables import ANY, Shape, Where

# --- kinds of values ----------------------------------------------------------------------------------


def _logical_id(text: str) -> str:
    mends.refuse(logical_id_problem(text))
    return text


def _ion_url(text: str) -> str:
    mends.refuse(mends.url_problem(text))
    return text.rstrip("/")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


_LONG = 366 * 86400
Seconds = Annotated[float, Field(gt=0, le=_LONG)]
Choice = BeforeValidator(_lower)
LogicalIdText = Annotated[str, AfterValidator(_logical_id)]
IonUrl = Annotated[str, AfterValidator(_ion_url)]

# --- the settings -------------------------------------------------------------------------------------


class _Group(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class OutboxSettings(_Group):
    """Where the messages wait."""

    url: str = "sqlite:///relay.db"
    """The outbox: `sqlite:///relative/path.db` or `sqlite:////absolute/path.db`."""


class RetrySettings(_Group):
    """How failures are waited out."""

    initial_seconds: Seconds = 1.0
    """The delay after a first failure; it doubles with each further one, with jitter."""
    max_seconds: Seconds = 300.0
    """The longest delay between two tries."""
    max_attempts: int = Field(10, ge=1, le=1_000_000)
    """A message that failed so often while others passed is parked."""
    probe_seconds: Seconds = 900.0
    """A halted tenant is tried so often, in case it was mended on the other side."""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.initial_seconds > self.max_seconds:
            what = "is less than the initial delay"
            mends.refuse(Problem("max_seconds", what, "raise it, or lower RELAY_RETRY__INITIAL_SECONDS"))
        return self


class LogSettings(_Group):
    """What is said on stderr."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Choice] = "info"
    """`debug`, `info`, `warning` or `error`; `debug` says every delivery."""
    format: Annotated[Literal["json", "console"] | None, Choice] = None
    """`json` or `console`; unset: console on a terminal, json otherwise."""
    summary_seconds: Seconds = 60.0
    """A trouble that lasts, and what was delivered, is summarised so often."""


class HttpSettings(_Group):
    """Time-outs and the body."""

    connect_seconds: Seconds = 5.0
    """The longest wait for a connection."""
    read_seconds: Seconds = 30.0
    """The longest silence within an answer."""
    total_seconds: Seconds = 60.0
    """The longest a request may take altogether."""
    deflate_from_bytes: int = Field(8192, ge=0)
    """Documents of this size or more are compressed (DEFLATE)."""


class RetentionSettings(_Group):
    """How long what is done is kept."""

    delivered_days: float = Field(7.0, gt=0, le=36_500)
    """Delivered and dropped messages are deleted after so many days."""


class StopSettings(_Group):
    """How the relay ends."""

    grace_seconds: float = Field(25.0, ge=0, le=3600)
    """At a stop, posts under way may take so long to land; keep it below the platform's own limit."""


class OAuth1Settings(_Group):
    """OAuth 1.0a: ION reached directly. Valid ones have the key, and the secret in one of its two forms."""

    consumer_key: str | None = None
    """OAuth 1.0a: the consumer key."""
    consumer_secret: SecretStr | None = None
    """OAuth 1.0a: the consumer secret."""
    consumer_secret_file: Path | None = None
    """The same from a file; it is read again when it changes."""
    signature_method: Annotated[Literal["HMAC-SHA256", "HMAC-SHA1"], BeforeValidator(_upper)] = "HMAC-SHA256"
    """`HMAC-SHA256` or `HMAC-SHA1`."""


class OAuth2Settings(_Group):
    """OAuth 2: what an .ionapi file does not say."""

    scope: str | None = None
    """OAuth 2: a scope to ask for."""
    client_authentication: Annotated[Literal["form", "basic"], Choice] = "form"
    """How the client id and secret travel: in the `form`, or as HTTP `basic`."""


class TenantSettings(_Group):
    """One tenant of ION."""

    logical_id: LogicalIdText
    """The sender, as on the connection point in ION Desk, e.g. `lid://acme.orders.1`."""
    ionapi_file: Path | None = None
    """OAuth 2: the .ionapi file of the authorised app (backend service); read again when it changes."""
    ion_url: IonUrl | None = None
    """ION's base URL, ending in `/service`; with an .ionapi file only to override what follows from it."""
    oauth1: OAuth1Settings | None = None
    oauth2: OAuth2Settings = OAuth2Settings()
    max_in_flight: int = Field(8, ge=1, le=64)
    """So many posts may be under way at a time."""
    ordering: Annotated[Ordering, Choice] = "key"
    """`key`: in order for each ordering key; `tenant`: one after the other; `none`."""
    on_rejected: Annotated[Literal["park", "stop"], Choice] = "park"
    """What a refused message does: `park` it and go on, or `stop` the tenant until a person resumes it."""
    rate_limit: float | None = Field(None, gt=0, le=1_000_000)
    """At most so many requests a second; unset: no limit."""
    max_message_bytes: int = Field(6_000_000, ge=1, le=2**31 - 1)
    """A larger document is not sent but parked."""


class Settings(_Group):
    """All of it, valid; `unknown` names are no reason to refuse the rest."""

    outbox: OutboxSettings = OutboxSettings()
    retry: RetrySettings = RetrySettings()
    log: LogSettings = LogSettings()
    http: HttpSettings = HttpSettings()
    retention: RetentionSettings = RetentionSettings()
    stop: StopSettings = StopSettings()
    park_nothing: bool = False
    """For the night of a risky change on the other side: nothing is parked, everything waits."""
    park_after_seconds: Seconds | None = None
    """A message that waited so long is parked; unset: age never parks."""
    warn_after_seconds: Seconds = 14400.0
    """The log warns of messages that have waited so long."""
    tenants: dict[str, TenantSettings] = Field(default_factory=dict)
    _unknown: tuple[Problem, ...] = PrivateAttr(())

    @property
    def unknown(self) -> tuple[Problem, ...]:
        """Names that nobody reads, each with the likely right one."""
        return self._unknown


class SettingsError(Exception):
    """The settings are not valid. `problems`: all of them, the misspelt names last."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


# --- loading ------------------------------------------------------------------------------------------


class _Variables(BaseSettings, Settings):
    """Only for pydantic-settings' reading of nested names: what it reads is validated with all the rest."""

    model_config = SettingsConfigDict(env_prefix=variables.PREFIX, env_nested_delimiter="__")


def load(environ: Mapping[str, str], *, directory: Path) -> Settings:
    """Read all sources; relative paths (also `.env` and `relay.toml`) start at `directory`.

    Raises SettingsError with every problem there is.
    """
    gathered = variables.gather(environ, directory, _Variables, SHAPE)
    found: list[mends.Found] = []
    for tenant, given in gathered.tree.get("tenants", {}).items():
        found += mends.tenant_problems(tenant, given)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(gathered.tree)
    except ValidationError as error:
        found += map(mends.explain, error.errors(include_url=False, include_input=False))
    problems = [*gathered.problems, *(Problem(gathered.name(at.where), at.what, at.mend) for at in found)]
    if problems or settings is None:
        raise SettingsError(list(dict.fromkeys([*problems, *gathered.unknown])))
    settings = _anchored(settings, directory)
    settings._unknown = gathered.unknown  # noqa: SLF001  # the one thing that is found out, not set
    return settings


def _anchored(settings: Settings, directory: Path) -> Settings:
    """Relative paths of files, from the directory on."""
    tenants = {}
    for name, tenant in settings.tenants.items():
        changes: dict[str, object] = {}
        if tenant.ionapi_file is not None:
            changes["ionapi_file"] = directory / tenant.ionapi_file.expanduser()
        if tenant.oauth1 is not None and tenant.oauth1.consumer_secret_file is not None:
            path = directory / tenant.oauth1.consumer_secret_file.expanduser()
            changes["oauth1"] = tenant.oauth1.model_copy(update={"consumer_secret_file": path})
        tenants[name] = tenant.model_copy(update=changes)
    return settings.model_copy(update={"tenants": tenants})


# --- the table of all settings ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting: its variable, its default as one would write it ("" where there is none), its meaning."""

    name: str
    default: str
    meaning: str


def reference(tenant: str = "<TENANT>") -> Sequence[SettingLine]:
    """Every setting in the order of the documentation; those of a tenant with this id in their names."""
    config = SettingLine(variables.CONFIG, variables.TOML, "A TOML file with any of these settings.")
    return (config, *_lines(Settings, tenant, ()))


def _lines(model: type[BaseModel], tenant: str, where: Where) -> Iterator[SettingLine]:
    for name, field in model.model_fields.items():
        below = _group(field)
        if below is None:
            meaning = " ".join((field.description or "").split())
            yield SettingLine(variables.variable((*where, name)), _written(field.default), meaning)
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
    for name, field in model.model_fields.items():
        below = _group(field)
        inner = None if below is None else _shape(below)
        shape[name] = {ANY: inner} if _is_map(field) else inner
    return shape


SHAPE = _shape(Settings)
