"""The hosts that a URL names, each in a URL of its own, so that none takes the time of all."""

from collections.abc import Sequence
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit


def each_host(url: str) -> Sequence[str]:
    """The same URL once for each of its hosts, in its order; itself where it names one or none.

    Raises ValueError where it cannot be read.
    """
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    if "," in place:
        return [parts._replace(netloc=f"{login}{at}{host}").geturl() for host in place.split(",")]
    return [url] if place or not parts.query else _of_options(url, parts)


def _of_options(url: str, parts: SplitResult) -> Sequence[str]:
    """As in `?host=db1,db2&port=5432,5433`; one port is that of all."""
    options = dict(parse_qsl(parts.query, strict_parsing=True))
    hosts, ports = options.get("host", "").split(","), options.get("port", "").split(",")
    if len(hosts) == 1 or len(ports) not in {1, len(hosts)}:
        return [url]
    ports *= len(hosts) // len(ports)
    base = url.partition("?")[0]
    return [
        f"{base}?{urlencode(options | {'host': host} | ({'port': port} if port else {}))}"
        for host, port in zip(hosts, ports, strict=True)
    ]
