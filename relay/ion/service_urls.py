"""What is wrong with the URL of a service that credentials and messages are sent to.

Pure. A text here has no part of the URL but its port and single characters: the rest may be a secret.
"""

import re
import unicodedata
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import SplitResult, quote, urlsplit

from relay.core.validation import Problem, port_problem

_FORM = "write it like https://HOST/api/ion/messaging/service"
_HOST = re.compile(r"(?=.{1,253}\.?\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?", re.ASCII | re.IGNORECASE)


def url_problem(text: str) -> Problem | None:
    """An https URL in ASCII, without a user, a query or a fragment; plain http to loopback only."""
    if (problem := next(_odd_characters(text), None)) is not None:
        return problem
    url = _split(text)
    if url is None or url.scheme not in ("http", "https") or not url.hostname:
        return Problem("", "is not a URL", _FORM)
    port = url.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
    if port and (problem := port_problem(port)) is not None:
        return problem
    if url.username is not None or url.query or url.fragment:
        hint = "write only scheme, host and path; credentials have settings of their own"
        return Problem("", "has a user, a query or a fragment", hint)
    if not _is_address(url.hostname) and not _HOST.fullmatch(url.hostname):
        return Problem("", "has a host that no server can have", f"{_FORM}, with a name or an IP address")
    if url.scheme == "http" and not is_loopback(url.hostname):
        return Problem("", "is plain http", "use https; plain http is for this machine only (127.0.0.1)")
    return None


def is_loopback(host: str) -> bool:
    """Whether this host is this machine."""
    return ip_address(host).is_loopback if _is_address(host) else host.lower() == "localhost"


def _odd_characters(text: str) -> Iterator[Problem]:
    """A character that looks like another one, or none at all, is often pasted along."""
    path = text.find("/", text.find("://") + 3)
    for place, character in enumerate(text):
        if "!" <= character <= "~":
            continue
        known = f"the character U+{ord(character):04X} ({unicodedata.name(character, 'a control character')})"
        if character.isspace() or not character.isprintable():
            yield Problem("", f"has {known} in it", "remove it; it was perhaps pasted along")
        elif path < 0 or place < path:
            hint = "write the host in ASCII (xn--…), or type that character anew if it was pasted"
            yield Problem("", f"has {known} in its host", hint)
        else:
            hint = f"write it as {quote(character)}, or type it anew if it was pasted"
            yield Problem("", f"has {known} in its path", hint)


def _split(text: str) -> SplitResult | None:
    try:
        return urlsplit(text)
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
