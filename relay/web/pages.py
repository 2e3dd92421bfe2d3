"""The views of the operator's page: tenants, one tenant, messages, one message, the audit.

They show the reports that the command line shows too (`relay/reports`), and change nothing. Pages work
without JavaScript.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, get_args

import aiohttp_jinja2
import jinja2
from aiohttp import web

from relay.core.admin import FIRST, Filter, MessageState
from relay.core.model import AuditId, DocumentName, MessageId, RowId, TenantId
from relay.core.ports import StoreError
from relay.reports import action_outcome, tenant, times
from relay.reports import message as message_report
from relay.reports.advice import advice
from relay.reports.overview import Configured, TenantStatus
from relay.reports.queue_ages import age_labels
from relay.web.access_control import MARK, MAY_LEAVE, SESSION, Handler
from relay.web.activity_views import ActivityViews
from relay.web.overview_cache import OverviewCache
from relay.web.relay_bridge import LoopStalledError
from relay.web.shown_text import exact, is_shown_exactly, visible
from relay.web.store_access import StoreAccess

TENANTS_SHOWN = 100
MESSAGES_SHOWN = 100
AUDIT_SHOWN = 200
_ROW = re.compile(r"-?[0-9]{1,19}")

_STATES: tuple[MessageState, ...] = get_args(MessageState)

RecentLines = Callable[[TenantId], Sequence[Mapping[str, Any]]]
"""The last lines of the log about a tenant, the newest first."""


@dataclass(frozen=True, slots=True)
class Library:
    """What the views read from; `accepted` is called on the relay's own loop."""

    access: StoreAccess
    configured: Callable[[], Configured]
    accepted: Callable[[TenantId], frozenset[DocumentName] | None]
    overviews: OverviewCache
    activity: ActivityViews
    recent_lines: RecentLines


class Pages:
    """The views."""

    def __init__(self, library: Library) -> None:
        self._library = library

    async def overview(self, request: web.Request) -> web.Response:
        """All tenants, the most urgent first."""
        seen = await self._library.overviews.overview()
        wanted = request.query.get("q", "").strip().upper()
        ordered = [one for one in seen.by_urgency if wanted in one.tenant_id]
        every = "all" in request.query or bool(wanted)
        shown = ordered if every else ordered[:TENANTS_SHOWN]
        lines = await self._library.activity.sparklines([one.tenant_id for one in shown])
        rows = [(one, lines.get(one.tenant_id)) for one in shown]
        return page(
            request,
            "overview.html",
            seen=seen,
            rows=rows,
            hidden=len(ordered) - len(shown),
            total=_total(seen.by_urgency),
            wanted=wanted,
            known=len(seen.by_urgency),
            view=await self._library.activity.view(request.query),
        )

    async def tenant(self, request: web.Request) -> web.Response:
        """One tenant, and all that its messages wait for."""
        name = TenantId(request.match_info["tenant"].upper())
        seen = await self._library.overviews.overview()
        if not seen.knows(name):
            near = get_close_matches(name, seen.names(), n=1)
            raise web.HTTPNotFound(
                text=f"there is no tenant {name}{f'; did you mean {near[0]}?' if near else ''}"
            )
        report = await tenant.read_tenant(await self._library.access.store(), name, seen)
        return page(
            request,
            "tenant.html",
            report=report,
            tenant=report.tenant,
            ages=age_labels(),
            most=max((max(one.ages.counts) for one in report.documents), default=0),
            view=await self._library.activity.view(request.query, name),
            log_lines=self._library.recent_lines(name),
            accepted=await self._accepted(name),
            is_paused=seen.paused(name) is not None,
            advice=advice(report.tenant),
            notice=request[SESSION].take_notice(),
            now=seen.at,
        )

    async def activity(self, request: web.Request) -> web.Response:
        """The charts alone, of a tenant or of all."""
        activity = self._library.activity
        view = await activity.view(request.query, activity.tenant_of(request))
        return page(request, "activity.html", view=view)

    async def _accepted(self, tenant: TenantId) -> list[DocumentName] | None:
        try:
            known = await self._library.access.bridge.call(lambda: self._library.accepted(tenant))
        except LoopStalledError:
            return None
        return None if known is None else sorted(known)

    async def messages(self, request: web.Request) -> web.Response:
        """A filtered list."""
        wanted = read_filter(request.query)
        wanted = replace(wanted, ids=tuple(MessageId(one.strip()) for one in wanted.ids))
        if not request.query:
            wanted = replace(wanted, state="parked")
        after = _row(request.query["after"]) if "after" in request.query else FIRST
        found = await (await self._library.access.store()).find(wanted, MESSAGES_SHOWN + 1, after)
        return page(
            request,
            "messages.html",
            wanted=wanted,
            states=_STATES,
            found=found[:MESSAGES_SHOWN],
            is_first=after == FIRST,
            is_more=len(found) > MESSAGES_SHOWN,
            query=write_filter(wanted),
        )

    async def message(self, request: web.Request) -> web.Response:
        """One message and its history."""
        return page(request, "message.html", **await self.read_message(request.query))

    async def read_message(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """The report on the message of this tenant and message id."""
        store = await self._library.access.store()
        message_id, name = MessageId(str(query.get("id", ""))), TenantId(str(query.get("tenant", "")).upper())
        now = datetime.now(UTC)
        found = await message_report.read_messages(store, message_id, name, self._library.configured(), now)
        if not found:
            raise web.HTTPNotFound(text=f"there is no message {message_id} of tenant {name}")
        return {"report": found[0], "record": found[0].record, "now": now}

    async def audit(self, request: web.Request) -> web.Response:
        """What operators did, the newest first."""
        entries = await (await self._library.access.store()).audit(AUDIT_SHOWN)
        return page(request, "audit.html", entries=entries)

    async def entry(self, request: web.Request) -> web.Response:
        """One entry of the audit, with its progress."""
        store = await self._library.access.store()
        entry = await store.entry(audit_id(request))
        if entry is None:
            raise web.HTTPNotFound(text="no such entry in the audit")
        return page(
            request, "entry.html", entry=entry, became=await action_outcome.read_outcome(store, entry)
        )


def _total(tenants: Sequence[TenantStatus]) -> dict[str, int]:
    counts = [one.count for one in tenants]
    return {
        state: sum(getattr(count, state) for count in counts) for state in ("pending", "delivered", "parked")
    }


# --- filters in query strings and forms ----------------------------------------------------------------


def read_filter(given: Mapping[str, Any]) -> Filter:
    """From a query string or a form; empty fields do not filter. Ids: one in each line, as they are."""
    texts = {name: str(given.get(name, "")).strip() for name in ("tenant", "document", "state", "reason")}
    lines = str(given.get("id", "")).replace("\r\n", "\n").split("\n")
    return Filter(
        TenantId(texts["tenant"].upper()) if texts["tenant"] else None,
        DocumentName(texts["document"]) if texts["document"] else None,
        texts["state"] if texts["state"] in _STATES else None,
        tuple(dict.fromkeys(MessageId(line) for line in lines if line.strip())),
        texts["reason"] or None,
    )


def _row(text: str) -> RowId:
    """A row number from a query string."""
    if not _ROW.fullmatch(text) or not _is_id(int(text)):
        raise web.HTTPBadRequest(text="after: use a row's number")
    return RowId(int(text))


def audit_id(request: web.Request) -> AuditId:
    """The entry of the audit that the path names."""
    number = int(request.match_info["id"])
    if not _is_id(number):
        raise web.HTTPNotFound(text="no such entry in the audit")
    return AuditId(number)


def _is_id(number: int) -> bool:
    return FIRST <= number < -FIRST


def write_filter(wanted: Filter) -> dict[str, str]:
    """For a query string or a form."""
    given = {
        "tenant": wanted.tenant,
        "document": wanted.document,
        "state": wanted.state,
        "reason": wanted.reason,
        "id": "\n".join(wanted.ids),
    }
    return {name: str(value) for name, value in given.items() if value}


# --- templates --------------------------------------------------------------------------------------------


def add_templates(app: web.Application) -> None:
    """Set up the templates of an application."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.PackageLoader("relay.web", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    environment.filters |= {
        "ago": times.time_since,
        "until": times.time_until,
        "duration": times.duration,
        "instant": times.instant,
        "number": lambda value: f"{value:,}",
        "exact": exact,
        "measured": times.measured,
        "moment": lambda seconds: times.instant(datetime.fromtimestamp(seconds, UTC)),
    }
    environment.tests["shown_exactly"] = is_shown_exactly


def page(request: web.Request, template: str, status: int = 200, **facts: object) -> web.Response:
    """A page from a template; without a session it has no actions."""
    session = request.get(SESSION)
    context = {
        "now": datetime.now(UTC),
        "mark_name": MARK,
        "mark": session.mark if session else "",
        "is_operator": session is not None and session.role == "operator",
        "is_signed_in": session is not None,
        "can_sign_out": request.get(MAY_LEAVE, False),
        **facts,
    }
    return aiohttp_jinja2.render_template(template, request, context, status=status)


def with_error_page(handler: Handler) -> Handler:
    """Show errors of the handler as a page."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except StoreError as error:
            return _error_page(request, 503, "The outbox does not answer", str(error))
        except web.HTTPError as error:
            return _error_page(request, error.status, error.reason, (error.text or "").strip())

    return answer


def _error_page(request: web.Request, status: int, title: str, text: str) -> web.Response:
    return page(request, "wrong.html", status, title=title, text=text, next=_NEXT.get(status, ""))


_NEXT = {
    400: "Nothing was changed. Go back, reload the page, and try again.",
    403: "Nothing was changed. Reload the page before you try again; another session or role may be needed.",
    404: "Check the address, or find it in the lists of tenants and messages.",
    405: "Nothing was changed. Use the buttons of the page.",
    415: "Nothing was changed. Use the buttons of the page.",
    503: "Nothing was changed as far as is known. The relay tries again automatically; reload in a moment.",
}
"""What somebody does next who sees such an answer."""


@web.middleware
async def with_own_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Of an address that is none, a page for browsers."""
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        if "text/html" not in request.headers.get("Accept", ""):
            raise
        is_unknown = isinstance(error, web.HTTPNotFound)
        text = f"there is no page {request.path[:200]}" if is_unknown else (error.text or "")
        return _error_page(request, error.status, error.reason, text)
