"""This file is what the operator's page shows: tenants, one tenant, messages, one message, the audit.

It reads the outbox and tells it in the words that the command line uses (`relay/reports`); nothing here
changes anything. A page is whole without JavaScript.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, get_args

import aiohttp_jinja2
import jinja2
from aiohttp import web

from relay.core.admin import Filter, MessageState
from relay.core.model import AuditId, DocumentName, MessageId, RowId, TenantId
from relay.core.ports import StoreError
from relay.reports import message as message_report
from relay.reports import tenant, times
from relay.reports.overview import Configured, TenantStatus
from relay.reports.queue_ages import age_labels
from relay.web.access_control import MARK, MAY_LEAVE, SESSION, Handler
from relay.web.delivery_rates import DeliveryRates
from relay.web.overview_cache import OverviewCache
from relay.web.relay_bridge import LoopStalledError
from relay.web.store_access import StoreAccess

TENANTS_SHOWN = 100
MESSAGES_SHOWN = 100
AUDIT_SHOWN = 200
_LONGEST_ROW = 18
"""Digits."""

_STATES: tuple[MessageState, ...] = get_args(MessageState)
_TROUBLED = ("halted", "paused", "backing-off", "unconfigured", "stopped")

Said = Callable[[TenantId], Sequence[Mapping[str, Any]]]
"""The last lines of the log about a tenant, the newest first."""


@dataclass(frozen=True, slots=True)
class Library:
    """What the pages are made from; `accepted` is asked on the relay's own loop."""

    hall: StoreAccess
    configured: Callable[[], Configured]
    accepted: Callable[[TenantId], frozenset[DocumentName] | None]
    glance: OverviewCache
    rates: DeliveryRates
    said: Said


class Pages:
    """The views."""

    def __init__(self, library: Library) -> None:
        self._of = library

    async def overview(self, request: web.Request) -> web.Response:
        """All tenants, those in trouble first."""
        seen = await self._of.glance.seen()
        ordered = seen.by_urgency
        every = "all" in request.query
        shown = ordered if every else ordered[:TENANTS_SHOWN]
        rows = [(one, self._of.rates.line(one.tenant_id)) for one in shown]
        return page(
            request,
            "overview.html",
            seen=seen,
            rows=rows,
            hidden=len(ordered) - len(shown),
            total=_total(ordered),
        )

    async def tenant(self, request: web.Request) -> web.Response:
        """One tenant, and everything that its messages wait for."""
        name = TenantId(request.match_info["tenant"].upper())
        seen = await self._of.glance.seen()
        if not seen.knows(name):
            raise web.HTTPNotFound(text=f"nothing is known of a tenant {name}")
        told = await tenant.read_tenant(await self._of.hall.store(), name, seen)
        return page(
            request,
            "tenant.html",
            told=told,
            tenant=told.tenant,
            ages=age_labels(),
            most=max((max(one.ages.counts) for one in told.documents), default=0),
            line=self._of.rates.line(name),
            said=self._of.said(name),
            accepted=await self._accepted(name),
            is_paused=seen.paused(name) is not None,
            now=seen.at,
        )

    async def _accepted(self, tenant: TenantId) -> list[DocumentName] | None:
        try:
            known = await self._of.hall.inside.ask(lambda: self._of.accepted(tenant))
        except LoopStalledError:
            return None
        return None if known is None else sorted(known)

    async def messages(self, request: web.Request) -> web.Response:
        """A list, filtered."""
        wanted = read_filter(request.query)
        if not request.query:
            wanted = replace(wanted, state="parked")
        after = _row(request.query.get("after", "0"))
        found = await (await self._of.hall.store()).find(wanted, MESSAGES_SHOWN + 1, after)
        return page(
            request,
            "messages.html",
            wanted=wanted,
            states=_STATES,
            found=found[:MESSAGES_SHOWN],
            after=after,
            is_more=len(found) > MESSAGES_SHOWN,
            query=write_filter(wanted),
        )

    async def message(self, request: web.Request) -> web.Response:
        """One message's whole story."""
        return page(request, "message.html", **await self.told(request.query))

    async def told(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """The story that a request names by its tenant and its message id."""
        store = await self._of.hall.store()
        asked, name = MessageId(str(query.get("id", ""))), TenantId(str(query.get("tenant", "")).upper())
        now = datetime.now(UTC)
        stories = await message_report.read_messages(store, asked, name, self._of.configured(), now)
        if not stories:
            raise web.HTTPNotFound(text=f"there is no message {asked} of tenant {name}")
        return {"story": stories[0], "record": stories[0].record, "now": now}

    async def audit(self, request: web.Request) -> web.Response:
        """What persons did, the newest first."""
        entries = await (await self._of.hall.store()).audit(AUDIT_SHOWN)
        return page(request, "audit.html", entries=entries)

    async def entry(self, request: web.Request) -> web.Response:
        """One of them, with its progress."""
        entry = await (await self._of.hall.store()).entry(AuditId(int(request.match_info["id"])))
        if entry is None:
            raise web.HTTPNotFound(text="there is no such entry in the audit")
        return page(request, "entry.html", entry=entry)


def _total(tenants: Sequence[TenantStatus]) -> dict[str, int]:
    counts = [one.count for one in tenants]
    return {
        state: sum(getattr(count, state) for count in counts) for state in ("pending", "delivered", "parked")
    }


# --- filters, as addresses and forms have them ----------------------------------------------------------


def read_filter(given: Mapping[str, Any]) -> Filter:
    """From an address or a form; what is empty is not asked for."""
    texts = {
        name: str(given.get(name, "")).strip() for name in ("tenant", "document", "state", "reason", "id")
    }
    return Filter(
        TenantId(texts["tenant"].upper()) if texts["tenant"] else None,
        DocumentName(texts["document"]) if texts["document"] else None,
        texts["state"] if texts["state"] in _STATES else None,
        (MessageId(texts["id"]),) if texts["id"] else (),
        texts["reason"] or None,
    )


def _row(text: str) -> RowId:
    """A place in a list, as an address has it."""
    if not text.isascii() or not text.isdigit() or len(text) > _LONGEST_ROW:
        raise web.HTTPBadRequest(text="after: a row's number is meant")
    return RowId(int(text))


def write_filter(wanted: Filter) -> dict[str, str]:
    """The same, for an address or a form."""
    given = {
        "tenant": wanted.tenant,
        "document": wanted.document,
        "state": wanted.state,
        "reason": wanted.reason,
        "id": wanted.ids[0] if wanted.ids else None,
    }
    return {name: str(value) for name, value in given.items() if value}


# --- templates --------------------------------------------------------------------------------------------


def furnish(app: web.Application) -> None:
    """Give an application its templates."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.PackageLoader("relay.web", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": times.time_since,
        "ahead": times.time_until,
        "duration": times.duration,
        "instant": times.instant,
        "number": lambda value: f"{value:,}",
    }
    environment.tests["troubled"] = lambda state: state in _TROUBLED


def page(request: web.Request, template: str, status: int = 200, **facts: object) -> web.Response:
    """A page from a template; whoever has no session yet sees one without actions."""
    session = request.get(SESSION)
    context = {
        "now": datetime.now(UTC),
        "mark_name": MARK,
        "mark": session.mark if session else "",
        "is_operator": session is not None and session.role == "operator",
        "is_inside": session is not None,
        "may_leave": request.get(MAY_LEAVE, False),
        **facts,
    }
    return aiohttp_jinja2.render_template(template, request, context, status=status)


def told(handler: Handler) -> Handler:
    """What goes wrong there, as a page."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except StoreError as error:
            return _wrong(request, 503, "The outbox does not answer", str(error))
        except web.HTTPError as error:
            return _wrong(request, error.status, error.reason, (error.text or "").strip())

    return answer


def _wrong(request: web.Request, status: int, title: str, text: str) -> web.Response:
    return page(request, "wrong.html", status, title=title, text=text)
