"""Client of a running simulator's control interface."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

_SECONDS = 10.0


class RemoteError(Exception):
    """The simulator refused, or none is running; the text says so. `wrong_use`: the request was invalid."""

    def __init__(self, text: str, *, wrong_use: bool = False) -> None:
        super().__init__(text)
        self.wrong_use = wrong_use


def ask(url: str, method: str, path: str, content: object = None) -> Any:
    """A JSON answer of `/_sandbox/<path>`."""
    return json.loads(fetch(url, method, path, content))


def fetch(url: str, method: str, path: str, content: object = None) -> bytes:
    """The bytes of `/_sandbox/<path>`. `url`: the sandbox's address; `content`: sent as JSON."""
    if not url.startswith(("http://", "https://")):
        raise RemoteError(
            f"{url} is not the address of a sandbox; write it like http://127.0.0.1:8481", wrong_use=True
        )
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked above
        f"{url.rstrip('/')}/_sandbox/{path}", data=body, method=method
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a sandbox is local: no proxy
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            read: bytes = answer.read()
            return read
    except urllib.error.HTTPError as error:
        with error:
            raise RemoteError(_text(error.read()), wrong_use=error.code == 400) from error
    except (OSError, ValueError) as error:
        raise RemoteError(f"no sandbox answers at {url}: {error}") from error


def pages(url: str, path: str, name: str, query: Mapping[str, str | None]) -> Iterator[dict[str, Any]]:
    """All items of a list, page by page. `name`: the list's name in the answer."""
    after: int | None = 0
    while after is not None:
        given = {key: value for key, value in query.items() if value is not None} | {"after": str(after)}
        page = ask(url, "GET", f"{path}?{urllib.parse.urlencode(given)}")
        yield from page[name]
        after = page["next"]


def _text(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return "the answer cannot be read; is a sandbox running there?"
