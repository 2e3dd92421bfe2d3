"""The operators' actions on the page: on messages and tenants, and showing a document.

A bulk action is previewed, and applies to the messages of the preview. It runs here in the background, chunk
by chunk; retried messages are sent by the same sender, at the same rate, as all others.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast, get_args

from aiohttp import web

from relay.core.admin import FIRST, Action, AuditEntry, BulkAction, Filter, Moment
from relay.core.model import AuditId, MessageId, RowId, TenantId
from relay.core.ports import Store, StoreError
from relay.web.access_control import SESSION
from relay.web.indented import indented
from relay.web.pages import Library, Pages, audit_id, page, read_filter, write_filter

MAX_SHOWN_BYTES = 256 * 1024
"""The number of bytes of a document that are shown."""

_DONE = {
    "pause": "Paused: nothing more is sent until somebody resumes the tenant.",
    "resume": "Resumed: the relay initialises the tenant and continues.",
    "ask": "ION is being asked again now. What came of it stands here within seconds.",
}
"""What a tenant's page confirms after an action."""

_LARGEST_ROW = 2**63 - 1
_UNREADABLE = "the preview cannot be read; preview it again"

_NOTHING_SELECTED = "check the boxes of messages, or filter by tenant, document, state or reason"

_SAMPLE = 10
_ACTIONS: tuple[Action, ...] = get_args(Action)
_DEFAULT_STATE: Mapping[Action, str] = {"retry": "parked", "park": "pending", "drop": "parked"}
_SMALL_SECONDS = 0.5
_PAUSE_SECONDS = 0.02
"""Between two chunks settlements have precedence."""


class Actions:
    """Every form is answered with a redirect, so that reloading a page repeats nothing."""

    def __init__(self, library: Library, pages: Pages) -> None:
        self._store, self._overviews, self._pages = library.access.store, library.overviews, pages
        self._running: dict[AuditId, asyncio.Task[None]] = {}

    # --- tenants ------------------------------------------------------------------------------------

    async def on_tenant(self, request: web.Request) -> web.Response:
        """Pause or resume the tenant, or query ION again now."""
        store, who = await self._store(), _who(request)
        tenant = TenantId(request.match_info["tenant"].upper())
        match request.match_info["what"]:
            case "pause":
                reason = str((await request.post()).get("reason", "")).strip() or "paused on the page"
                await store.pause(tenant, reason[:500], who)
            case "resume":
                await store.resume(tenant, who)
            case _:
                await store.ask(tenant, who)
        self._overviews.invalidate()
        request[SESSION].notice = _DONE[request.match_info["what"]]
        raise web.HTTPSeeOther(f"/tenants/{tenant}")

    # --- messages -----------------------------------------------------------------------------------

    async def preview(self, request: web.Request) -> web.Response:
        """The messages that an action would change; nothing is changed yet."""
        form = await request.post()
        action, store = _action(form.get("what")), await self._store()
        chosen = form.getall("chosen", [])
        wanted = await _chosen(store, chosen) if chosen else _selection(form)
        if wanted.state is None and not wanted.ids:
            wanted = replace(wanted, state=cast("Any", _DEFAULT_STATE[action]))
        preview = await store.preview(action, wanted, _SAMPLE)
        assert preview.wanted.moment is not None
        moment = {"upto": preview.wanted.moment.upto, "at": preview.wanted.moment.at.isoformat()}
        fields = {**write_filter(preview.wanted), "what": action, "moment": json.dumps(moment)}
        return page(request, "preview.html", seen=preview, fields=fields)

    async def decide(self, request: web.Request) -> web.Response:
        """Apply the action that was previewed, to the messages of the preview."""
        form = await request.post()
        wanted = replace(_selection(form), moment=_moment(str(form.get("moment", ""))))
        reason = str(form.get("reason_given", "")).strip()[:500]
        action = _action(form.get("what"))
        order = BulkAction(action, wanted, _who(request), reason or f"{action} on the page")
        entry = await (await self._store()).begin(order)
        self._run(entry)
        if entry in self._running:  # a small one has ended before its page is shown
            await asyncio.wait({self._running[entry]}, timeout=_SMALL_SECONDS)
        self._overviews.invalidate()
        raise web.HTTPSeeOther(f"/audit/{entry}")

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a running bulk action; messages already changed stay changed."""
        entry = audit_id(request)
        await (await self._store()).cancel(entry, _who(request))
        raise web.HTTPSeeOther(f"/audit/{entry}")

    async def advance(self, request: web.Request) -> web.Response:
        """Continue a bulk action whose process ended."""
        entry = audit_id(request)
        self._run(entry)
        raise web.HTTPSeeOther(f"/audit/{entry}")

    async def show_payload(self, request: web.Request) -> web.Response:
        """The first bytes of a document; showing it is recorded in the audit."""
        facts = await self._pages.read_message(await request.post())
        record, store = facts["record"], await self._store()
        await store.note(_who(request), "show", record.tenant_id, f"the document of {record.message_id}")
        content = await store.payload(record.row, MAX_SHOWN_BYTES)
        text, is_whole = _read_text(content, record.size)
        pretty = await asyncio.to_thread(indented, text) if is_whole else None
        facts = {"text": None if content is None else text, "is_whole": is_whole, "pretty": pretty}
        return page(request, "payload.html", record=record, most=MAX_SHOWN_BYTES, **facts)

    # --- in the background --------------------------------------------------------------------------

    def _run(self, entry: AuditId) -> None:
        if entry not in self._running:
            task = self._running[entry] = asyncio.create_task(self._run_to_end(entry))
            task.add_done_callback(lambda _: self._running.pop(entry, None))

    async def _run_to_end(self, entry: AuditId) -> None:
        store: Store = await self._store()
        while True:
            try:
                reached: AuditEntry = await store.advance(entry)
            except StoreError:  # it stays `running` in the audit; the page offers to continue
                return
            if reached.outcome != "running":
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    async def stop(self, _: web.Application) -> None:
        """Stop; running bulk actions can be continued later."""
        for task in self._running.values():
            task.cancel()


def _action(given: object) -> Action:
    if given not in _ACTIONS:
        raise web.HTTPBadRequest(text="choose an action: retry, park or drop")
    return given


def _selection(form: Mapping[str, Any]) -> Filter:
    """The messages that a form selects: never all of them without a filter."""
    wanted = read_filter(form)
    if wanted == Filter():
        raise web.HTTPBadRequest(text=_NOTHING_SELECTED)
    return wanted


async def _chosen(store: Store, values: Sequence[object]) -> Filter:
    """The messages whose boxes were checked, each a tenant and a message id, and no other ones."""
    pairs = [str(value).partition(" ") for value in values]
    chosen = {(TenantId(tenant.upper()), MessageId(one)) for tenant, _, one in pairs if tenant and one}
    if not chosen:
        raise web.HTTPBadRequest(text=_NOTHING_SELECTED)
    tenants, ids = {tenant for tenant, _ in chosen}, tuple(dict.fromkeys(one for _, one in sorted(chosen)))
    wanted = Filter(tenant=tenants.pop() if len(tenants) == 1 else None, ids=ids)
    found = await store.find(wanted, len(chosen) + 1, FIRST)
    for record in found:
        if (TenantId(record.tenant_id.upper()), record.message_id) not in chosen:
            other = f"{record.tenant_id} has a message {record.message_id} too"
            raise web.HTTPBadRequest(text=f"{other}: show the messages of one tenant, and choose there")
    return wanted


def _read_text(content: bytes | None, size: int) -> tuple[str, bool]:
    """A document as text, and whether that is all of it: not cut, and nothing replaced."""
    text = (content or b"").decode("utf-8", "replace")
    return text, content is not None and len(content) == size and text.encode() == content


def _moment(text: str) -> Moment:
    try:
        given = json.loads(text)
        upto, at = int(given["upto"]), datetime.fromisoformat(given["at"]).astimezone(UTC)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        raise web.HTTPBadRequest(text=_UNREADABLE) from None
    if not FIRST <= upto <= _LARGEST_ROW:
        raise web.HTTPBadRequest(text=_UNREADABLE)
    return Moment(RowId(upto), at)


def _who(request: web.Request) -> str:
    return f"operator@{request.remote}"
