"""This file is what can be wrong with settings, in words for the person who set them, each with its mend.

No text here ever holds a value, which may be a secret; the exception is a logical id, which is none.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic_core import ErrorDetails, PydanticCustomError

from relay.core.validation import Problem, tenant_id_problem

Where = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A problem at a place in the settings."""

    where: Where
    what: str
    hint: str


def refuse(problem: Problem | None) -> None:
    """Say a problem in pydantic's way; `explain` reads it back."""
    if problem is not None:
        raise PydanticCustomError(
            "problem", "{what}", {"what": problem.what, "hint": problem.hint, "field": problem.field}
        )


# --- single values ------------------------------------------------------------------------------------


def url_problem(text: str) -> Problem | None:
    """An https URL without a user, a query or a fragment; plain http to loopback alone."""
    url = _split(text)
    if url is None or url.scheme not in ("http", "https") or not url.hostname:
        return Problem("", "is not a URL", "write it like https://HOST/api/ion/messaging/service")
    if url.username is not None or url.query or url.fragment:
        hint = "write scheme, host and path alone; credentials have settings of their own"
        return Problem("", "has a user, a query or a fragment", hint)
    if url.scheme == "http" and not _is_loopback(url.hostname):
        return Problem("", "is plain http", "use https; plain http goes to this machine alone (127.0.0.1)")
    return None


_OUTBOX_SCHEMES = ("sqlite", "postgresql", "postgres")
_PATTERN = re.compile(r"[A-Za-z0-9_*?\[\]!-]+")


def outbox_url_problem(text: str) -> Problem | None:
    """An outbox that the relay knows how to open; what follows the scheme is the store's to judge."""
    scheme, separator, _ = text.partition("://")
    if separator and scheme in _OUTBOX_SCHEMES and text.isprintable():
        return None
    if separator and scheme.partition("+")[0] in _OUTBOX_SCHEMES:
        return Problem("", "names a driver", f"write {scheme.partition('+')[0]}:// without it")
    hint = "write sqlite:///relay.db, or postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    return Problem("", "is not the URL of an outbox", hint)


def listen_problem(text: str) -> Problem | None:
    """`off`, or a host and a port; 0 for any free one."""
    if text.lower() == "off":
        return None
    url = _split(f"//{text}")
    if url is None or not url.hostname or url.port is None or url.netloc != text or "@" in text:
        hint = "write an address and a port, such as 127.0.0.1:8480 or [::1]:8480, or off"
        return Problem("", "is not an address to listen on", hint)
    return None


def is_loopback(listen: str) -> bool:
    """Whether only this machine reaches what listens there."""
    return _is_loopback(urlsplit(f"//{listen}").hostname or "")


def patterns_problem(text: str) -> Problem | None:
    """Shell patterns of tenant ids, separated by commas."""
    if all(_PATTERN.fullmatch(pattern) for pattern in patterns_of(text)):
        return None
    return Problem(
        "",
        "is not a list of patterns",
        "write tenant ids with * or ?, separated by commas: ACME_*,GLOBEX_TST",
    )


def patterns_of(text: str) -> list[str]:
    """The patterns in such a list, in upper case."""
    return [pattern.strip().upper() for pattern in text.split(",") if pattern.strip()]


def _split(text: str) -> SplitResult | None:
    if not text.isprintable() or " " in text:
        return None
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return None
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


# --- relations between a tenant's settings ------------------------------------------------------------


def tenant_problems(tenant: str, given: object) -> Iterator[Found]:
    """What is wrong between a tenant's settings as they were given, whatever else is wrong in them."""
    where = ("tenants", tenant)
    problem = tenant_id_problem(tenant)
    if problem is not None:
        yield Found(where, problem.what, problem.hint)
    if not isinstance(given, Mapping):
        return
    yield from _inbound_problems(where, given.get("inbound"))
    oauth1 = given.get("oauth1")
    oauth1 = oauth1 if isinstance(oauth1, Mapping) else {}
    direct = bool(oauth1.keys() & {"consumer_key", "consumer_secret", "consumer_secret_file"})
    gateway = "ionapi_file" in given
    if direct and gateway:
        what = "has both an .ionapi file and OAuth 1 credentials"
        yield Found(where, what, "keep IONAPI_FILE or OAUTH1__…, as the tenant's ION wants it")
    elif direct:
        yield from _direct_problems(where, given, oauth1)
    elif not gateway:
        hint = "set IONAPI_FILE, or ION_URL with OAUTH1__CONSUMER_KEY and OAUTH1__CONSUMER_SECRET"
        yield Found(where, "has no credentials", hint)


def _direct_problems(where: Where, given: Mapping[str, Any], oauth1: Mapping[str, Any]) -> Iterator[Found]:
    if "ion_url" not in given:
        yield Found((*where, "ion_url"), "is missing", "set ION's base URL, ending in /service")
    yield from _consumer_problems((*where, "oauth1"), oauth1)
    if "oauth2" in given:
        yield Found((*where, "oauth2"), "does not go with OAuth 1", "remove it, or use an .ionapi file")


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
        yield Found(secret, "is missing", "set it, or its file with …_FILE")
    if len(secrets) == 2:
        yield Found(secret, "is given itself and as a file", "keep one of the two")


def inbound_key_problems(tenants: Mapping[str, Any]) -> Iterator[Found]:
    """A key that ION calls with is one tenant's alone: it says whose call it is."""
    first: dict[str, str] = {}
    for tenant, given in tenants.items():
        inbound = given.get("inbound") if isinstance(given, Mapping) else None
        key = inbound.get("consumer_key") if isinstance(inbound, Mapping) else None
        if isinstance(key, str) and first.setdefault(key, tenant) != tenant:
            where = ("tenants", tenant, "inbound", "consumer_key")
            yield Found(where, f"is also that of {first[key]}", "issue a key of its own for each tenant")


# --- what pydantic found ------------------------------------------------------------------------------


def explain(error: ErrorDetails, below: Where = ()) -> Found:
    """One of pydantic's errors; `below`: where in the settings the validated part stands."""
    context = error.get("ctx", {})
    where = (*below, *(str(key) for key in error["loc"] if key != "[key]"))
    if error["type"] == "problem":
        if len(where) == 1:  # a whole group: the problem names the field
            where = (*where, context["field"])
        return Found(where, context["what"], context["hint"])
    what, hint = _words(error["type"], context)
    return Found(where, what, hint)


def _words(kind: str, context: Mapping[str, Any]) -> tuple[str, str]:
    match kind:
        case "missing":
            return "is missing", "set it"
        case "literal_error":
            return "is not one of its values", f"use {context['expected']}"
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return "is not a whole number", "write it in digits"
        case "float_parsing" | "float_type" | "finite_number":
            return "is not a number", "write it in digits, like 2.5"
        case "bool_parsing" | "bool_type":
            return "is neither true nor false", "write true or false"
        case "greater_than":
            return "is too small", f"give more than {context['gt']:g}"
        case "greater_than_equal":
            return "is too small", f"give at least {context['ge']:g}"
        case "less_than" | "less_than_equal":
            return "is too large", f"give at most {context['le']:g}"
        case "string_type":
            return "is not a text", "put it in quotes"
        case "string_too_long" | "string_too_short":
            return "is too long or too short", f"give 1 to {context.get('max_length', 'more')} characters"
        case "string_pattern_mismatch":
            return "has characters that cannot stand there", "use a-z, 0-9 and _, not a digit first"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "is not a group of settings", "set the variables below it"
        case _:
            return f"cannot be read ({kind})", "write it as docs/settings.md shows"
