"""This file is one request from its first byte to the last of its answer."""

import asyncio
import json
import time
from dataclasses import replace

from aiohttp import web

from relay.sandbox.conformance import Outcome, Step
from relay.sandbox.fault_fields import FaultSpec
from relay.sandbox.fault_responses import cut, ordered, send, spoilt
from relay.sandbox.faults import CALM, Injection
from relay.sandbox.message_checks import ReceivedMessage, examine
from relay.sandbox.record import Request, Taken
from relay.sandbox.responses import Refusal, Reply, fail, oauth_error
from relay.sandbox.routes import Route, find
from relay.sandbox.state import SimulatorState
from relay.sandbox.tenants import SandboxTenant

_ROOM_FOR_PARAMETERS = 1024 * 1024
_FORM_CALLS = frozenset({"token", "revoke"})


async def serve(ion: SimulatorState, http: web.BaseRequest) -> web.StreamResponse:
    """Answer one request to IMS or to the token service."""
    began = time.monotonic()
    ion.change_tenants(began)
    route = find(http.method, http.raw_path)
    entry = ion.record.open(route.call, http.method, http.raw_path[:300], time.time(), began)
    exchange = PostExchange(ion, http, route, entry)
    try:
        return await exchange.run()
    except ConnectionError:
        exchange.broken("the client went away")
        return cut(http)
    except asyncio.CancelledError:
        exchange.broken("the client went away, or the sandbox stopped")
        raise
    finally:
        ion.news()


class PostExchange:
    """One request. `run` is its way; what the judge and the record learn is said before the answer leaves."""

    def __init__(self, ion: SimulatorState, http: web.BaseRequest, route: Route, entry: Request) -> None:
        self._ion, self._http, self._route, self._entry = ion, http, route, entry
        self._tenant: SandboxTenant | None = None
        self._step: Step | None = None
        self._taken: Taken | None = None
        self._ended = False

    async def run(self) -> web.StreamResponse:
        """From the request to its answer."""
        body = await self._read()
        refusal = self._identify()
        parcel = self._parcel(body)
        self._judge_beginning(parcel)
        inject = self._faults(parcel) if refusal is None else CALM
        if inject.delay:
            await self._ion.nap(inject.delay)
        spec = inject.answer
        if spec is not None and spec.cut == "before":
            self.broken("cut before acceptance, by a fault")
            return cut(self._http)
        reply = self._refuse(refusal) if refusal else self._answer(spec, parcel, body)
        if inject.late:
            await self._ion.nap(inject.late)
        if spec is not None and spec.cut == "after":
            self.broken("cut after acceptance, by a fault")
            return cut(self._http)
        if spec is not None:
            reply = spoilt(reply, spec, self._route.call)
        self._end(reply, spec.body if spec is not None else None)
        return await send(self._http, reply, spec.body if spec is not None else None)

    # --- hearing ---------------------------------------------------------------------------------

    async def _read(self) -> bytes | None:
        """The body, or None where it is larger than anything allowed."""
        http, most = self._http, self._ion.max_message_bytes + _ROOM_FOR_PARAMETERS
        if (http.content_length or 0) > most:
            return None
        if http.headers.get("Expect", "").lower() == "100-continue":
            await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            http.writer.output_size = 0  # or the answer's own headers would count as sent
        chunks, size = [], 0
        while chunk := await http.content.readany():
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                return None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _identify(self) -> Refusal | None:
        """Find the tenant; why the request goes no further, or None."""
        route, ion = self._route, self._ion
        if route.call in _FORM_CALLS or route.refusal is not None:
            self._tenant = ion.tenants.get(route.tenant_id or "")
            refusal = route.refusal
        else:
            headers = self._http.headers
            url = f"{ion.scheme}://{headers.get('Host', '')}{self._http.raw_path}"
            self._tenant, refusal = ion.gatekeeper.principal(
                route, url, headers.get("Authorization"), time.monotonic(), time.time()
            )
        if self._tenant is not None:
            self._entry.tenant_id = self._tenant.tenant_id
        return refusal

    def _parcel(self, body: bytes | None) -> ReceivedMessage:
        if self._route.call != "post" or self._route.refusal is not None:
            return ReceivedMessage()
        if body is None:
            return ReceivedMessage(refusal=Refusal(413, 413, "the request is larger than the sandbox takes"))
        parcel = examine(self._http.headers.get("Content-Type", ""), body, self._ion.max_message_bytes)
        self._entry.message_id = parcel.message_id
        self._entry.traceparent = self._http.headers.get("traceparent")
        return parcel

    def _judge_beginning(self, parcel: ReceivedMessage) -> None:
        if self._tenant is None:
            return
        entry, transport = self._entry, self._http.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        self._step = Step(
            self._tenant.tenant_id,
            self._route.call,
            entry.number,
            entry.began,
            entry.at,
            peer,
            parcel.message_id,
            parcel.document_name,
        )
        if self._route.call == "post":
            self._ion.judge.post(self._step)

    def _faults(self, parcel: ReceivedMessage) -> Injection:
        if self._tenant is None:
            return CALM

        def contains(text: str) -> bool:
            return text.encode() in parcel.document or text in json.dumps(
                parcel.parameters, ensure_ascii=False
            )

        now = time.monotonic()
        inject = self._ion.sky.inject(self._tenant, self._route.call, contains, now)
        for rule in inject.rules:
            if rule.spec.changes:
                self._ion.change(rule.spec, now)
        self._entry.faults = inject.ids
        return inject

    # --- answering -------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> Reply:
        if refusal.status == 405:
            return fail(
                refusal, {"Allow": "POST" if self._route.call in {"post", "token", "revoke"} else "GET"}
            )
        if refusal.status == 401:
            return fail(refusal, {"WWW-Authenticate": 'Bearer realm="sandbox", OAuth realm="sandbox"'})
        return fail(refusal)

    def _answer(self, spec: FaultSpec | None, parcel: ReceivedMessage, body: bytes | None) -> Reply:
        reply = ordered(spec, self._route.call) if spec is not None else None
        if spec is not None and reply is not None and not (spec.taken or reply.status < 300):
            return reply
        fair = self._fair(parcel, body or b"")
        if reply is None or fair.status >= 300:
            return fair
        return reply if self._route.call == "post" or not reply.body else replace(fair, status=reply.status)

    def _fair(self, parcel: ReceivedMessage, body: bytes) -> Reply:
        """The answer of normal operation; takes the message."""
        ion, tenant, headers = self._ion, self._tenant, self._http.headers
        if tenant is None:
            return oauth_error(401, "invalid_client", "the tenant is not known")
        match self._route.call:
            case "post":
                return self._post(tenant, parcel)
            case "token":
                return ion.tokens.token(tenant, headers, body, time.monotonic())
            case "revoke":
                return ion.tokens.revocation(tenant, headers, body)
            case _:
                return ion.service.get(self._route, tenant, headers)

    def _post(self, tenant: SandboxTenant, parcel: ReceivedMessage) -> Reply:
        if refusal := self._ion.service.check(tenant, self._http.headers, parcel):
            return fail(refusal)
        reply, taken = self._ion.service.take(tenant, parcel, time.time())
        self._taken = taken
        self._ion.news()
        if taken.changed and self._step is not None:
            self._ion.judge.reused(self._step)
        return reply

    # --- ending ----------------------------------------------------------------------------------

    def _end(self, reply: Reply, body: str | None) -> None:
        entry = self._entry
        entry.status, entry.code, entry.why = reply.status, reply.code, reply.why
        if self._taken is not None:
            self._taken.outcome = f"answered {reply.status}" + (f" with a body {body}" if body else "")
        self._tell(self._outcome(reply.status, body), reply.status)

    def broken(self, why: str) -> None:
        """No answer, or not the whole of it."""
        if self._ended and self._route.call != "post":
            return
        self._entry.why = why
        if self._taken is not None:
            self._taken.outcome = why
        self._tell("failed", 0)

    def _outcome(self, status: int, body: str | None) -> Outcome:
        call = self._route.call
        if not 200 <= status < 300:
            return "failed"
        if body is not None:
            if call == "post":
                return "unsure"
            return "fine" if call == "ping" and body != "truncated" else "failed"
        if call == "versions" and self._tenant is not None and "v3" not in self._tenant.versions:
            return "unsure"
        return "fine"

    def _tell(self, outcome: Outcome, status: int) -> None:
        now = time.monotonic()
        if not self._ended:
            self._ended = True
            self._ion.record.close(self._entry, now)
        if self._step is None or self._tenant is None:
            return
        listed = None
        if self._route.call == "acceptedDocuments" and outcome == "fine":
            listed = self._tenant.accepted
        self._ion.judge.ended(self._step, outcome, status, now, listed)
