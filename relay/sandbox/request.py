"""One request to the simulator, from its first byte to the last byte of its response."""

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from aiohttp import web

from relay.sandbox.conformance import Outcome, Step
from relay.sandbox.fault_spec import FaultSpec
from relay.sandbox.faults import Injection
from relay.sandbox.message_checks import ReceivedMessage, read_message
from relay.sandbox.raw_answers import read_paced
from relay.sandbox.record import Request, TakenMessage
from relay.sandbox.responses import (
    Refusal,
    Response,
    cut,
    fail,
    fail_oauth,
    respond_with_fault,
    send,
    spoil,
)
from relay.sandbox.routes import Route, find_route
from relay.sandbox.state import SimulatorState
from relay.sandbox.tenants import SandboxTenant

_ROOM_FOR_PARAMETERS = 1024 * 1024
_FORM_CALLS = frozenset({"token", "revoke"})


async def serve(ion: SimulatorState, http: web.BaseRequest) -> web.StreamResponse:
    """Respond to one request to IMS or to the token service."""
    began = time.monotonic()
    ion.change_tenants(began)
    route = find_route(http.method, http.raw_path)
    entry = ion.record.open(route.call, http.method, http.raw_path[:300], time.time(), began)
    handler = RequestHandler(ion, http, route, entry)
    try:
        return await handler.run()
    except ConnectionError:
        handler.record_break("the client went away")
        return cut(http)
    except asyncio.CancelledError:
        handler.record_break("the client went away, or the simulator stopped")
        raise
    finally:
        ion.notify()


class RequestHandler:
    """Handles one request. Conformance checker and record are up to date before the response is sent."""

    def __init__(self, ion: SimulatorState, http: web.BaseRequest, route: Route, entry: Request) -> None:
        self._ion, self._http, self._route, self._entry = ion, http, route, entry
        self._tenant: SandboxTenant | None = None
        self._step: Step | None = None
        self._taken: TakenMessage | None = None
        self._injection = Injection()
        self._ended = False

    async def run(self) -> web.StreamResponse:
        """Read the request, apply faults, respond."""
        refusal, injection = self._authenticate(), self._injection
        if refusal is None:
            self._inject_faults(None)
        is_early = injection.answer is not None and injection.answer.early
        body = b"" if is_early else await self._read()
        message = ReceivedMessage() if is_early else self._read_message(body)
        self._check_conformance(message)
        if refusal is None and not is_early:
            self._inject_faults(message)
        if injection.delay:
            await self._ion.delay(injection.delay)
        spec = injection.answer
        if spec is not None and spec.cut == "before":
            self.record_break("cut before acceptance, by a fault")
            return cut(self._http)
        response = self._refuse(refusal) if refusal else self._respond(spec, message, body)
        if injection.late:
            await self._ion.delay(injection.late)
        if spec is not None and spec.cut == "after":
            self.record_break("cut after acceptance, by a fault")
            return cut(self._http)
        response = self._apply_clock(response, spec)
        self._record_response(response, None if spec is None else spec.find_spoilt(self._route.call))
        return await send(self._http, response, spec, self._ion.delay)

    def _apply_clock(self, response: Response, spec: FaultSpec | None) -> Response:
        """The response as the fault spoils it, with the time of the tenant's ION."""
        clock = 0.0 if self._tenant is None else self._tenant.clock
        now = datetime.now(UTC) + timedelta(seconds=clock)
        if spec is not None:
            response = spoil(response, spec, self._route.call, now)
        if clock:
            date = {"Date": format_datetime(now, usegmt=True)}
            response = replace(response, headers=response.headers | date)
        return response

    # --- reading ---------------------------------------------------------------------------------

    async def _read(self) -> bytes | None:
        """The body, or None where it is larger than any request may be."""
        http, most = self._http, self._ion.max_message_bytes + _ROOM_FOR_PARAMETERS
        if (http.content_length or 0) > most:
            return None
        if http.headers.get("Expect", "").lower() == "100-continue":
            await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            http.writer.output_size = 0  # or the response's own headers would count as sent
        chunks, size = [], 0
        rate = self._injection.read_rate
        async for chunk in (
            http.content.iter_any() if rate is None else read_paced(http, rate, self._ion.delay)
        ):
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                return None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _authenticate(self) -> Refusal | None:
        """Find the tenant; why the request is refused, or None."""
        route, ion = self._route, self._ion
        if route.call in _FORM_CALLS or route.refusal is not None:
            self._tenant = ion.tenants.get(route.tenant_id or "")
            refusal = route.refusal
        else:
            headers = self._http.headers
            url = f"{ion.scheme}://{headers.get('Host', '')}{self._http.raw_path}"
            self._tenant, refusal = ion.authenticator.authenticate(
                route, url, headers.get("Authorization"), time.monotonic(), time.time()
            )
        if self._tenant is not None:
            self._entry.tenant_id = self._tenant.tenant_id
        return refusal

    def _read_message(self, body: bytes | None) -> ReceivedMessage:
        if self._route.call != "post" or self._route.refusal is not None:
            return ReceivedMessage()
        if body is None:
            return ReceivedMessage(refusal=Refusal(413, 413, "the request is larger than the limit"))
        headers = self._http.headers
        message = read_message(headers.get("Content-Type", ""), body, self._ion.max_message_bytes)
        self._entry.message_id = message.message_id
        self._entry.traceparent = headers.get("traceparent")
        return message

    def _check_conformance(self, message: ReceivedMessage) -> None:
        if self._tenant is None or self._tenant.wrapper:  # without the calls there is no sequence to check
            return
        entry, transport = self._entry, self._http.transport
        self._step = Step(
            self._tenant.tenant_id,
            self._route.call,
            entry.number,
            entry.began,
            entry.at,
            transport.get_extra_info("peername") if transport is not None else None,
            message.message_id,
            message.document_name,
        )
        if self._route.call == "post":
            self._ion.conformance.post_began(self._step)

    def _inject_faults(self, message: ReceivedMessage | None) -> None:
        """Apply faults: with None those that begin before the body is read, then the others."""
        if self._tenant is None:
            return

        def contains(text: str) -> bool:
            assert message is not None
            parameters = json.dumps(message.parameters, ensure_ascii=False)
            return text.encode() in message.document or text in parameters

        now = time.monotonic()
        added = self._ion.faults.inject(
            self._injection, self._tenant, self._route.call, None if message is None else contains, now
        )
        for fault in added:
            if fault.spec.changes:
                self._ion.change(fault.spec, now)
        self._entry.faults = tuple(fault.id for fault in self._injection.faults)

    # --- responding ------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> Response:
        if refusal.status == 405:
            return fail(refusal, {"Allow": "POST" if self._route.call in {"post", *_FORM_CALLS} else "GET"})
        if refusal.status == 401:
            return fail(refusal, {"WWW-Authenticate": 'Bearer realm="sandbox", OAuth realm="sandbox"'})
        return fail(refusal)

    def _respond(self, spec: FaultSpec | None, message: ReceivedMessage, body: bytes | None) -> Response:
        faulty = respond_with_fault(spec, self._route.call) if spec is not None else None
        if (
            spec is not None
            and faulty is not None
            and not (spec.taken or (faulty.status < 300 and not spec.refuses))
        ):
            return faulty
        normal = self._respond_normally(message, body or b"")
        if faulty is None or normal.status >= 300:
            return normal
        if self._route.call == "post" or not faulty.body:
            return faulty
        return replace(normal, status=faulty.status)

    def _respond_normally(self, message: ReceivedMessage, body: bytes) -> Response:
        """The response of normal operation; takes the message."""
        ion, tenant, headers = self._ion, self._tenant, self._http.headers
        if tenant is None:
            return fail_oauth(401, "invalid_client", "the tenant is not known")
        match self._route.call:
            case "post":
                return self._take(tenant, message)
            case "token":
                return ion.tokens.token(tenant, headers, body, time.monotonic())
            case "revoke":
                return ion.tokens.revocation(tenant, headers, body)
            case _:
                return ion.ims_api.get(self._route, tenant, headers)

    def _take(self, tenant: SandboxTenant, message: ReceivedMessage) -> Response:
        if refusal := self._ion.ims_api.check(tenant, self._http.headers, message):
            return fail(refusal)
        response, self._taken = self._ion.ims_api.take(tenant, message, time.time())
        self._ion.notify()
        if self._taken.changed and self._step is not None:
            self._ion.conformance.message_id_reused(self._step)
        return response

    # --- recording -------------------------------------------------------------------------------

    def _record_response(self, response: Response, spoilt: str | None) -> None:
        entry = self._entry
        entry.status, entry.code, entry.why = response.status, response.code, response.why
        if self._taken is not None:
            self._taken.outcome = f"answered {response.status}" + (f" with a body {spoilt}" if spoilt else "")
        self._record_end(self._classify(response.status, spoilt), response.status)

    def record_break(self, why: str) -> None:
        """Record that no response was sent, or not the whole of it."""
        if self._ended and self._route.call != "post":
            return
        self._entry.why = why
        if self._taken is not None:
            self._taken.outcome = why
        self._record_end("failed", 0)

    def _classify(self, status: int, spoilt: str | None) -> Outcome:
        call = self._route.call
        if not 200 <= status < 300:
            return "failed"
        if spoilt is not None:
            if call == "post":
                return "unsure"
            return "fine" if call == "ping" and spoilt != "truncated" else "failed"
        if call == "versions" and self._tenant is not None and "v3" not in self._tenant.versions:
            return "unsure"
        return "fine"

    def _record_end(self, outcome: Outcome, status: int) -> None:
        now = time.monotonic()
        if not self._ended:
            self._ended = True
            self._ion.record.close(self._entry, now)
        if self._step is None or self._tenant is None:
            return
        is_list = self._route.call == "acceptedDocuments" and outcome == "fine"
        listed = self._tenant.accepted if is_list else None
        self._ion.conformance.call_ended(self._step, outcome, status, now, listed)
