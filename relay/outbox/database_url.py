"""What is wrong with the URL of a database, found before a driver misreads it.

Drivers take a port modulo 65536, and an unescaped `/`, `?` or `#` in a password for the end of the host: they
would connect to another port or host than was meant. No text here contains a part of the URL but its port.
"""

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from relay.core.validation import Problem, port_problem

_ESCAPES = "%40 for an @, %2F for a /, %3A for a :, %23 for a #, %3F for a ?"
_FORM = f"postgresql://USER:PASSWORD@HOST:5432/DATABASE, with {_ESCAPES} in the user and the password"


def database_url_problem(url: str, environ: Mapping[str, str]) -> Problem | None:
    """`environ`: of this process; PGPORT is the port of a URL without one. None: nothing is found wrong."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
    except ValueError:
        return Problem("", "is no URL of a database", f"write {_FORM}")
    in_place = list(_ports(parts.netloc.rpartition("@")[2]))
    is_cut = "@" in parts.query and not all(map(str.isdecimal, in_place))
    if parts.fragment or "@" in parts.path or is_cut or not all("=" in one for one in _options(parts.query)):
        return Problem("", "has a /, ? or # in the user or password that is not escaped", f"write {_FORM}")
    given = [*in_place, *filter(None, options.get("port", "").split(","))]
    for port in given:
        if (problem := port_problem(port)) is not None:
            return problem
    port = environ.get("PGPORT", "")
    if port and not given and (problem := port_problem(port)) is not None:
        return Problem("", f"has no port, and PGPORT {problem.what}", problem.hint)
    return None


def _options(query: str) -> list[str]:
    return [one for one in query.split("&") if one]


def _ports(place: str) -> Iterator[str]:
    """Those of `HOST:PORT,[::1]:PORT,…`."""
    for host in place.split(","):
        port = unquote(host).rpartition("]")[2].partition(":")[2]
        if port:
            yield port
