"""Routes of the simulator: which call a request line is, by the raw path with its percent escapes."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote

from relay.sandbox.responses import Refusal

Call = Literal["ping", "versions", "acceptedDocuments", "post", "token", "revoke", "unknown"]
"""`post` is multipartMessage; `revoke` the token service's revocation endpoint."""

SERVICE = "/api/ion/messaging/service"
"""The base path of direct access; the gateway has `/{ti}/IONSERVICES` before it."""

TOKEN_PATH, REVOKE_PATH, AUTHORIZE_PATH = "token.oauth2", "revoke_token.oauth2", "authorization.oauth2"

_GATEWAY = re.compile(r"/(?P<tenant>[^/]+)/IONSERVICES" + SERVICE + r"(?P<rest>/.*)?")
_TOKENS = re.compile(r"/(?P<tenant>[^/]+)/as/(?P<rest>[^/]+)")
_ACCEPTED = re.compile(r"/v3/(?P<logical_id>[^/]+)/acceptedDocuments")


@dataclass(frozen=True, slots=True)
class Route:
    """What is requested. `tenant_id`: as in the path, or None; `refusal`: where the path does not exist."""

    call: Call
    method: str
    tenant_id: str | None = None
    logical_id: str = ""
    refusal: Refusal | None = None


@lru_cache(maxsize=4096)
def find_route(method: str, target: str) -> Route:
    """Read a request line's method and target."""
    path = target.partition("?")[0]
    if match := _GATEWAY.fullmatch(path):
        return _find_service(method, match["rest"] or "/", unquote(match["tenant"]))
    if path.startswith(SERVICE):
        return _find_service(method, path.removeprefix(SERVICE), None)
    if match := _TOKENS.fullmatch(path):
        return _find_token_call(method, match["rest"], unquote(match["tenant"]))
    return _not_found(method, None, f"{path[:200]} does not exist")


def _find_service(method: str, rest: str, tenant_id: str | None) -> Route:
    if rest in {"/ping", "/versions"}:
        call: Call = "ping" if rest == "/ping" else "versions"
        return _require_method("GET", Route(call, method, tenant_id))
    if rest == "/v3/multipartMessage":
        return _require_method("POST", Route("post", method, tenant_id))
    if match := _ACCEPTED.fullmatch(rest):
        logical_id = unquote(match["logical_id"])
        if not logical_id.startswith("lid://"):
            return _not_found(
                method,
                tenant_id,
                "the logical id must be one percent-encoded segment, lid%3A%2F%2F…, encoded once",
            )
        return _require_method("GET", Route("acceptedDocuments", method, tenant_id, logical_id))
    return _not_found(method, tenant_id, f"{rest[:200]} does not exist in IMS")


def _find_token_call(method: str, rest: str, tenant_id: str) -> Route:
    match rest:
        case "token.oauth2":
            return _require_method("POST", Route("token", method, tenant_id))
        case "revoke_token.oauth2":
            return _require_method("POST", Route("revoke", method, tenant_id))
        case _:
            return _not_found(method, tenant_id, f"{rest[:200]} does not exist in the token service")


def _not_found(method: str, tenant_id: str | None, text: str) -> Route:
    return Route("unknown", method, tenant_id, refusal=Refusal(404, 404, text))


def _require_method(method: str, route: Route) -> Route:
    if route.method == method:
        return route
    refusal = Refusal(405, 405, f"{route.call} accepts {method} only, not {route.method[:20]}")
    return Route(route.call, route.method, route.tenant_id, route.logical_id, refusal)
