"""This file is the groups of settings: what can be set about the outbox, a tenant, the log, and so on.

Each field's text below it is its line in docs/settings.md.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    model_validator,
)

from relay import outbox
from relay.config import problems
from relay.core.model import Ordering
from relay.core.validation import Problem, logical_id_problem

# --- kinds of values ----------------------------------------------------------------------------------


def _logical_id(text: str) -> str:
    problems.refuse(logical_id_problem(text))
    return text


def _ion_url(text: str) -> str:
    problems.refuse(problems.url_problem(text))
    return text.rstrip("/")


def _outbox_url(text: str) -> str:
    problems.refuse(problems.outbox_url_problem(text))
    return text


def _listen(text: str) -> str:
    problems.refuse(problems.listen_problem(text))
    return text.lower()


def _patterns(text: str) -> str:
    problems.refuse(problems.patterns_problem(text))
    return text


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


_LONG = 366 * 86400
Seconds = Annotated[float, Field(gt=0, le=_LONG)]
Choice = BeforeValidator(_lower)
LogicalIdText = Annotated[str, AfterValidator(_logical_id)]
IonUrl = Annotated[str, AfterValidator(_ion_url)]
OutboxUrl = Annotated[str, AfterValidator(_outbox_url), PlainSerializer(outbox.shown)]
Listen = Annotated[str, AfterValidator(_listen)]
"""`off`, or `HOST:PORT`."""
Patterns = Annotated[str, AfterValidator(_patterns)]

# --- the groups ---------------------------------------------------------------------------------------


class Group(BaseModel):
    """What all groups have in common: nothing unknown, nothing changed later, no value in an error."""

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
    url_file: Path | None = None
    """The same from a file; for a URL with a password in it."""
    schema_name: str | None = Field(None, alias="schema", min_length=1, max_length=63)
    """PostgreSQL: the schema of the outbox' tables; unset: the first one of the role's search path."""
    prefix: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,29}$")] = "relay_"
    """PostgreSQL: what the names of the outbox' tables begin with."""
    notify: bool = True
    """PostgreSQL: be woken by NOTIFY; with `false` the outbox is polled alone."""

    @property
    def location(self) -> outbox.OutboxLocation:
        """Where it is, with the names of its tables."""
        return outbox.OutboxLocation(self.url, self.schema_name, self.prefix)

    @property
    def shown(self) -> str:
        """The URL without its password, for people."""
        return outbox.shown(self.url)


class RetrySettings(Group):
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
            problems.refuse(Problem("max_seconds", what, "raise it, or lower RELAY_RETRY__INITIAL_SECONDS"))
        return self


class LogSettings(Group):
    """What is said on stderr."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Choice] = "info"
    """`debug`, `info`, `warning` or `error`; `debug` says every delivery."""
    format: Annotated[Literal["json", "console"] | None, Choice] = None
    """`json` or `console`; unset: console on a terminal, json otherwise."""
    summary_seconds: Seconds = 60.0
    """A trouble that lasts, and what was delivered, is summarised so often."""


class HttpSettings(Group):
    """Time-outs and the body."""

    connect_seconds: Seconds = 5.0
    """The longest wait for a connection."""
    read_seconds: Seconds = 30.0
    """The longest silence within an answer."""
    total_seconds: Seconds = 60.0
    """The longest a request may take altogether."""
    deflate_from_bytes: int = Field(8192, ge=0)
    """Documents of this size or more are compressed (DEFLATE)."""


class RetentionSettings(Group):
    """How long what is done is kept."""

    delivered_days: float = Field(7.0, gt=0, le=36_500)
    """Delivered and dropped messages are deleted after so many days."""
    payload_days: float | None = Field(None, ge=0, le=36_500)
    """The payload of a delivered message goes after so many days, before its row; 0: when it is delivered;
    unset: with its row."""
    audit_days: float = Field(365.0, gt=0, le=36_500)
    """What persons did is kept for so many days."""


class WebSettings(Group):
    """Health, metrics and the operator's page."""

    listen: Listen = "127.0.0.1:8480"
    """Where health, metrics and the operator's page are served; `off`: nowhere. Where others reach it
    (`0.0.0.0:8480`) a token file is needed."""
    token_file: Path | None = None
    """A file with the token of operators: who shows it may look at everything and act."""
    read_token_file: Path | None = None
    """A file with the token of readers: who shows it may look, but not at documents, and not act."""
    tenant_labels: int = Field(1000, ge=0, le=1_000_000)
    """So many tenants have metrics of their own; those of the others are added up as `other`."""

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if self.listen != "off" and not problems.is_loopback(self.listen) and self.token_file is None:
            what = "is not set, but others reach the address that is listened on"
            hint = "name a file with a long random token, or set RELAY_WEB__LISTEN to 127.0.0.1:8480 or off"
            problems.refuse(Problem("token_file", what, hint))
        return self


class InboundSettings(Group):
    """What ION may ask of the relay, where a connection point is bidirectional."""

    listen: Listen = "off"
    """Where ION's own calls are answered (bidirectional connection points only), such as `0.0.0.0:8482`; or
    `off`."""
    base_url: IonUrl | None = None
    """What ION calls instead, where a proxy stands between: `https://relay.example.com/ion`. ION signs it."""
    window_seconds: float = Field(300.0, ge=1, le=86_400)
    """So far ION's clock and this one may differ."""


class StopSettings(Group):
    """How the relay ends."""

    grace_seconds: float = Field(25.0, ge=0, le=3600)
    """At a stop, posts under way may take so long to land; keep it below the platform's own limit."""


class OAuth1Settings(Group):
    """OAuth 1.0a: ION reached directly. Valid ones have the key, and the secret in one of its two forms."""

    consumer_key: str | None = None
    """OAuth 1.0a: the consumer key."""
    consumer_secret: SecretStr | None = None
    """OAuth 1.0a: the consumer secret."""
    consumer_secret_file: Path | None = None
    """The same from a file; it is read again when it changes."""
    signature_method: Annotated[Literal["HMAC-SHA256", "HMAC-SHA1"], BeforeValidator(_upper)] = "HMAC-SHA256"
    """`HMAC-SHA256` or `HMAC-SHA1`."""


class OAuth2Settings(Group):
    """OAuth 2: what an .ionapi file does not say."""

    scope: str | None = None
    """OAuth 2: a scope to ask for."""
    client_authentication: Annotated[Literal["form", "basic"], Choice] = "form"
    """How the client id and secret travel: in the `form`, or as HTTP `basic`."""
    tokens_a_day: int | None = Field(None, ge=1, le=1_000_000)
    """OAuth 2: how many tokens the licence allows a day, for the metrics and the alert; unset: not known."""


class InboundKeySettings(Group):
    """The OAuth 1.0a key that was issued for ION. Valid ones have the secret in one of its two forms."""

    consumer_key: str | None = Field(None, min_length=1, max_length=250)
    """The consumer key that ION calls this relay with, issued by you; one for each tenant."""
    consumer_secret: SecretStr | None = None
    """The secret that belongs to it."""
    consumer_secret_file: Path | None = None
    """The same from a file; it is read again when it changes."""


class TenantSettings(Group):
    """One tenant of ION."""

    logical_id: LogicalIdText
    """The sender, as on the connection point in ION Desk, e.g. `lid://acme.orders.1`."""
    ionapi_file: Path | None = None
    """OAuth 2: the .ionapi file of the authorised app (backend service); read again when it changes."""
    ion_url: IonUrl | None = None
    """ION's base URL, ending in `/service`; with an .ionapi file only to override what follows from it."""
    oauth1: OAuth1Settings | None = None
    oauth2: OAuth2Settings = OAuth2Settings()
    inbound: InboundKeySettings | None = None
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
