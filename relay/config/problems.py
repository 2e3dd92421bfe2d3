"""What can be wrong with settings, in words for the operator, each with a hint.

A text here contains the value only where it cannot be a secret: numbers, choices, addresses to listen on,
patterns, logical ids; of a URL only its port.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from relay.core.validation import (
    LAST_PORT,
    Problem,
    document_name_problem,
    port_problem,
    tenant_id_problem,
)
from relay.ion import service_urls
from relay.ion.network import ENVIRONMENT, OFF, NetworkError, proxy_problem, require_pem
from relay.outbox.database_url import database_url_problem
from relay.outbox.location import is_served_url

Where = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A problem at a place in the settings."""

    where: Where
    what: str
    hint: str


def refuse(problem: Problem | None) -> None:
    """Raise the problem in pydantic's way; `explain` reads it back."""
    if problem is not None:
        raise refused(problem)


def refused(problem: Problem) -> PydanticCustomError:
    """The problem in pydantic's way."""
    facts = {"what": problem.what, "hint": problem.hint, "field": problem.field}
    return PydanticCustomError("problem", "{what}", facts)


# --- single values ------------------------------------------------------------------------------------


def proxy_setting_problem(text: str) -> Problem | None:
    """`env`, `off`, or the URL of a proxy without credentials."""
    if text in (ENVIRONMENT, OFF):
        return None
    found = proxy_problem(text)
    if found is not None:
        return Problem("", found, "write http://HOST:PORT, or env, or off")
    if "@" in text:
        return Problem(
            "", "has credentials in it", "write USER:PASSWORD into the file of PROXY_CREDENTIALS_FILE"
        )
    return None


def pem_problem(path: Path) -> Problem | None:
    """What is wrong with a file that must be in PEM; None: nothing. It is not named: it may be a secret."""
    try:
        require_pem(path)
    except NetworkError as error:
        return Problem("", f"names a file that {error.what}", error.hint)
    return None


_OUTBOX_SCHEMES = ("sqlite", "postgresql", "postgres")
_PLAIN = re.compile(r"[A-Za-z0-9_.,:*?\[\]+-]+")
_MAX_SHOWN = 60
_PATTERN = re.compile(r"[A-Za-z0-9_*?\[\]!-]+")


def outbox_url_problem(text: str) -> Problem | None:
    """An outbox that the relay can open."""
    scheme, separator, _ = text.partition("://")
    if separator and scheme in _OUTBOX_SCHEMES and text.isprintable():
        return database_url_problem(text, os.environ) if is_served_url(text) else None
    if separator and scheme.partition("+")[0] in _OUTBOX_SCHEMES:
        return Problem("", "names a driver", f"write {scheme.partition('+')[0]}:// without it")
    hint = "write sqlite:///relay.db, or postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    return Problem("", "is not the URL of an outbox", hint)


def listen_problem(text: str) -> Problem | None:
    """`off`, or a host and a port; 0 for any free one."""
    if text.lower() == "off":
        return None
    url = _split(f"//{text}")
    hint = "write an address and a port, such as 127.0.0.1:8480 or [::1]:8480, or off"
    if url is None or not url.hostname or url.netloc != text or "@" in text:
        return Problem("", f"{shown(text)} is not an address to listen on", hint)
    port = text.rpartition("]")[2].rpartition(":")[2] if ":" in text.rpartition("]")[2] else ""
    if port != "0" and port_problem(port) is not None:
        what = f"has the port {shown(port)}" if port else "has no port"
        return Problem("", f"{shown(text)} {what}", f"{hint}; a port is at most {LAST_PORT}")
    return None


def is_loopback(listen: str) -> bool:
    """Whether only this machine can reach that address."""
    return service_urls.is_loopback(urlsplit(f"//{listen}").hostname or "")


def patterns_problem(text: str) -> Problem | None:
    """Shell patterns of tenant ids, separated by commas."""
    if all(_PATTERN.fullmatch(pattern) for pattern in patterns_of(text)):
        return None
    return Problem(
        "",
        f"{shown(text)} is not a list of patterns",
        "write tenant ids with * or ?, separated by commas: ACME_*,GLOBEX_TST",
    )


def patterns_of(text: str) -> list[str]:
    """The patterns in such a list, in upper case."""
    return [pattern.upper() for pattern in listed(text)]


def listed(text: str) -> list[str]:
    """What is separated by commas."""
    return [one.strip() for one in text.split(",") if one.strip()]


CALLS = ("ping", "versions", "acceptedDocuments")
"""Those that may be skipped."""


def calls_problem(text: str) -> Problem | None:
    """Calls, separated by commas."""
    is_known = all(one in CALLS for one in listed(text))
    hint = "write ping, versions or acceptedDocuments, separated by commas"
    return None if is_known else Problem("", "names a call that cannot be skipped", hint)


def documents_problem(text: str) -> Problem | None:
    """Names of documents, separated by commas."""
    return next(filter(None, map(document_name_problem, listed(text))), None)


def _split(text: str) -> SplitResult | None:
    if not text.isprintable() or " " in text:
        return None
    try:
        return urlsplit(text)
    except ValueError:
        return None


def shown(value: object) -> str:
    """A value that cannot be a secret, on one line and of a bounded length."""
    text = str(value)
    short = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
    return short if _PLAIN.fullmatch(text) else repr(short)


# --- relations between a tenant's settings ------------------------------------------------------------


def tenant_problems(tenant: str, given: object) -> Iterator[Found]:
    """What is wrong between a tenant's settings, whatever is wrong within them."""
    where = ("tenants", tenant)
    problem = tenant_id_problem(tenant)
    if problem is not None:
        yield Found(where, problem.what, problem.hint)
    if not isinstance(given, Mapping):
        return
    yield from _inbound_problems(where, given.get("inbound"))
    yield from _skipped_problems((*where, "documents"), given)
    oauth1 = given.get("oauth1")
    oauth1 = oauth1 if isinstance(oauth1, Mapping) else {}
    direct = bool(oauth1.keys() & {"consumer_key", "consumer_secret", "consumer_secret_file"})
    gateway = "ionapi_file" in given
    if direct and gateway:
        what = "has both an .ionapi file and OAuth 1 credentials"
        yield Found(where, what, "keep IONAPI_FILE or OAUTH1__…, whichever the tenant's ION uses")
    elif direct:
        yield from _direct_problems(where, given, oauth1)
    elif not gateway:
        hint = "set IONAPI_FILE, or ION_URL with OAUTH1__CONSUMER_KEY and OAUTH1__CONSUMER_SECRET"
        yield Found(where, "has no credentials", hint)


def _skipped_problems(where: Where, given: Mapping[str, Any]) -> Iterator[Found]:
    """The list of documents stands for the call acceptedDocuments."""
    is_skipped = CALLS[2] in listed(str(given.get("skipped_calls", "")))
    is_given = bool(listed(str(given.get("documents", ""))))
    if is_skipped and not is_given:
        hint = "list the documents of the connection point, separated by commas"
        yield Found(where, "is missing, since acceptedDocuments is skipped", hint)
    if is_given and not is_skipped:
        what = "is not used, since acceptedDocuments is called"
        yield Found(where, what, "remove it, or add acceptedDocuments to SKIPPED_CALLS")


def _direct_problems(where: Where, given: Mapping[str, Any], oauth1: Mapping[str, Any]) -> Iterator[Found]:
    if "ion_url" not in given:
        yield Found((*where, "ion_url"), "is missing", "set ION's base URL, ending in /service")
    yield from _consumer_problems((*where, "oauth1"), oauth1)
    if "oauth2" in given:
        yield Found((*where, "oauth2"), "cannot be used with OAuth 1", "remove it, or use an .ionapi file")


def _inbound_problems(where: Where, inbound: object) -> Iterator[Found]:
    if isinstance(inbound, Mapping) and inbound:
        yield from _consumer_problems((*where, "inbound"), inbound)


def _consumer_problems(where: Where, given: Mapping[str, Any]) -> Iterator[Found]:
    """A consumer key and its secret: both, and the secret in one of its two forms."""
    if "consumer_key" not in given:
        hint = "set the key that belongs to the consumer secret"
        yield Found((*where, "consumer_key"), "is missing", hint)
    secrets = given.keys() & {"consumer_secret", "consumer_secret_file"}
    secret = (*where, "consumer_secret")
    if not secrets:
        yield Found(secret, "is missing", "set it, or name its file with …_FILE")
    if len(secrets) == 2:
        yield Found(secret, "is set both itself and as a file", "keep one of the two")


def inbound_key_problems(tenants: Mapping[str, Any]) -> Iterator[Found]:
    """A key that ION calls with belongs to one tenant: it identifies the caller."""
    first: dict[str, str] = {}
    for tenant, given in tenants.items():
        inbound = given.get("inbound") if isinstance(given, Mapping) else None
        key = inbound.get("consumer_key") if isinstance(inbound, Mapping) else None
        if isinstance(key, str) and first.setdefault(key, tenant) != tenant:
            where = ("tenants", tenant, "inbound", "consumer_key")
            yield Found(where, f"is also that of {first[key]}", "issue a key of its own for each tenant")


# --- what pydantic found ------------------------------------------------------------------------------


def explain(error: ValidationError, below: Where = ()) -> list[Found]:
    """What pydantic found; `below`: the place of the validated model in the settings."""
    return [_explain(one, below) for one in error.errors(include_url=False)]


def _explain(error: ErrorDetails, below: Where) -> Found:
    context = error.get("ctx", {})
    where = (*below, *(str(key) for key in error["loc"] if key != "[key]"))
    if error["type"] == "problem":
        if len(where) == 1 and context["field"]:  # a whole group: the problem names the field
            where = (*where, context["field"])
        return Found(where, context["what"], context["hint"])
    what, hint = _WORDS.get(error["type"], (f"cannot be read ({error['type']})", _UNKNOWN_HINT))
    given = error["input"]
    if error["type"] in _OF_NO_SECRET and isinstance(given, str | int | float) and not _is_json(given):
        what = f"{shown(given)} {what}"
    return Found(where, what, hint.format_map(defaultdict(lambda: "more", context)))


def _is_json(given: object) -> bool:
    """Whether it looks like a group of settings in the wrong place, which may have secrets in it."""
    return isinstance(given, str) and given.startswith(("{", "["))


_UNKNOWN_HINT = "write it as in docs/settings.md"
_NOT_INTEGER = ("is not a whole number", "write it in digits")
_NOT_NUMBER = ("is not a number", "write it in digits, like 2.5")
_NOT_BOOLEAN = ("is neither true nor false", "write true or false")
_LENGTH = ("is too long or too short", "give 1 to {max_length} characters")
_NOT_GROUP = ("is not a group of settings", "set the variables below it")

_WORDS = {
    "missing": ("is missing", "set it"),
    "literal_error": ("is not one of its values", "use {expected}"),
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), _NOT_INTEGER),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), _NOT_NUMBER),
    **dict.fromkeys(("bool_parsing", "bool_type"), _NOT_BOOLEAN),
    "greater_than": ("is too small", "give more than {gt:g}"),
    "greater_than_equal": ("is too small", "give at least {ge:g}"),
    "less_than": ("is too large", "give at most {lt:g}"),
    "less_than_equal": ("is too large", "give at most {le:g}"),
    "string_type": ("is not a string", "put it in quotes"),
    **dict.fromkeys(("string_too_long", "string_too_short"), _LENGTH),
    "string_pattern_mismatch": (
        "has characters that are not allowed",
        "use a-z, 0-9 and _, not a digit first",
    ),
    **dict.fromkeys(("model_type", "dict_type", "model_attributes_type"), _NOT_GROUP),
}
"""What is wrong and the hint, by pydantic's type of error; its context fills the hint's placeholders."""

_OF_NO_SECRET = frozenset(
    {name for name, words in _WORDS.items() if words in (_NOT_INTEGER, _NOT_NUMBER, _NOT_BOOLEAN)}
    | {"literal_error", "greater_than", "greater_than_equal", "less_than", "less_than_equal"}
)
"""These types of error concern numbers and choices only."""
