"""`relay check`: the outbox, every tenant's initialisation and the inbound port, step by step, with hints."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass

from relay.config.credentials import inbound_sources
from relay.config.secret_files import exposed_files
from relay.config.settings import Settings
from relay.core import answers
from relay.core.model import TenantId
from relay.core.ports import StoreError, StoreIncident
from relay.core.replies import Accepted, Answer, IonCall, Versions, describe
from relay.daemon import inbound_check
from relay.daemon.wiring import TenantProfile, open_files_problem, tenant_profiles
from relay.daemon.workers import unconfigured_hint
from relay.ion.client import IonClient
from relay.ion.network import Way
from relay.observability import error_codes
from relay.observability.open_files import RAISE_HINT, raise_limit
from relay.outbox import open_outbox, risks_of, to_come

_CONCURRENCY = 16
"""Tenants that are checked at the same time."""
_FEW_DAYS = 30
"""A server's certificate that is valid for less is a warning."""


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One check, of a tenant or (None) of the relay itself. `code`: the run book's, where it failed.

    A hint beside a success is a warning.
    """

    tenant: TenantId | None
    what: str
    ok: bool
    detail: str
    hint: str = ""
    code: str | None = None


async def check(settings: Settings) -> list[CheckStep]:
    """Check all that must work before a message can be delivered; nothing is sent or changed."""
    gate = asyncio.Semaphore(_CONCURRENCY)

    async def initialise(tenant: TenantId, profile: TenantProfile) -> list[CheckStep]:
        async with gate:
            return await _initialisation(tenant, profile)

    raise_limit()  # as `relay run` does
    profiles = tenant_profiles(settings)
    outbox = await _outbox(settings)
    bounded = open_files_problem(settings)
    files = (
        [] if bounded is None else [CheckStep(None, "open files", ok=True, detail=bounded, hint=RAISE_HINT)]
    )
    tenants = await asyncio.gather(*(initialise(tenant, profile) for tenant, profile in profiles.items()))
    return [
        *outbox,
        *await _endangered(settings),
        *_exposed(settings),
        *files,
        *(step for steps in tenants for step in steps),
        *await _inbound(settings),
    ]


async def _inbound(settings: Settings) -> list[CheckStep]:
    """Call the inbound port as ION would, for each tenant with an inbound key."""
    if settings.inbound.listen == "off":
        return []
    steps = []
    for tenant, source in inbound_sources(settings).items():
        problem = await inbound_check.ping(settings, tenant, source)
        hint = (
            "" if problem is None else "start the relay, or correct RELAY_INBOUND__… and the proxy before it"
        )
        steps.append(CheckStep(tenant, "inbound", problem is None, problem or "answers as ION expects", hint))
    return steps


async def _outbox(settings: Settings) -> list[CheckStep]:
    at = settings.outbox
    try:
        coming = await asyncio.to_thread(to_come, at.location)
        if coming is not None:
            return [CheckStep(None, "outbox", ok=True, detail=f"{at.place} {coming}")]
        outbox = await open_outbox(at.location, create=False, notify=False, reading=True)
    except StoreError as error:
        return [_no_outbox(error)]
    try:
        pending, incidents = (await outbox.notification()).pending, await outbox.incidents()
    except StoreError as error:
        return [_no_outbox(error)]
    finally:
        await outbox.close()
    return [_configured(settings, pending), *map(_incident, incidents)]


def _configured(settings: Settings, pending: Set[TenantId]) -> CheckStep:
    """The outbox can be used; whether all of its messages have a configured tenant."""
    unknown = sorted(name for name in pending - settings.tenants.keys() if settings.owns(name))
    if unknown:
        hint = unconfigured_hint(unknown[0])
        detail = f"messages wait for tenants that are not configured: {', '.join(unknown)}"
        return CheckStep(
            None, "outbox", ok=False, detail=detail, hint=hint, code=error_codes.UNCONFIGURED.code
        )
    return CheckStep(None, "outbox", ok=True, detail=settings.outbox.place)


def _incident(found: StoreIncident) -> CheckStep:
    code = error_codes.of_kind(found.kind)
    return CheckStep(None, "outbox", ok=found.is_warning, detail=found.detail, hint=found.hint, code=code)


async def _endangered(settings: Settings) -> list[CheckStep]:
    """What may damage or lose the outbox where it is: a warning each."""
    try:
        found = await asyncio.to_thread(risks_of, settings.outbox.location)
    except StoreError:  # reported by the step before
        return []
    code = error_codes.ENDANGERED.code
    return [
        CheckStep(None, "outbox", ok=True, detail=f"{one.field} {one.what}", hint=one.hint, code=code)
        for one in found
    ]


def _exposed(settings: Settings) -> list[CheckStep]:
    """Files with secrets that others may read: a warning each."""
    code = error_codes.EXPOSED.code
    return [
        CheckStep(None, "secrets", ok=True, detail=f"{one.field} {one.what}", hint=one.hint, code=code)
        for one in exposed_files(settings, os.environ)
    ]


def _no_outbox(error: StoreError) -> CheckStep:
    hint = "correct the cause, then check again"
    return CheckStep(None, "outbox", ok=False, detail=str(error), hint=hint, code=error_codes.OUTBOX.code)


async def _initialisation(tenant: TenantId, profile: TenantProfile) -> list[CheckStep]:
    ion = IonClient(profile.connection)
    skipped = profile.connection.skipped
    calls: list[tuple[IonCall, Callable[[], Awaitable[Answer]]]] = [
        ("ping", ion.ping),
        ("versions", ion.versions),
        ("acceptedDocuments", ion.accepted_documents),
    ]
    steps: list[CheckStep] = []
    try:
        for what, call in calls:
            answer = await call()
            steps.append((_skipped if what in skipped else _step)(tenant, what, answer))
            if what == "ping":
                steps += [_way(tenant, way) for way in ion.ways() if way.tls or way.proxy]
            if not answers.is_fine(answer) and answers.row_of_get(answer) is not answers.UNEXPECTED:
                break
    finally:
        await ion.close()
    return steps


def _way(tenant: TenantId, way: Way) -> CheckStep:
    """How a server was reached; a warning where its certificate ends soon."""
    words = list(way.words())
    hint = ""
    if way.expires is not None:
        days = int((way.expires - time.time()) // 86_400)
        words.append(f"valid for {days} more days")
        hint = "" if days >= _FEW_DAYS else "have the server's certificate renewed: without, nothing is sent"
    code = error_codes.CERTIFICATE.code if hint else None
    return CheckStep(tenant, "connection", ok=True, detail=", ".join(words), hint=hint, code=code)


_LOST = {
    "ping": "without it only posts show that ION fails, and each attempt is one",
    "versions": "without it an ION that has no IMS v3 is not noticed before a post",
    "acceptedDocuments": "without it a document that is not on the connection point is posted, and refused",
}
_WRAPPER = "a wrapper suite that does not forward this call is named by SKIPPED_CALLS"


def _skipped(tenant: TenantId, what: IonCall, answer: Answer) -> CheckStep:
    """A call that is not made: a warning, with what is lost by that."""
    if not answers.is_fine(answer):
        return _step(tenant, what, answer)
    detail = "skipped (SKIPPED_CALLS)"
    if isinstance(answer, Accepted):
        detail += f": {', '.join(sorted(answer.documents))}"
    return CheckStep(tenant, what, ok=True, detail=detail, hint=_LOST[what])


def _step(tenant: TenantId, what: IonCall, answer: Answer) -> CheckStep:
    row = answers.row_of_get(answer)
    detail = describe(answer)
    if isinstance(answer, Accepted):
        detail = ", ".join(sorted(answer.documents))
        detail += f" ({answer.ignored} invalid names ignored)" if answer.ignored else ""
        if not answer.documents:
            hint = "add the documents to the connection point in ION Desk (sent by the application)"
            detail, code = "no document is accepted", error_codes.NOT_ACCEPTED.code
            return CheckStep(tenant, what, ok=False, detail=detail, hint=hint, code=code)
    fine = answers.is_fine(answer)
    if isinstance(answer, Versions) and fine:
        detail = ", ".join(answer.supported)
    if fine:
        return CheckStep(tenant, what, ok=True, detail=detail)
    hint = answers.hint_for(row, what)
    hint += f"; {_WRAPPER}" if row is answers.UNEXPECTED else ""
    return CheckStep(tenant, what, ok=False, detail=detail, hint=hint, code=error_codes.of_kind(row.name))
