"""Every form of every page, with each of its fields absent, doubled, empty, too long or of another kind."""

import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import pytest
from typing_extensions import override

from relay.sandbox import Sandbox, SandboxTenant
from tests.support.application import ORDER
from tests.support.process import RelayProcess, Station
from tests.web.hostile import Caller

ACME = "ACME_PRD"
Fields = list[tuple[str, str]]


class Forms(HTMLParser):
    """The forms of a page: method, action and fields as a browser would send them; and its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, str, Fields]] = []
        self.links: list[str] = []
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((given.get("method", "get"), given["action"], []))
        elif tag in ("input", "select", "textarea") and "name" in given and self.forms:
            self.forms[-1][2].append((given["name"], given.get("value", "")))
        elif tag == "a" and given.get("href", "").startswith("/"):
            self.links.append(given["href"])


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    async with Sandbox([SandboxTenant(ACME, "lid://acme.orders.1", [ORDER])]) as sandbox:
        sandbox.faults(call="post", status=400, text="BAD", error="refused")
        built = Station(tmp_path, {"RELAY_WEB__LISTEN": "127.0.0.1:0"})
        built.environment |= sandbox.environment(tmp_path)
        for number in range(4):
            built.application.insert(ACME, "BAD", message_id=f"bad-{number}")
        yield built


async def opened(station: Station, relay: RelayProcess) -> Caller:
    line = await station.event(relay, "web.opened")
    host, _, port = line["address"].rpartition(":")
    return Caller(host, int(port))


def changed(fields: Fields) -> Iterator[tuple[str, Fields]]:
    """The form as it is not meant: a field at a time."""
    for place, (name, value) in enumerate(fields):
        before, after = fields[:place], fields[place + 1 :]
        yield f"without {name}", [*before, *after]
        for what, other in (
            ("empty", ""),
            ("long", "A" * 5000),
            ("other", "-1"),
            ("text", "\u202e' OR 1=1 --\0"),
            ("json", "[" * 500),
        ):
            yield f"{name} {what}", [*before, (name, other), *after]
        yield f"{name} twice", [*before, (name, value), (name, "x"), *after]
    yield "nothing", []


async def crawl(caller: Caller, cookie: str) -> dict[tuple[str, str], Fields]:
    """Every form of every page that can be reached from the first one, once for each action."""
    found: dict[tuple[str, str], Fields] = {}
    seen, to_see = {"/"}, ["/"]
    while to_see:
        status, text = await caller.ask("GET", to_see.pop(), Cookie=cookie)
        assert status == 200
        forms = Forms(text)
        for method, action, fields in forms.forms:
            found.setdefault((method, action), fields)
        for link in forms.links:
            path = link.partition("#")[0]
            kind = re.sub(r"[0-9]+", "0", path)
            if kind not in seen and not path.startswith(("/static", "/run-book/")):
                seen.add(kind)
                to_see.append(path)
    return found


async def test_no_form_with_a_field_missing_or_odd_breaks_anything(station: Station) -> None:
    """An answer that is no error of the relay's, and nothing changes that no preview showed."""
    async with station.relay() as relay:
        caller = await opened(station, relay)
        await station.until(lambda: station.application.states() == {"parked": 4}, "four parked")
        _, text = await caller.ask("GET", "/")
        cookie = re.search(r"relay_session=[\w-]+", text)
        assert cookie is not None
        forms = await crawl(caller, cookie[0])
        preview = ("post", "/messages/preview")
        forms[preview] += [("what", "retry"), ("state", "parked")]
        _, text = await caller.post(*_form(preview, forms[preview]), Cookie=cookie[0])
        for method, action, fields in Forms(text).forms:
            forms.setdefault((method, action), fields)
        assert {action.partition("?")[0] for _, action in forms} >= {
            "/messages",
            "/messages/preview",
            "/messages/decide",
            f"/tenants/{ACME}/ask",
            f"/tenants/{ACME}/pause",
            "/message/document",
        }
        tried = 0
        for (method, action), fields in forms.items():
            for what, odd in changed(fields):
                tried += 1
                body = urlencode(odd, errors="surrogatepass")
                if method == "get":
                    status, text = await caller.ask("GET", f"{action}?{body}", Cookie=cookie[0])
                else:
                    kind = {"Content_Type": "application/x-www-form-urlencoded"}
                    status, text = await caller.ask("POST", action, body.encode(), Cookie=cookie[0], **kind)
                assert status is not None, f"{action} {what}"
                assert status < 500, f"{action} {what}: {text[:400]}"
        assert tried > 100
        assert "Traceback" not in relay.text


def _form(form: tuple[str, str], fields: Fields) -> tuple[str, dict[str, str]]:
    return form[1], dict(fields)


async def test_the_first_action_on_all_that_is_parked_works(station: Station) -> None:
    """Messages, as the link leads there: no tenant; Retry; confirm. Its page says what became of them."""
    async with station.relay() as relay:
        caller = await opened(station, relay)
        await station.until(lambda: station.application.states() == {"parked": 4}, "four parked")
        _, text = await caller.ask("GET", "/messages?state=parked")
        cookie = re.search(r"relay_session=[\w-]+", text)
        assert cookie is not None
        (retry,) = [dict(fields) for _, action, fields in Forms(text).forms if ("what", "retry") in fields]
        status, text = await caller.post("/messages/preview", retry, Cookie=cookie[0])
        assert status == 200
        assert "4 messages would be retried" in text
        (decide,) = [dict(f) for _, action, f in Forms(text).forms if action == "/messages/decide"]
        status, text = await caller.post("/messages/decide", decide, Cookie=cookie[0])
        assert status == 303
        await station.until(lambda: station.application.states() == {"parked": 4}, "parked again")
        _, text = await caller.ask("GET", "/audit/1", Cookie=cookie[0])
        assert "4 parked again" in text
        assert "refused" in text
        assert ">done<" not in text
        without = {name: value for name, value in decide.items() if name not in ("state", "tenant")}
        assert (await caller.post("/messages/decide", without, Cookie=cookie[0]))[0] == 400
        status, text = await caller.post(f"/tenants/{ACME}/ask", {"mark": decide["mark"]}, Cookie=cookie[0])
        assert f"Location: /tenants/{ACME}\r\n" in text
        _, text = await caller.ask("GET", f"/tenants/{ACME}", Cookie=cookie[0])
        assert "ION is being asked again now" in text
        assert "4 parked messages need an operator" in text
        assert "See 4 parked messages" in text
        assert 'class="state attention"' in text
        _, text = await caller.ask("GET", f"/tenants/{ACME}", Cookie=cookie[0])
        assert "ION is being asked again now" not in text
