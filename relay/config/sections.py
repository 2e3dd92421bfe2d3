"""The groups of settings as models: the outbox, a tenant, the log, and so on.

The text below each field is its line in docs/settings.md. A default stands here and nowhere else.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
    model_validator,
)
from pydantic.fields import FieldInfo

from relay import outbox
from relay.config import problems
from relay.config.sources import ANY, Shape, anchored
from relay.core.content import Check
from relay.core.model import Ordering
from relay.core.validation import Problem, logical_id_problem
from relay.ion.network import Network
from relay.ion.service_urls import url_problem
from relay.outbox.location import DEFAULT_PREFIX

# --- kinds of values ----------------------------------------------------------------------------------


def _checked(problem_of: Callable[[str], Problem | None]) -> AfterValidator:
    def check(text: str) -> str:
        problems.refuse(problem_of(text))
        return text

    return AfterValidator(check)


def _anchor(path: Path, info: ValidationInfo) -> Path:
    """Relative paths start at the directory that is the context of the validation, where there is one."""
    if info.context is None:
        return path
    try:
        return anchored(info.context, path)
    except OSError as error:
        hint = "write an absolute path, or set HOME"
        raise problems.refused(Problem("", f"cannot be used ({error.strerror})", hint)) from None


def _check_pem(path: Path) -> Path:
    problems.refuse(problems.pem_problem(path))
    return path


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


_LONGEST = 366 * 86400
Seconds = Annotated[float, Field(gt=0, le=_LONGEST)]
Choice = BeforeValidator(_lower)
AnchoredPath = Annotated[Path, AfterValidator(_anchor)]
LogicalIdText = Annotated[str, _checked(logical_id_problem)]
IonUrl = Annotated[str, _checked(url_problem), AfterValidator(lambda url: url.rstrip("/"))]
OutboxUrl = Annotated[str, _checked(problems.outbox_url_problem), PlainSerializer(outbox.shown)]
Listen = Annotated[str, _checked(problems.listen_problem), AfterValidator(str.lower)]
"""`off`, or `HOST:PORT`."""
Patterns = Annotated[str, _checked(problems.patterns_problem)]
PemFile = Annotated[AnchoredPath, AfterValidator(_check_pem)]
ProxyText = Annotated[str, _checked(problems.proxy_setting_problem)]

# --- the groups ---------------------------------------------------------------------------------------


class Group(BaseModel):
    """The base of all groups: no unknown fields, no changes later, no values in error texts."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class OutboxSettings(Group):
    """Where the messages wait."""

    url: OutboxUrl = Field("sqlite:///relay.db", repr=False)
    """The outbox: `sqlite:///relative/path.db`, `sqlite:////absolute/path.db`, or a PostgreSQL database as
    libpq writes it, `postgresql://USER:PASSWORD@HOST:5432/DATABASE`."""
    url_file: AnchoredPath | None = None
    """The same from a file; for a URL with a password in it. On PostgreSQL it is read again at each login."""
    schema_name: str | None = Field(None, alias="schema", min_length=1, max_length=63)
    """PostgreSQL: the schema of the outbox tables; unset: the first one of the role's search path."""
    prefix: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,29}$")] = DEFAULT_PREFIX
    """PostgreSQL: the prefix of the names of the outbox tables."""
    notify: bool = True
    """PostgreSQL: use LISTEN and NOTIFY; with `false` the outbox is only polled."""

    @property
    def location(self) -> outbox.OutboxLocation:
        """Where it is, with the names of its tables."""
        return outbox.OutboxLocation(self.url, self.schema_name, self.prefix, self.url_file)

    @property
    def place(self) -> str:
        """Where it is, for an operator: the file's absolute path, or host and database."""
        return self.location.place


class RetrySettings(Group):
    """Retries."""

    initial_seconds: Seconds = 1.0
    """The delay after a first failure; it doubles with each further one, with jitter."""
    max_seconds: Seconds = 300.0
    """The longest delay between two attempts."""
    max_attempts: int = Field(10, ge=1, le=1_000_000)
    """A message that fails this often while others are delivered is parked."""
    probe_seconds: Seconds = 900.0
    """Seconds between two attempts of a halted tenant, in case the cause was fixed in ION."""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.initial_seconds > self.max_seconds:
            what = "is less than the initial delay"
            problems.refuse(Problem("max_seconds", what, "raise it, or lower RELAY_RETRY__INITIAL_SECONDS"))
        return self


class LogSettings(Group):
    """The log on stderr."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Choice] = "info"
    """`debug`, `info`, `warning` or `error`; `debug` logs every delivery."""
    format: Annotated[Literal["json", "console"] | None, Choice] = None
    """`json` or `console`; unset: console on a terminal, json otherwise."""
    summary_seconds: Seconds = 60.0
    """Seconds between two summaries of an ongoing incident, and of what was delivered."""


class HttpSettings(Group):
    """Time-outs and compression of requests to ION."""

    connect_seconds: Seconds = 5.0
    """Time-out for a connection."""
    read_seconds: Seconds = 30.0
    """Time-out for progress: ION takes bytes of the request, or sends bytes of its answer."""
    total_seconds: Seconds = 60.0
    """Time-out for a whole request, without the time that its size allows."""
    least_bytes_per_second: int = Field(50_000, ge=1)
    """Each so many bytes of a request allow it another second: 5 MB may take 100 s more."""
    deflate_from_bytes: int = Field(8192, ge=0)
    """Documents of this size or more are compressed (DEFLATE)."""
    proxy: ProxyText = "env"
    """The proxy on the way to ION: `http://HOST:PORT`, `off`, or `env`: as HTTPS_PROXY and NO_PROXY say."""
    proxy_credentials_file: AnchoredPath | None = None
    """A file with `USER:PASSWORD` for the proxy."""
    ca_file: PemFile | None = None
    """Certificates (PEM) to trust beside those of the system; read again when they change."""


class RetentionSettings(Group):
    """Retention."""

    delivered_days: float = Field(7.0, gt=0, le=36_500)
    """Days after which delivered and dropped messages are deleted."""
    payload_days: float | None = Field(None, ge=0, le=36_500)
    """Days after which the payload of a delivered message is purged, before its row; 0: upon delivery; unset:
    with its row."""
    audit_days: float = Field(365.0, gt=0, le=36_500)
    """Days after which the audit of operators' actions is deleted."""


class WebSettings(Group):
    """Health, metrics and the operator's page."""

    listen: Listen = "127.0.0.1:8480"
    """The address of health, metrics and the operator's page, or `off`. Beyond loopback (`0.0.0.0:8480`) a
    token file is required."""
    token_file: AnchoredPath | None = None
    """A file with the operators' token, which permits to read everything and to act."""
    read_token_file: AnchoredPath | None = None
    """A file with the readers' token, which permits to read, except documents, and not to act."""
    tenant_labels: int = Field(1000, ge=0, le=1_000_000)
    """Maximum number of tenants with metrics of their own; the others are added up as `other`."""

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if self.listen != "off" and not problems.is_loopback(self.listen) and self.token_file is None:
            what = "is required, since others can reach the listening address"
            hint = "name a file with a long random token, or set RELAY_WEB__LISTEN to 127.0.0.1:8480 or off"
            problems.refuse(Problem("token_file", what, hint))
        return self


class InboundSettings(Group):
    """ION's own calls, where a connection point is bidirectional."""

    listen: Listen = "off"
    """The address where ION's own calls are answered (bidirectional connection points only), such as
    `0.0.0.0:8482`; or `off`."""
    base_url: IonUrl | None = None
    """The URL that ION calls, where there is a proxy: `https://relay.example.com/ion`. ION signs it."""
    window_seconds: float = Field(300.0, ge=1, le=86_400)
    """The largest difference between ION's clock and this one that is accepted."""


class StopSettings(Group):
    """Stopping."""

    grace_seconds: float = Field(25.0, ge=0, le=3600)
    """Time for posts in flight to complete at a stop; keep it below the platform's own limit."""


class OAuth1Settings(Group):
    """OAuth 1.0a: ION reached directly. Valid ones have the key, and the secret in one of its two forms."""

    consumer_key: str | None = None
    """OAuth 1.0a: the consumer key."""
    consumer_secret: SecretStr | None = None
    """OAuth 1.0a: the consumer secret."""
    consumer_secret_file: AnchoredPath | None = None
    """The same from a file; it is read again when it changes."""
    signature_method: Annotated[Literal["HMAC-SHA256", "HMAC-SHA1"], BeforeValidator(_upper)] = "HMAC-SHA256"
    """`HMAC-SHA256` or `HMAC-SHA1`."""


class OAuth2Settings(Group):
    """OAuth 2: what an .ionapi file does not contain."""

    scope: str | None = None
    """OAuth 2: the scope to request."""
    ionapi_tenant: str | None = Field(None, min_length=1, max_length=100)
    """The tenant in the .ionapi file (its `ti`), where it is meant to be another one than this tenant."""
    client_authentication: Annotated[Literal["form", "basic"], Choice] = "form"
    """How the client id and secret are sent: in the `form`, or as HTTP `basic`."""
    tokens_a_day: int | None = Field(None, ge=1, le=1_000_000)
    """OAuth 2: how many tokens the licence allows a day, for the metrics and the alert; unset: unknown."""


class InboundKeySettings(Group):
    """The OAuth 1.0a key that was issued for ION. Valid ones have the secret in one of its two forms."""

    consumer_key: str | None = Field(None, min_length=1, max_length=250)
    """The consumer key that ION calls this relay with, issued by you; one for each tenant."""
    consumer_secret: SecretStr | None = None
    """The secret that belongs to it."""
    consumer_secret_file: AnchoredPath | None = None
    """The same from a file; it is read again when it changes."""


class TenantSettings(Group):
    """One tenant of ION."""

    logical_id: LogicalIdText
    """The sender, as on the connection point in ION Desk, e.g. `lid://acme.orders.1`."""
    ionapi_file: AnchoredPath | None = None
    """OAuth 2: the .ionapi file of the authorised app (backend service); read again when it changes."""
    ion_url: IonUrl | None = None
    """ION's base URL, ending in `/service`; with an .ionapi file only to override what follows from it."""
    oauth1: OAuth1Settings | None = None
    oauth2: OAuth2Settings = OAuth2Settings()
    inbound: InboundKeySettings | None = None
    max_in_flight: int = Field(8, ge=1, le=64)
    """Maximum number of posts in flight."""
    ordering: Annotated[Ordering, Choice] = "key"
    """`key`: in order within each ordering key; `tenant`: all in order; `none`: in any order."""
    on_rejected: Annotated[Literal["park", "stop"], Choice] = "park"
    """What a refused message causes: `park` it, or `stop` the tenant until an operator resumes it."""
    rate_limit: float | None = Field(None, gt=0, le=1_000_000)
    """Maximum number of requests a second; unset: no limit."""
    proxy: ProxyText | None = None
    """As `RELAY_HTTP__PROXY`, for this tenant alone."""
    proxy_credentials_file: AnchoredPath | None = None
    """As `RELAY_HTTP__PROXY_CREDENTIALS_FILE`, for this tenant alone."""
    ca_file: PemFile | None = None
    """As `RELAY_HTTP__CA_FILE`, for this tenant alone."""
    client_cert_file: PemFile | None = None
    """The certificate (PEM) that the relay shows where ION asks for one; read again when it changes."""
    client_key_file: PemFile | None = None
    """Its key (PEM), unless it is in the same file."""
    client_key_password_file: AnchoredPath | None = None
    """The password of the key, from a file."""
    skipped_calls: Annotated[str, _checked(problems.calls_problem)] = ""
    """Calls that a wrapper suite does not forward, separated by commas: `ping`, `versions`,
    `acceptedDocuments`. What is lost without them: docs/connecting.md."""
    documents: Annotated[str, _checked(problems.documents_problem)] = ""
    """The documents that ION accepts, separated by commas, where acceptedDocuments is skipped."""
    max_message_bytes: int = Field(6 * 2**20, ge=1, le=2**31 - 1)
    """A larger document is parked instead of sent. ION takes 5 MB and a buffer of 1 MB, more by licence."""
    check_documents: Annotated[Check, Choice] = "off"
    """`well-formed`: a document that is not well-formed XML or JSON is refused or parked; `root`: so is a BOD
    whose root element is not the one that its name announces. Opaque documents are not checked."""
    opaque_documents: str | None = Field(None, max_length=4000)
    """Documents that may have any bytes: patterns such as `My_Scan,Raw_*`. All others must not contradict
    the UTF-8 that ION is told (UTF-16, UTF-32, XML that declares another encoding)."""

    @property
    def opaque(self) -> tuple[str, ...]:
        """The patterns of opaque documents; names of documents are case-sensitive."""
        return tuple(one for text in (self.opaque_documents or "").split(",") if (one := text.strip()))

    def network(self, http: HttpSettings) -> Network:
        """How this tenant's ION is reached: by its own settings, or else by those of all tenants."""
        own = self.proxy_credentials_file or (http.proxy_credentials_file if self.proxy is None else None)
        return Network(
            self.proxy or http.proxy,
            own,
            self.ca_file or http.ca_file,
            self.client_cert_file,
            self.client_key_file,
            self.client_key_password_file,
        )


# --- the models as data ---------------------------------------------------------------------------------


def shape_of(model: type[BaseModel]) -> Shape:
    """The tree of all settings of a model."""
    shape: dict[str, Shape | None] = {}
    for attribute, field in model.model_fields.items():
        group = group_of(field)
        below = None if group is None else shape_of(group)
        shape[field.alias or attribute] = {ANY: below} if is_map(field) else below
    return shape


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """The group of settings below this field, if it is one (or a map of them, or an optional one)."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def is_map(field: FieldInfo) -> bool:
    """Whether the field is a map of groups by tenant."""
    return get_origin(field.annotation) is dict
