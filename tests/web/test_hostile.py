"""Requests that mean no good, to the real process: none is let in, and the relay carries messages all the while."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from relay.sandbox import Sandbox, SandboxTenant
from tests.support.application import ORDER
from tests.support.process import RelayProcess, Station
from tests.web.hostile import HOSTS, PATHS, Answer, Caller, malformed, noise, read, request

ACME = "ACME_PRD"
OPERATOR, READER = "operator-" + "o" * 24, "reader-" + "r" * 24
TREASURE = "TREASURE-4711"
"""In the id, the reason and the document of a parked message."""

READS = (
    "/",
    "/tenants/ACME_PRD",
    "/messages",
    f"/message?tenant={ACME}&id={TREASURE}",
    "/audit",
    "/audit/1",
    "/activity",
    "/activity/ACME_PRD?range=day",
    "/events",
    "/healthz",
    "/metrics",
)
WRITES = (
    "/tenants/ACME_PRD/pause",
    "/tenants/ACME_PRD/resume",
    "/tenants/ACME_PRD/ask",
    "/messages/preview",
    "/messages/decide",
    "/message/document",
    "/audit/1/cancel",
    "/audit/1/go-on",
    "/logout",
)
FORM = {"what": "drop", "tenant": ACME, "state": "parked", "id": TREASURE, "reason": ""}
DECISION = {**FORM, "moment": '{"upto": 99999, "at": "2999-01-01T00:00:00+00:00"}', "reason_given": "mine"}


@dataclass
class House:
    """A relay with something to take from it. `tried`: how many hostile requests were made."""

    station: Station
    relay: RelayProcess
    host: str
    port: int
    tried: list[int] = field(default_factory=lambda: [0])

    def caller(self, number: int = 1) -> Caller:
        """One at 127.0.0.`number`."""
        return Caller(self.host, self.port, f"127.0.0.{number}")

    async def kept_out(self, answer: Awaitable[Answer], *statuses: int | None) -> Answer:
        """One hostile request: it has such an answer, and takes nothing with it."""
        self.tried[0] += 1
        status, text = await answer
        assert status in statuses, text[:600]
        assert TREASURE not in re.sub(r"^Location: /login\?to=\S*", "", text, flags=re.MULTILINE)
        return status, text

    def nothing_happened(self) -> None:
        """No action is in the audit besides logins, and the treasure lies where it was."""
        application = self.station.application
        logins = "('sign-in', 'sign-out', 'refused')"
        assert application.ask(f"SELECT * FROM relay_audit WHERE what NOT IN {logins}") == []
        assert application.row(TREASURE)["state"] == "parked"


Open = Callable[..., Awaitable[House]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox([SandboxTenant(ACME, "lid://acme.orders.1", [ORDER], auth="oauth2")]) as started:
        yield started


@pytest.fixture
async def station(sandbox: Sandbox, tmp_path: Path) -> Station:
    (tmp_path / "operator").write_text(OPERATOR)
    (tmp_path / "reader").write_text(READER)
    built = Station(tmp_path, {"RELAY_WEB__LISTEN": "127.0.0.1:0"})
    built.environment |= sandbox.environment(tmp_path)
    sandbox.faults(call="post", status=400, text=TREASURE, error=TREASURE)
    built.application.insert(ACME, TREASURE, message_id=TREASURE)
    return built


async def keep_house(station: Station, environment: dict[str, str]) -> AsyncIterator[House]:
    """A relay that carries messages all the while; it has carried all of them at the end, and is ready."""
    async with station.relay(environment=environment) as relay:
        opened = await station.event(relay, "web.opened")
        host, _, port = opened["address"].rpartition(":")
        house = House(station, relay, host, int(port))
        await station.event(relay, "message.parked")
        feeder = asyncio.create_task(_feed(station))
        yield house
        await station.until(lambda: station.application.delivered() >= 5, "messages carried meanwhile")
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)
        await station.until(lambda: "pending" not in station.application.states(), "everything delivered")
        status, _ = await house.caller().ask("GET", "/readyz")
        assert status == 200
        assert "Traceback" not in relay.text


async def _feed(station: Station) -> None:
    while True:
        station.application.insert(ACME)
        await asyncio.sleep(0.05)


@pytest.fixture
async def guarded(station: Station) -> AsyncIterator[House]:
    """A relay with tokens."""
    files = {"TOKEN_FILE": "operator", "READ_TOKEN_FILE": "reader"}
    environment = {f"RELAY_WEB__{name}": str(station.folder / file) for name, file in files.items()}
    async for house in keep_house(station, environment):
        yield house


@pytest.fixture
async def unguarded(station: Station) -> AsyncIterator[House]:
    """A relay that only this machine reaches, without tokens."""
    async for house in keep_house(station, {}):
        yield house


def guesses() -> Sequence[str]:
    """Tokens that are none."""
    near = [
        OPERATOR[:-1],
        OPERATOR + "x",
        OPERATOR.upper(),
        OPERATOR[::-1],
        READER[:-1] + "s",
        "*",
        "null",
        "0",
    ]
    return [*near, "operator", "' OR 1=1 --", "a" * 4000, "%00", "\udcff\udcfe", *map(str, range(1000, 1006))]


async def test_without_the_token_nobody_comes_in(guarded: House) -> None:
    """Wrong tokens, forged cookies, every page and action, ways round the door, and other methods."""
    away = (303, 401, 403, 404, 405)
    for number, token in enumerate(guesses()):
        ask = guarded.caller(20 + number // 10).ask("GET", "/healthz", Authorization=f"Bearer {token}")
        await guarded.kept_out(ask, 401)
    for number, token in enumerate(guesses()):
        form = {"token": token.encode(errors="replace").decode()}
        await guarded.kept_out(guarded.caller(30 + number // 10).post("/login", form), 403)
    for cookie in ("", "x", OPERATOR, "a" * 4000, "../../etc/passwd", '"\\000"', "%00", "null", "[]"):
        await guarded.kept_out(
            guarded.caller().ask("GET", "/messages", Cookie=f"relay_session={cookie}"), *away
        )
    for path in READS:
        await guarded.kept_out(guarded.caller().ask("GET", path), *away)
        await guarded.kept_out(guarded.caller().ask("HEAD", path), *away)
    for path in WRITES:
        await guarded.kept_out(guarded.caller().post(path, DECISION), *away)
        await guarded.kept_out(guarded.caller().ask("GET", path), *away)
    for path in PATHS:
        await guarded.kept_out(guarded.caller().ask("GET", path), 400, *away)
    for method in (
        "PUT",
        "DELETE",
        "PATCH",
        "TRACE",
        "OPTIONS",
        "PROPFIND",
        "get",
        "CONNECT",
        "G ET",
        "POST",
    ):
        await guarded.kept_out(guarded.caller().ask(method, "/messages"), 400, *away)
    for name in (
        "X_HTTP_Method_Override",
        "X_Forwarded_For",
        "X_Original_URL",
        "X_Rewrite_URL",
        "X_Remote_User",
    ):
        ask = guarded.caller().ask("POST", "/messages", b"", **{name: "/messages"})
        await guarded.kept_out(ask, *away)
    guarded.nothing_happened()
    assert guarded.tried[0] >= 100


async def test_who_guesses_too_often_is_told_to_wait_and_the_right_token_is_let_in(guarded: House) -> None:
    """Twenty guesses a minute, then 429: also of a proxy's address, behind which Prometheus has the right one."""
    guesser = guarded.caller(9)
    for number in range(20):
        ask = guesser.ask("GET", "/healthz", Authorization=f"Bearer guess-{number}")
        await guarded.kept_out(ask, 401, 429)
    for number in range(5):
        ask = guesser.ask("GET", "/healthz", Authorization=f"Bearer another-{number}")
        _, text = await guarded.kept_out(ask, 429)
        assert "retry-after" in text.lower()
        _, text = await guarded.kept_out(guesser.post("/login", {"token": f"another-{number}"}), 429)
        assert "retry-after" in text.lower()
        assert (await guesser.ask("GET", "/healthz", Authorization=f"Bearer {READER}"))[0] == 200
        assert (await guesser.ask("GET", "/metrics", Authorization=f"Bearer {OPERATOR}"))[0] == 200
        assert (await guesser.post("/login", {"token": OPERATOR}))[0] == 303
    guarded.nothing_happened()
    opened = [line for line in guarded.relay.said("incident.opened") if line["kind"] == "login"]
    assert len(opened) == 1
    assert "a token from 127.0.0.9 was refused" in opened[0]["detail"]
    assert opened[0]["code"] == "RELAY-119"
    assert len(guarded.relay.said("session.opened")) == 5


async def test_a_login_of_another_site_is_refused(guarded: House) -> None:
    """Who is signed in by somebody else would act under that one's name."""
    for headers in FOREIGN:
        await guarded.kept_out(guarded.caller().post("/login", {"token": OPERATOR}, **headers), 403)
    assert guarded.relay.said("session.opened") == []


@pytest.mark.parametrize(
    ("wanted", "to"),
    [
        ("/audit", "/audit"),
        (f"/messages?tenant={ACME}&state=parked", f"/messages?tenant={ACME}&state=parked"),
        ("//evil.example/x", "/"),
        ("/\\evil.example", "/"),
        ("/%0d%0aSet-Cookie:x", "/%0d%0aSet-Cookie:x"),
        ("https://evil.example", "/"),
        ("/login?to=/login", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nX: y", "/"),
    ],
)
async def test_a_login_leads_to_the_page_that_was_wanted_and_to_no_other_site(
    guarded: House, wanted: str, to: str
) -> None:
    if wanted == to and "%" not in wanted:
        _, text = await guarded.caller().ask("GET", wanted)
        location = re.search(r"^Location: (\S+)", text, re.MULTILINE)
        assert location is not None
        assert parse_qs(urlsplit(location[1]).query) == {"to": [wanted]}
    status, text = await guarded.caller().post(f"/login?to={quote(wanted, safe='')}", {"token": OPERATOR})
    assert status == 303
    assert f"Location: {to}\r\n" in text


async def test_sessions_and_updates_end_with_the_token_and_with_the_sign_out(guarded: House) -> None:
    caller = guarded.caller()
    cookie, mark = await come_in(caller, OPERATOR)
    reader, writer = await caller.connect()
    writer.write(f"GET /events HTTP/1.1\r\nHost: {caller.at}\r\nCookie: {cookie}\r\n\r\n".encode())
    await reader.readuntil(b"data:")
    assert (await caller.post("/logout", {"mark": mark}, Cookie=cookie))[0] == 303
    async with asyncio.timeout(10):
        await reader.readuntil(b"\r\n0\r\n\r\n")  # the end of the stream
    writer.close()
    kept, _ = await come_in(caller, READER)
    gone, _ = await come_in(caller, OPERATOR)
    new = "another-" + "n" * 30
    (guarded.station.folder / "operator").write_text(new)
    await caller.until(303, "/audit", Cookie=gone)
    assert (await caller.ask("GET", "/audit", Cookie=kept))[0] == 200
    assert (await caller.ask("GET", "/healthz", Authorization=f"Bearer {OPERATOR}"))[0] == 401
    assert (await caller.ask("GET", "/healthz", Authorization=f"Bearer {new}"))[0] == 200
    (guarded.station.folder / "operator").write_text("short")
    for _ in range(100):  # the file is looked at when somebody comes, at most once a second
        assert (await caller.ask("GET", "/healthz", Authorization=f"Bearer {new}"))[0] == 200
        if guarded.relay.said("settings.refused"):
            break
        await asyncio.sleep(0.1)
    (refused,) = guarded.relay.said("settings.refused")
    assert refused["setting"] == "RELAY_WEB__TOKEN_FILE"
    entries = guarded.station.application.ask("SELECT who, what FROM relay_audit ORDER BY id")
    assert [tuple(entry.values()) for entry in entries][:2] == [
        ("operator@127.0.0.1", "sign-in"),
        ("operator@127.0.0.1", "sign-out"),
    ]


async def test_one_session_has_ten_updates_at_most(unguarded: House) -> None:
    caller = unguarded.caller()
    cookie, _ = await come_in(caller)
    ask = f"GET /events HTTP/1.1\r\nHost: {caller.at}\r\nCookie: {cookie}\r\n\r\n".encode()
    streams = []
    for _ in range(10):
        reader, writer = await caller.connect()
        writer.write(ask)
        await reader.readuntil(b"data:")
        streams.append(writer)
    assert (await caller.ask("GET", "/events", Cookie=cookie))[0] == 204
    other, _ = await come_in(caller)
    reader, writer = await caller.connect()
    writer.write(ask.replace(cookie.encode(), other.encode()))
    await reader.readuntil(b"data:")
    for each in (*streams, writer):
        each.close()


async def test_programs_without_cookies_end_no_operators_session(unguarded: House) -> None:
    caller = unguarded.caller()
    cookie, mark = await come_in(caller)
    for part in range(22):
        await asyncio.gather(*(unguarded.caller(40 + part).ask("GET", "/audit") for _ in range(50)))
    form = {**DECISION, "id": "no-such-message", "mark": mark}
    assert (await caller.post("/messages/preview", form, Cookie=cookie))[0] == 200


async def test_what_is_no_request_is_turned_away(guarded: House) -> None:
    """Too large, too long, two in one, of other protocols, and with bytes changed at random."""
    refused = (303, 400, 403, 404, 405, 408, 413, 415, 431, 505, None)
    bad = [*malformed(guarded.caller().at), *noise(seed=5, number=60)]
    await asyncio.gather(*(guarded.kept_out(guarded.caller(4).send(data), *refused) for data in bad))
    guarded.nothing_happened()


async def test_a_page_of_another_name_reaches_nothing(unguarded: House) -> None:
    """DNS rebinding: the address is this machine's, the name is not."""
    for name in HOSTS:
        for path in ("/", READS[3], "/healthz", "/metrics", "/events"):
            data = request(name, "GET", path)
            await unguarded.kept_out(unguarded.caller().send(data), 400, 401, 403, 421)
    bare = b"GET /messages HTTP/1.1\r\nConnection: close\r\n\r\n"
    await unguarded.kept_out(unguarded.caller().send(bare), 400, 421)
    unguarded.nothing_happened()


async def come_in(caller: Caller, token: str | None = None) -> tuple[str, str]:
    """The cookie and the mark of a session as a browser has them."""
    if token is None:
        _, text = await caller.ask("GET", f"/tenants/{ACME}")
    else:
        _, text = await caller.post("/login", {"token": token})
    cookie = re.search(r"relay_session=([\w-]+)", text)
    assert cookie is not None
    pair = f"relay_session={cookie[1]}"
    _, text = await caller.ask("GET", f"/tenants/{ACME}", Cookie=pair)
    mark = re.search(r'name="mark" value="([\w-]+)"', text)
    return pair, mark[1] if mark else ""


FOREIGN = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
)


@pytest.mark.parametrize("token", [None, OPERATOR])
async def test_another_sites_form_does_nothing(station: Station, token: str | None) -> None:
    """Cross-site request forgery, with the operator's own cookie; without tokens and with one."""
    environment = {} if token is None else {"RELAY_WEB__TOKEN_FILE": str(station.folder / "operator")}
    async for house in keep_house(station, environment):
        caller = house.caller()
        cookie, mark = await come_in(caller, token)
        other, other_mark = await come_in(caller, token)
        assert mark
        assert other_mark not in ("", mark)
        for path in WRITES:
            for form in (DECISION, {**DECISION, "mark": ""}, {**DECISION, "mark": other_mark}):
                await house.kept_out(caller.post(path, form, Cookie=cookie), 403)
            for headers in FOREIGN:
                answer = caller.post(path, {**DECISION, "mark": mark}, Cookie=cookie, **headers)
                await house.kept_out(answer, 403)
            await house.kept_out(caller.post(f"{path}?mark={mark}", DECISION, Cookie=cookie), 403)
            body = f'{{"mark": "{mark}", "what": "drop"}}'.encode()
            for kind in ("application/json", "text/plain", "multipart/form-data; boundary=x"):
                answer = caller.ask("POST", path, body, Cookie=cookie, Content_Type=kind)
                await house.kept_out(answer, 415)
            await house.kept_out(caller.post(path, {**DECISION, "mark": mark}, Cookie=other), 403)
        house.nothing_happened()


async def test_a_reader_reads_no_document_and_changes_nothing(guarded: House) -> None:
    """With everything right but the role; to sign out is all that it allows."""
    cookie, mark = await come_in(guarded.caller(), READER)
    assert mark
    for path in WRITES:
        if path != "/logout":
            await guarded.kept_out(
                guarded.caller().post(path, {**DECISION, "mark": mark}, Cookie=cookie), 403
            )
    guarded.nothing_happened()
    assert (await guarded.caller().post("/logout", {"mark": mark}, Cookie=cookie))[0] == 303
    await guarded.kept_out(guarded.caller().ask("GET", "/audit", Cookie=cookie), 303)


CHANGES: Sequence[dict[str, str]] = (
    {"id": "\0"},
    {"tenant": "A" * 5000},
    {"tenant": "%_"},
    {"document": "' OR 1=1 --"},
    {"reason": "%" * 200},
    {"reason": "\ud800".encode("utf-16", "surrogatepass").decode("latin-1")},
    {"state": "delivered; DROP TABLE relay_outbox"},
    {"what": "delete"},
    {"what": "drop", "moment": ""},
    {"moment": "[]"},
    {"moment": '{"upto": 1e999, "at": "2026-01-01T00:00:00+00:00"}'},
    {"moment": '{"upto": 99999999999999999999999, "at": "2026-01-01T00:00:00+00:00"}'},
    {"moment": '{"upto": 5, "at": "2026-01-01"}'},
    {"moment": '{"upto": 5, "at": 5}'},
    {"moment": '{"upto": 5, "at": "0001-01-01T00:00:00+23:59"}'},
    {"moment": '{"upto": 5, "at": "9999-12-31T23:59:59-23:59"}'},
    {"moment": "[" * 20000},
)


async def test_nonsense_in_an_operators_form_breaks_nothing(unguarded: House) -> None:
    """Whatever stands in the fields: an answer, no error of the relay's own, and the treasure stays."""
    cookie, mark = await come_in(unguarded.caller())
    for change in CHANGES:
        form = {**DECISION, "id": "no-such-message", **change, "mark": mark}
        for path in ("/messages/preview", "/messages/decide", "/message/document"):
            status, text = await unguarded.caller().post(path, form, Cookie=cookie)
            assert status in (200, 303, 400, 404), f"{path} {change}: {text[:600]}"
    assert unguarded.station.application.row(TREASURE)["state"] == "parked"


ADDRESSES = (
    "/messages?tenant=%ff%fe",
    "/messages?id=%00",
    "/messages?after=-1",
    "/messages?after=%C2%B2",
    "/messages?after=9999999999999999999999",
    "/messages?id=%ed%a0%80",
    "/messages?reason=%25_%5c",
    "/message?tenant=%00&id=%00",
    "/message?id=" + "a" * 3000,
    "/audit/999999999999999999",
    "/audit/9999999999999999999",
    "/tenants/" + "A" * 3000,
    "/?all=" + "a" * 3000,
)


async def test_nonsense_in_an_address_breaks_nothing(unguarded: House) -> None:
    """An answer, and no error of the relay's own."""
    for path in ADDRESSES:
        status, text = await unguarded.caller().ask("GET", path)
        assert status in (200, 400, 404), f"{path}: {text[:600]}"


async def test_who_is_slow_keeps_no_place(guarded: House) -> None:
    """Heads and forms that never end: others are served meanwhile, and each slow one is cut off."""
    caller = guarded.caller()
    head = f"POST /login HTTP/1.1\r\nHost: {caller.at}\r\n".encode()
    body = head + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 500\r\n\r\ntoken="
    slow = [await guarded.caller(6).connect() for _ in range(60)]
    for number, (_, writer) in enumerate(slow):
        writer.write((head, body, b"", b"G")[number % 4])
    assert (await caller.ask("GET", "/livez"))[0] == 200
    assert (await caller.ask("GET", "/healthz", Authorization=f"Bearer {OPERATOR}"))[0] == 200
    ends = await asyncio.gather(*(read(reader) for reader, _ in slow))
    assert {status for status, _ in ends} <= {None, 408}
    for _, writer in slow:
        writer.close()
    guarded.nothing_happened()
