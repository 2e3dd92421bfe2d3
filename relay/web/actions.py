"""This file is what operators do on the page: decide about messages and tenants, and look into a document.

A decision about messages is previewed, and means what was there at the preview. It runs here in the
background, chunk by chunk; what is retried is sent by the same flight, at the same pace, as everything else.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, cast, get_args

from aiohttp import web

from relay.core.admin import Action, AuditEntry, BulkAction, Filter, Moment
from relay.core.model import AuditId, RowId, TenantId
from relay.core.ports import Store, StoreError
from relay.web.pages import Library, Pages, page, read_filter, write_filter

LARGEST_SHOWN = 256 * 1024
"""Bytes of a document that are shown."""

_LARGEST_ROW = 2**63 - 1
_UNREADABLE = "the preview cannot be read; look again"

_SAMPLE = 10
_WHATS: tuple[Action, ...] = get_args(Action)
_USUAL: Mapping[Action, str] = {"retry": "parked", "park": "pending", "drop": "parked"}
_SMALL_SECONDS = 0.5
_REST_SECONDS = 0.02
"""Between two chunks settlements come first."""


class Actions:
    """Every answer to a form leads on to a page, so that loading that again does nothing twice."""

    def __init__(self, library: Library, pages: Pages) -> None:
        self._hall, self._glance, self._pages = library.hall, library.glance, pages
        self._running: dict[AuditId, asyncio.Task[None]] = {}

    # --- tenants ------------------------------------------------------------------------------------

    async def on_tenant(self, request: web.Request) -> web.Response:
        """Pause, resume, or ask ION again now."""
        store, who = await self._hall.store(), _who(request)
        tenant = TenantId(request.match_info["tenant"].upper())
        match request.match_info["what"]:
            case "pause":
                reason = str((await request.post()).get("reason", "")).strip() or "paused on the page"
                await store.pause(tenant, reason[:500], who)
            case "resume":
                await store.resume(tenant, who)
            case _:
                await store.ask(tenant, who)
        self._glance.forget()
        raise web.HTTPSeeOther(f"/tenants/{tenant}")

    # --- messages -----------------------------------------------------------------------------------

    async def preview(self, request: web.Request) -> web.Response:
        """How many a decision would change, and which; nothing is changed yet."""
        form = await request.post()
        what, wanted = _what(form.get("what")), read_filter(form)
        if wanted == Filter():
            raise web.HTTPBadRequest(text="say which messages: by tenant, document, state or reason")
        if wanted.state is None and not wanted.ids:
            wanted = replace(wanted, state=cast("Any", _USUAL[what]))
        seen = await (await self._hall.store()).preview(what, wanted, _SAMPLE)
        assert seen.wanted.moment is not None
        moment = {"upto": seen.wanted.moment.upto, "at": seen.wanted.moment.at.isoformat()}
        fields = {**write_filter(seen.wanted), "what": what, "moment": json.dumps(moment)}
        return page(request, "preview.html", seen=seen, fields=fields)

    async def decide(self, request: web.Request) -> web.Response:
        """Do what was previewed, to the messages that were there then."""
        form = await request.post()
        wanted = replace(read_filter(form), moment=_moment(str(form.get("moment", ""))))
        reason = str(form.get("reason_given", "")).strip()[:500]
        what = _what(form.get("what"))
        order = BulkAction(what, wanted, _who(request), reason or f"{what} on the page")
        audit_id = await (await self._hall.store()).begin(order)
        self._go_on(audit_id)
        if audit_id in self._running:  # a small one is over before its page is looked at
            await asyncio.wait({self._running[audit_id]}, timeout=_SMALL_SECONDS)
        self._glance.forget()
        raise web.HTTPSeeOther(f"/audit/{audit_id}")

    async def cancel(self, request: web.Request) -> web.Response:
        """End a running decision; what is done stays done."""
        audit_id = AuditId(int(request.match_info["id"]))
        await (await self._hall.store()).cancel(audit_id, _who(request))
        raise web.HTTPSeeOther(f"/audit/{audit_id}")

    async def go_on(self, request: web.Request) -> web.Response:
        """Take up one that its process left behind."""
        audit_id = AuditId(int(request.match_info["id"]))
        self._go_on(audit_id)
        raise web.HTTPSeeOther(f"/audit/{audit_id}")

    async def show_payload(self, request: web.Request) -> web.Response:
        """A document, as far as it is shown; that it was shown is in the audit."""
        facts = await self._pages.told(await request.post())
        record, store = facts["record"], await self._hall.store()
        await store.note(_who(request), "show", record.tenant_id, f"the document of {record.message_id}")
        content = await store.payload(record.row, LARGEST_SHOWN)
        text = None if content is None else content.decode("utf-8", "replace")
        return page(request, "payload.html", record=record, text=text, most=LARGEST_SHOWN)

    # --- in the background --------------------------------------------------------------------------

    def _go_on(self, audit_id: AuditId) -> None:
        if audit_id not in self._running:
            task = self._running[audit_id] = asyncio.create_task(self._to_the_end(audit_id))
            task.add_done_callback(lambda _: self._running.pop(audit_id, None))

    async def _to_the_end(self, audit_id: AuditId) -> None:
        store: Store = await self._hall.store()
        while True:
            try:
                entry: AuditEntry = await store.advance(audit_id)
            except StoreError:  # it stays as running in the audit; the page offers to go on
                return
            if entry.outcome != "running":
                return
            await asyncio.sleep(_REST_SECONDS)

    async def stop(self, _: web.Application) -> None:
        """Leave what runs where it is."""
        for task in self._running.values():
            task.cancel()


def _what(given: object) -> Action:
    if given not in _WHATS:
        raise web.HTTPBadRequest(text="say what is to be done: retry, park or drop")
    return given


def _moment(text: str) -> Moment:
    try:
        given = json.loads(text)
        upto, at = int(given["upto"]), datetime.fromisoformat(given["at"])
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        raise web.HTTPBadRequest(text=_UNREADABLE) from None
    if not 0 <= upto <= _LARGEST_ROW or at.tzinfo is None:
        raise web.HTTPBadRequest(text=_UNREADABLE)
    return Moment(RowId(upto), at)


def _who(request: web.Request) -> str:
    return f"operator@{request.remote}"
