"""The simulator's control interface over HTTP: `/_sandbox/…` on the same port, JSON both ways."""

import json
import time
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from aiohttp import web

from relay.sandbox.activation import Application, visit
from relay.sandbox.fault_spec import FaultError
from relay.sandbox.state import SimulatorState

_PAGE = 1000


class _Shown(Protocol):
    @property
    def number(self) -> int: ...
    def as_json(self) -> dict[str, object]: ...


class _NotFoundError(Exception):
    """The requested resource does not exist; the text says what does."""


class _BadRequestError(Exception):
    """The request cannot be read; the text says why."""


def is_loopback(host: str) -> bool:
    """Whether the name or address is this machine's alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host(http: web.BaseRequest) -> str:
    """Without its port; empty where it is none."""
    try:
        return urlsplit(f"//{http.headers.get('Host', '')}").hostname or ""
    except ValueError:
        return ""


def _is_of_another_site(http: web.BaseRequest) -> bool:
    if http.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return True
    origin = http.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != http.headers.get("Host", "")


class ControlInterface:
    """Handles requests to the control interface. `local`: only this machine reaches it."""

    def __init__(self, ion: SimulatorState, *, local: bool) -> None:
        self._ion, self._local = ion, local

    async def serve(self, http: web.BaseRequest) -> web.StreamResponse:
        """Respond to one request; not to a page of another site, nor under another host's name."""
        if self._local and not is_loopback(_host(http)):
            return _json({"error": "this is not the requested host; use 127.0.0.1 or localhost"}, 421)
        if _is_of_another_site(http):
            return _json({"error": "the request came from a page of another site"}, 403)
        path = http.raw_path.partition("?")[0].removeprefix("/_sandbox").strip("/")
        segments = [unquote(segment) for segment in path.split("/")] if path else []
        self._ion.change_tenants(time.monotonic())
        try:
            return await self._route(http, segments)
        except FaultError as error:
            return _json({"error": str(error), "field": error.field}, 400)
        except _BadRequestError as error:
            return _json({"error": str(error)}, 400)
        except _NotFoundError as error:
            return _json({"error": str(error)}, 404)

    async def _route(self, http: web.BaseRequest, segments: list[str]) -> web.Response:
        match http.method, segments:
            case "GET", []:
                return _json(self._overview())
            case "GET", ["tenants"]:
                return _json({"tenants": [tenant.as_json() for tenant in self._ion.tenants]})
            case "POST", ["tenants", tenant_id, "activate"]:
                return await self._activate(http, tenant_id)
            case "GET", ["faults"]:
                return self._list_faults()
            case "POST", ["faults"]:
                return await self._add_faults(http)
            case "DELETE", ["faults"]:
                self._ion.faults.clear()
                return self._list_faults()
            case "DELETE", ["faults", fault_id]:
                if not self._ion.faults.remove(fault_id):
                    raise _NotFoundError(f"there is no fault {fault_id}")
                return self._list_faults()
            case "GET", ["record", *rest]:
                return self._record(http, rest)
            case "DELETE", ["record"]:
                self._ion.record.clear()
                self._ion.conformance.clear()
                return _json(self._overview())
            case "GET", ["requests"]:
                found = self._ion.record.find_requests(_tenant(http), http.query.get("call"))
                return _page(http, "requests", found)
            case "GET", ["violations"]:
                return self._violations(http)
            case _:
                raise _NotFoundError("use /_sandbox/ with tenants, faults, record, requests or violations")

    # --- resources -------------------------------------------------------------------------------

    def _overview(self) -> dict[str, object]:
        record, conformance = self._ion.record, self._ion.conformance
        counts = [
            {"tenant_id": tenant, "call": call, "status": status, "count": count}
            for (tenant, call, status), count in sorted(record.counts.items(), key=str)
        ]
        return {
            "tenants": {
                tenant.tenant_id: tenant.as_json()
                | {
                    "taken": record.count(tenant.tenant_id),
                    "sent_twice": len(record.sent_twice(tenant.tenant_id)),
                    "violations": sum(v.tenant_id == tenant.tenant_id for v in conformance.violations),
                    "tokens_issued": self._ion.tokens.issued.get(tenant.tenant_id, 0),
                }
                for tenant in self._ion.tenants
            },
            "taken": record.count(),
            "requests": record.requests_total,
            "violations": conformance.count,
            "counts": counts,
        }

    def _list_faults(self) -> web.Response:
        now = time.monotonic()
        return _json({"faults": [fault.as_json(now) for fault in self._ion.faults.faults]})

    async def _activate(self, http: web.BaseRequest, tenant_id: str) -> web.Response:
        """Call the application; activate the connection point if all answers are 200."""
        tenant = self._ion.tenants.get(tenant_id)
        if tenant is None:
            raise _NotFoundError(f"there is no tenant {tenant_id}")
        try:
            application = Application.read(json.loads(await http.read()))
        except (ValueError, RecursionError) as error:
            raise _BadRequestError(str(error)) from error
        visits = await visit(application)
        fine = all(one.is_fine for one in visits)
        tenant.connection_point = "active" if fine else "inactive"
        return _json({"activated": fine, "visits": [one.as_json() for one in visits]})

    async def _add_faults(self, http: web.BaseRequest) -> web.Response:
        try:
            wanted: Any = json.loads(await http.read())
        except (ValueError, RecursionError) as error:
            raise _BadRequestError("send JSON: a fault, or a list of faults") from error
        now = time.monotonic()
        added = self._ion.faults.add(wanted if isinstance(wanted, list) else [wanted], now)
        self._ion.change_tenants(now)
        return _json({"faults": [fault.as_json(now) for fault in added]}, 201)

    def _violations(self, http: web.BaseRequest) -> web.Response:
        tenant, every = _tenant(http), self._ion.conformance.violations
        return _page(http, "violations", (v for v in every if tenant in {None, v.tenant_id}))

    def _record(self, http: web.BaseRequest, rest: list[str]) -> web.Response:
        record = self._ion.record
        if not rest:
            document = http.query.get("document")
            found = record.messages(_tenant(http))
            if http.query.get("sent_twice"):
                found = [taken for taken in found if taken.redeliveries]
            return _page(http, "messages", (t for t in found if document in {None, t.document_name}))
        if len(rest) == 1:
            raise _NotFoundError(
                "name a message as record/TENANT/MESSAGE_ID, and /payload after it for its bytes"
            )
        taken = record.message(rest[0], rest[1])
        content = record.content(rest[0], rest[1])
        if taken is None:
            raise _NotFoundError(f"no message {rest[1]} of {rest[0]} was taken")
        if len(rest) == 2:
            return _json(taken.as_json() | {"parameters": content.parameters if content else None})
        if rest[2:] != ["payload"] or content is None:
            raise _NotFoundError(
                "the payload is no longer kept" if content is None else "there is only /payload"
            )
        return web.Response(body=content.document, content_type="application/octet-stream")


def _tenant(http: web.BaseRequest) -> str | None:
    tenant = http.query.get("tenant")
    return None if tenant is None else tenant.upper()


def _page(http: web.BaseRequest, name: str, found: Iterable[_Shown]) -> web.Response:
    """A page: items numbered above `after`, at most `limit`; `next`: the next page's `after`, or null."""
    after, limit = _number(http, "after", 0), _number(http, "limit", _PAGE)
    shown: list[dict[str, object]] = []
    last = after
    for item in found:
        if item.number <= after:
            continue
        if len(shown) == limit:
            return _json({name: shown, "next": last})
        shown.append(item.as_json())
        last = item.number
    return _json({name: shown, "next": None})


def _number(http: web.BaseRequest, name: str, default: int) -> int:
    text = http.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _BadRequestError(f"{name} must be a whole number")
    return int(text)


def _json(content: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=json.dumps(content).encode() + b"\n", content_type="application/json"
    )
