"""Every row of the core table, seen from both ends: what ION is asked next, what becomes of the message.

One relay and one simulator run all the cases at once, each as a tenant of its own. A case states the faults and
the exact requests that follow from them.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import pytest_asyncio

from relay.core.retry import Schedule
from relay.sandbox import Sandbox, SandboxTenant
from tests.support.application import OutboxRow, order
from tests.support.process import RelayProcess, Station
from tests.support.sequence import OPENING, calls, said, short_pauses

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEDULE = Schedule(0.1, 0.8)
"""What `process.QUICK` sets."""

TIMEOUT = 1.5
"""Seconds after which the relay gives an answer up here."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row's promise. `faults`: rules for the tenant; `seen`: the requests, see `support/sequence.py`.

    `state`: the message's in the outbox at the end; `tenant`: the tenant's in `relay status`, and words of
    its reason; `counted`: how many attempts are counted; `lasts`: the faults do not end, `seen` is the beginning.
    """

    name: str
    seen: str
    faults: tuple[Mapping[str, Any], ...] = ()
    state: str = "delivered"
    tenant: str = "idle"
    reason: str = ""
    counted: int = 0
    lasts: bool = False
    auth: Literal["oauth1", "oauth2"] = "oauth1"
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: tuple[str, ...] = ("v1", "v2", "v3")
    accepted: tuple[str, ...] = ("Sync.SalesOrder",)


def _rule(call: str, **effects: Any) -> Mapping[str, Any]:
    return {"call": call, **effects}


# --- the opening of a cycle: ping, versions, acceptedDocuments ------------------------------------------

_BEFORE = {"ping": "", "versions": "ping ", "acceptedDocuments": "ping versions "}
_WORD = {"ping": "ping", "versions": "versions", "acceptedDocuments": "accepted"}


def opening_cases() -> Iterator[Case]:
    """The second column of the table: every answer to each of the three calls."""
    for call, before in _BEFORE.items():
        word = _WORD[call]
        for status in (302, 400, 404, 405, 406, 408, 412, 413, 415, 418, 429, 500, 502, 503, 504):
            failed = f"{before}{word}:{status}"
            yield Case(
                f"{status} to {call}: back off, try again, longer the second time",
                f"{failed} ~1 {failed} ~2 {OPENING} post",
                (_rule(call, status=status, count=2),),
            )
        for status in (401, 403):
            yield Case(
                f"{status} to {call}: stop sending until corrected",
                f"{before}{word}:{status}",
                (_rule(call, status=status, count=1),),
                state="pending",
                tenant="halted",
                reason=str(status),
            )
        for status in (429, 503):
            failed = f"{before}{word}:{status}"
            yield Case(
                f"{status} to {call} with Retry-After: at least that long",
                f"{failed} ~1s {OPENING} post",
                (_rule(call, status=status, count=1, retry_after=1),),
            )
    yield Case(
        "503 with a Retry-After that is a date: until then",
        f"ping:503 ~0.9s {OPENING} post",  # a date has whole seconds
        (_rule("ping", status=503, count=1, retry_after=2, retry_after_date=True),),
    )
    yield Case(
        "503 with nonsense for a Retry-After: the usual delay",
        f"ping:503 ~1 {OPENING} post",
        (_rule("ping", status=503, count=1, retry_after="soon"),),
    )
    yield Case(
        "ping cut on a new connection: back off",
        f"ping:0 ~1 {OPENING} post",
        (_rule("ping", cut="before", count=1),),
    )
    for call in ("versions", "acceptedDocuments"):
        before, word = _BEFORE[call], _WORD[call]
        yield Case(
            f"{call} cut on a connection that was used before: once more at once, then back off",
            f"{before}{word}:0 {word}:0 ~1 {OPENING} post",
            (_rule(call, cut="before", count=2),),
        )
        for body in ("truncated", "not-json", "not-utf8", "wrong-types", "huge", "empty", "html"):
            yield Case(
                f"{call} answered 200 with a body that is {body}: back off, take nothing from it",
                f"{before}{word} ~1 {OPENING} post",
                (_rule(call, body=body, count=1),),
            )
    yield Case(
        "ping answered 200 with an HTML page: a firewall's, back off",
        f"ping ~1 {OPENING} post",
        (_rule("ping", status=200, body="request-rejected", count=1),),
    )
    for body in ("not-json", "not-utf8", "wrong-types", "empty", "huge"):
        yield Case(
            f"ping answered 200 with a body that is {body}: its status alone counts",
            f"{OPENING} post",
            (_rule("ping", body=body),),
        )
    yield Case(
        "a ping that is never answered: given up in time, then back off",
        f"ping:0 ~1 {OPENING} post",
        (_rule("ping", delay=3600, count=1),),
    )
    yield Case(
        "versions without v3: the longest delay, said plainly",
        "ping versions ~4 ping versions",
        versions=("v1", "v2"),
        state="pending",
        tenant="backing-off",
        reason="v1, v2",
        lasts=True,
    )
    yield Case("versions beyond v3 are fine", f"{OPENING} post", versions=("v3", "v4", "v12"))


# --- a post ---------------------------------------------------------------------------------------------

PING = "ping versions"


def post_cases() -> Iterator[Case]:
    """The third and fourth columns: every answer to a post, and what becomes of its message."""
    for status in (200, 201, 202, 204):
        yield Case(
            f"{status} to a post: delivered",
            f"{OPENING} post{_told(status)}",
            (_rule("post", status=status),),
        )
    yield Case(
        "400 to a post, policy park: parked, no ping, nothing more",
        f"{OPENING} post:400",
        (_rule("post", status=400, code=453, error="the body is empty"),),
        state="parked",
        reason="",
        counted=1,
    )
    yield Case(
        "400 to a post, policy stop: the tenant is paused, the message waits",
        f"{OPENING} post:400",
        (_rule("post", status=400, code=453, error="the body is empty", count=1),),
        state="pending",
        tenant="paused",
        reason="on_rejected is stop",
        counted=1,
        settings={"ON_REJECTED": "stop"},
    )
    for code in (418, 419, 448, 456, 458, 471):
        yield Case(
            f"400 with code {code} to a post: the configuration's fault, ping after a pause",
            f"{OPENING} post:400 ~1 {PING} post:400 ~2 {PING} post",
            (_rule("post", status=400, code=code, count=2),),
        )
    yield Case(
        "401 to a post: ping at once, the second time after a pause",
        f"{OPENING} post:401 {PING} post:401 ~2 {PING} post",
        (_rule("post", status=401, count=2),),
    )
    yield Case(
        "401 to a post and then to the ping: stop sending",
        f"{OPENING} post:401 ping:401",
        (_rule("post", status=401, count=1), _rule("ping", status=401, skip=1)),
        state="pending",
        tenant="halted",
        reason="401",
    )
    yield Case(
        "403 to a post: ping after a pause, never a hot loop",
        f"{OPENING} post:403 ~1 {PING} post:403 ~2 {PING} post:403 ~3 {PING} post",
        (_rule("post", status=403, count=3),),
    )
    for status in (302, 404, 405, 406, 415, 418):
        yield Case(
            f"{status} to a post: ping after a pause, no attempt is counted",
            f"{OPENING} post:{status} ~1 {PING} post:{status} ~2 {PING} post",
            (_rule("post", status=status, count=2),),
        )
    yield Case(
        "412 to a post: initialise at once, the second time after a pause",
        f"{OPENING} post:412 {OPENING} ~1 post:412 ~2 {OPENING} ~2 post",
        (_rule("post", status=412, count=2),),
    )
    yield Case(
        "413 to a post: parked, no ping",
        f"{OPENING} post:413",
        (_rule("post", status=413),),
        state="parked",
        counted=1,
    )
    for status in (429, 503):
        yield Case(
            f"{status} to a post: ping after a pause, no attempt is counted",
            f"{OPENING} post:{status} ~1 {PING} post:{status} ~2 {PING} post",
            (_rule("post", status=status, count=2),),
        )
        yield Case(
            f"{status} to a post with Retry-After: at least that long",
            f"{OPENING} post:{status} ~1s {PING} post",
            (_rule("post", status=status, count=1, retry_after=1),),
        )
    for status in (408, 500, 501, 502, 504):
        yield Case(
            f"{status} to a post: ping after a pause, the attempt is counted",
            f"{OPENING} post:{status} ~1 {PING} post:{status} ~2 {PING} post",
            (_rule("post", status=status, count=2),),
            counted=2,
        )
    yield Case(
        "504 although the message was taken: the same id again",
        f"{OPENING} post:504 ~1 {PING} post",
        (_rule("post", status=504, taken=True, count=1),),
        counted=1,
    )
    for moment in ("before", "after"):
        yield Case(
            f"a post cut {moment} it was taken: the same id again, never without a ping",
            f"{OPENING} post:0 ~1 {PING} post",
            (_rule("post", cut=moment, count=1),),
            counted=1,
        )
    yield Case(
        "a post that is never answered: given up in time, then the same id again",
        f"{OPENING} post:0 ~1 {PING} post",
        (_rule("post", delay=3600, count=1),),
        counted=1,
    )
    yield Case(
        "a post taken and answered too late: the same id again",
        f"{OPENING} post:0 ~1 {PING} post",
        (_rule("post", late=3600, count=1),),
        counted=1,
    )
    yield Case(
        "a post answered 202 with a cut body: perhaps taken, the same id again",
        f"{OPENING} post ~1 {PING} post",
        (_rule("post", body="truncated", count=1),),
        counted=1,
    )
    for answer in ({"status": 200, "code": 540}, {"status": 202, "code": 999}):
        yield Case(
            f"{answer['status']} with FAIL and code {answer['code']} to a post: as a 500, the attempt is counted",
            f"{OPENING} {'post' if answer['status'] == 202 else 'post:200'} ~1 {PING} post",
            (_rule("post", **answer, body="fail", count=1),),
            counted=1,
        )
    for code in (450, 453):
        yield Case(
            f"202 with FAIL and code {code} to a post: parked",
            f"{OPENING} post",
            (_rule("post", status=202, code=code, error="wrong encoding", body="fail"),),
            state="parked",
            reason="",
            counted=1,
        )
    for status in (200, 202):
        yield Case(
            f"{status} with an HTML page to a post: a firewall's, the same id again",
            f"{OPENING} {'post' if status == 202 else 'post:200'} ~1 {PING} post",
            (_rule("post", status=status, body="request-rejected", count=1),),
            counted=1,
        )
    for body in ("html", "gateway-error", "gateway-fault", "not-json", "not-utf8", "wrong-types", "huge"):
        yield Case(
            f"400 with a body that is {body} to a post: a gateway's, ping after a pause",
            f"{OPENING} post:400 ~1 {PING} post:400 ~2 {PING} post",
            (_rule("post", status=400, body=body, count=2),),
        )
    for code in (450, 453, 470, 477):
        yield Case(
            f"412 with code {code} to a post: the message's fault, parked",
            f"{OPENING} post:412",
            (_rule("post", status=412, code=code, error="malformed"),),
            state="parked",
            counted=1,
        )
    for body in ("not-json", "not-utf8", "wrong-types", "huge", "empty"):
        yield Case(
            f"a post answered 202 with a body that is {body}: delivered",
            f"{OPENING} post",
            (_rule("post", body=body),),
        )
    for body in ("empty", "errors-text", "message-text"):
        yield Case(
            f"a post answered 400 with a body that is {body}: parked",
            f"{OPENING} post:400",
            (_rule("post", status=400, code=450, error="wrong encoding", body=body),),
            state="parked",
            counted=1,
        )
    yield Case(
        "post refused, then ping refused: failures in a row survive a ping that is fine",
        f"{OPENING} post:503 ~1 ping:503 ~2 {PING} post:503 ~3 {PING} post",
        (_rule("post", status=503, count=2), _rule("ping", status=503, skip=1, count=1)),
    )


def _told(status: int) -> str:
    return "" if status == 202 else f":{status}"


# --- the token service ----------------------------------------------------------------------------------


def token_cases() -> Iterator[Case]:
    """The last two rows, and a 401 where tokens exist."""
    yield Case("one token for all calls", f"token {OPENING} post", auth="oauth2")
    for status in (400, 401, 403):
        yield Case(
            f"the token service refuses with {status}: stop sending, the message waits",
            f"token:{status}",
            (_rule("token", status=status, count=1),),
            state="pending",
            tenant="halted",
            reason=str(status),
            auth="oauth2",
        )
    for status in (429, 503):
        yield Case(
            f"the token service fails with {status}: back off",
            f"token:{status} ~1 token:{status} ~2 token {OPENING} post",
            (_rule("token", status=status, count=2),),
            auth="oauth2",
        )
    yield Case(
        "the token service stumbles once: bridged at once, no incident",
        f"token:500 token {OPENING} post",
        (_rule("token", status=500, count=1),),
        auth="oauth2",
    )
    for body in ("truncated", "not-json", "not-utf8", "wrong-types", "huge", "empty", "html"):
        yield Case(
            f"a token answer whose body is {body}: no token, back off, never sent along",
            f"token ~1 token {OPENING} post",
            (_rule("token", body=body, count=1),),
            auth="oauth2",
        )
    yield Case(
        "401 to a call with a token that was held before: a fresh token once, and on",
        f"token ping versions:401 token {OPENING.split(' ', 1)[1]} post",
        (_rule("versions", status=401, count=1),),
        auth="oauth2",
    )
    yield Case(
        "401 to a call also with a fresh token: stop sending",
        "token ping versions:401 token versions:401",
        (_rule("versions", status=401, count=2),),
        state="pending",
        tenant="halted",
        reason="401",
        auth="oauth2",
    )
    yield Case(
        "tokens revoked while messages flow: post 401, ping with a fresh token, and on",
        f"token {OPENING} post:401 token {PING} post",
        (_rule("acceptedDocuments", tokens="revoke", count=1),),
        auth="oauth2",
    )
    yield Case(
        "a token that posts alone refuse, ping and versions do not notice: the same",
        f"token {OPENING} post:401 token {PING} post",
        (_rule("acceptedDocuments", tokens="revoke-for-posts", count=1),),
        auth="oauth2",
    )
    yield Case(
        "a post refused with 401 whatever the token: one fresh token, not one for each post",
        f"token {OPENING} post:401 token {PING} post:401 ~2 {PING} post:401 ~3 {PING} post",
        (_rule("post", status=401, count=3),),
        auth="oauth2",
    )
    yield Case(
        "the token service refuses with a 200: stop sending, the message waits",
        "token",
        (_rule("token", body="fail", count=1),),
        state="pending",
        tenant="halted",
        reason="invalid_grant",
        auth="oauth2",
    )
    yield Case(
        "a token answer compressed in spite of identity is read, as are all others",
        f"token {OPENING} post",
        (_rule("*", compress="gzip"),),
        auth="oauth2",
    )
    yield Case(
        "the clock of ION an hour ahead: the clock is named, and nothing halts",
        "ping:401 ~1 ping:401 ~2 ping:401",
        ({"clock": 3600.0},),
        state="pending",
        tenant="backing-off",
        reason="this machine's clock is 60 minutes behind the server's",
        lasts=True,
    )


# --- lasting faults: what `relay status` says meanwhile ----- ---------------------------------------------


def lasting_cases() -> Iterator[Case]:
    """An incident that does not end: the message waits and is never parked, the status says why."""
    for call in ("ping", "versions", "acceptedDocuments"):
        failed = f"{_BEFORE[call]}{_WORD[call]}:503"
        yield Case(
            f"503 to {call} for good: backing off, with the reason",
            f"{failed} ~1 {failed} ~2 {failed} ~3 {failed} ~4 {failed}",
            (_rule(call, status=503, error="the document flow is inactive"),),
            state="pending",
            tenant="backing-off",
            reason="the document flow is inactive",
            lasts=True,
        )
    for status, again in ((503, PING), (403, PING), (404, PING), (412, OPENING)):
        pause = "" if status == 412 else "~1 "
        yield Case(
            f"{status} to every post: pauses grow, the message waits",
            f"{OPENING} post:{status} {pause}{again} post:{status} ~2 {again} post:{status}",
            (_rule("post", status=status, error="not now"),),
            state="pending",
            tenant="backing-off",
            reason="not now",
            lasts=True,
        )
    yield Case(
        "500 to every post, pings fine, nothing else delivered: the message is never parked",
        f"{OPENING} post:500 ~1 {PING} post:500 ~2 {PING} post:500 ~3 {PING} post:500 ~4 {PING} post:500",
        (_rule("post", status=500, error="upset"),),
        state="pending",
        tenant="backing-off",
        reason="upset",
        lasts=True,
        settings={},
    )
    yield Case(
        "a document that is not accepted is not sent and not parked",
        OPENING,
        accepted=("Sync.Shipment",),
        state="pending",
        tenant="idle",
        reason="waiting to be accepted by ION: Sync.SalesOrder",
        lasts=True,
    )


CASES = [*opening_cases(), *post_cases(), *token_cases(), *lasting_cases()]


# --- the stage ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Stage:
    """All running cases: each is a tenant with one message."""

    sandbox: Sandbox
    station: Station
    relay: RelayProcess
    messages: dict[str, str]
    _seen: dict[str, Any] = field(default_factory=dict)
    _seen_at: float = 0.0

    async def status(self, tenant: str) -> Mapping[str, Any]:
        """What `relay status --json` says, asked at most once a second for all cases."""
        now = time.monotonic()
        if now - self._seen_at > 1.0:
            finished = await self.station.command("status", "--json")
            assert finished.code == 0, finished
            self._seen, self._seen_at = finished.json["tenants"], now
        found: Mapping[str, Any] = self._seen[tenant]
        return found

    async def until_status(self, tenant: str, state: str, reason: str) -> None:
        """Until the status says this state with this reason."""
        deadline = time.monotonic() + 20
        while True:
            seen = await self.status(tenant)
            if seen["state"] == state and reason in (seen["reason"] or ""):
                return
            assert time.monotonic() < deadline, self.station.report(
                f"{tenant} is not {state} ({reason}): {seen}"
            )
            await asyncio.sleep(0.1)


def _tenant_of(number: int) -> str:
    return f"CASE_{number:03}"


def _environment(sandbox: Sandbox, station: Station) -> dict[str, str]:
    variables = sandbox.environment(station.folder)
    for number, case in enumerate(CASES):
        for name, value in case.settings.items():
            variables[f"RELAY_TENANTS__{_tenant_of(number)}__{name}"] = value
    return variables


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """The relay and the simulator with all cases' tenants; the messages are enqueued while it runs."""
    tenants = [
        SandboxTenant(
            _tenant_of(number), accepted=list(case.accepted), versions=case.versions, auth=case.auth
        )
        for number, case in enumerate(CASES)
    ]
    async with Sandbox(tenants, request_limit=100_000) as sandbox:
        station = Station(tmp_path_factory.mktemp("table"))
        station.environment |= _environment(sandbox, station)
        station.environment |= {
            "RELAY_HTTP__TOTAL_SECONDS": str(TIMEOUT),
            "RELAY_HTTP__READ_SECONDS": str(TIMEOUT),
        }
        for number, case in enumerate(CASES):
            sandbox.add_faults({"tenant": _tenant_of(number), **rule} for rule in case.faults)
        async with station.relay() as relay:
            parcels = [OutboxRow(_tenant_of(number), order(number)) for number in range(len(CASES))]
            ids = station.application.insert_all(parcels)
            yield Stage(
                sandbox, station, relay, {parcel.tenant: i for parcel, i in zip(parcels, ids, strict=True)}
            )


@pytest.mark.parametrize(
    ("number", "case"), list(enumerate(CASES)), ids=[case.name.replace("/", " ") for case in CASES]
)
async def test_row(stage: Stage, number: int, case: Case) -> None:
    """The requests, the message's fate, and the tenant's state are as the row says, without a violation."""
    tenant = _tenant_of(number)
    wanted = calls(case.seen)

    def seen() -> str:
        return said(request for request in stage.sandbox.requests(tenant) if request.seconds is not None)

    await stage.station.until(
        lambda: len(seen().split()) >= len(wanted.split()),
        f"{case.name}: {wanted}",
        watched=stage.relay,
        show=seen,
    )
    row = await stage.station.until(
        lambda: _row_if(stage.station.application.row(stage.messages[tenant]), case.state),
        f"{case.name}: the message to be {case.state}",
        show=seen,
    )
    await stage.until_status(tenant, case.tenant, case.reason)

    requests = stage.sandbox.requests(tenant)[: len(wanted.split())]
    assert said(requests) == wanted
    assert case.lasts or seen() == wanted
    assert short_pauses(case.seen, requests, SCHEDULE) == []
    assert row["attempts"] >= case.counted if case.lasts else row["attempts"] == case.counted
    assert case.state != "delivered" or _arrived(stage, tenant, number)
    assert [v for v in stage.sandbox.violations if v.tenant_id == tenant] == []


def _row_if(row: Mapping[str, Any], state: str) -> Mapping[str, Any]:
    return row if row["state"] == state else {}


def _arrived(stage: Stage, tenant: str, number: int) -> bool:
    message_id = stage.messages[tenant]
    taken = stage.sandbox.record.message(tenant, message_id)
    if taken is None:  # a 2xx that the faults ordered takes no message but where it says so
        return False
    return stage.sandbox.payload(tenant, message_id) == order(number) and not taken.changed


async def test_what_was_parked_says_why(stage: Stage) -> None:
    """A parked message's reason is ION's own words, where there were any."""
    number = next(n for n, case in enumerate(CASES) if case.name.startswith("400 to a post, policy park"))
    await stage.station.until(
        lambda: stage.station.application.states(_tenant_of(number)) == {"parked": 1}, "parked"
    )
    listed = await stage.station.command(
        "messages", "list", "--tenant", _tenant_of(number), "--state", "parked", "--json"
    )
    (row,) = json.loads(listed.out)
    assert "the body is empty" in row["reason"]
    assert "453" in row["reason"]
