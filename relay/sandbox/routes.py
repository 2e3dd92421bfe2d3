"""This file is which call a request line means: the raw path as it was received, percent escapes included."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote

from relay.sandbox.responses import Refusal

Call = Literal["ping", "versions", "acceptedDocuments", "post", "token", "revoke", "unknown"]
"""`post` is multipartMessage; `revoke` the token service's revocation endpoint."""

SERVICE = "/api/ion/messaging/service"
"""The base of the direct way; the gateway has `/{ti}/IONSERVICES` before it."""

TOKEN_PATH, REVOKE_PATH, AUTHORIZE_PATH = "token.oauth2", "revoke_token.oauth2", "authorization.oauth2"

_GATEWAY = re.compile(r"/(?P<tenant>[^/]+)/IONSERVICES" + SERVICE + r"(?P<rest>/.*)?")
_TOKENS = re.compile(r"/(?P<tenant>[^/]+)/as/(?P<rest>[^/]+)")
_ACCEPTED = re.compile(r"/v3/(?P<logical_id>[^/]+)/acceptedDocuments")


@dataclass(frozen=True, slots=True)
class Route:
    """What is asked. `tenant_id`: as the path names it, or None; `refusal`: where nothing is there to ask."""

    call: Call
    method: str
    tenant_id: str | None = None
    logical_id: str = ""
    refusal: Refusal | None = None


@lru_cache(maxsize=4096)
def find(method: str, target: str) -> Route:
    """Read a request line's method and target."""
    path = target.partition("?")[0]
    if match := _GATEWAY.fullmatch(path):
        return _service(method, match["rest"] or "/", unquote(match["tenant"]))
    if path.startswith(SERVICE):
        return _service(method, path.removeprefix(SERVICE), None)
    if match := _TOKENS.fullmatch(path):
        return _tokens(method, match["rest"], unquote(match["tenant"]))
    return _nothing(method, None, f"nothing is at {path[:200]}")


def _service(method: str, rest: str, tenant_id: str | None) -> Route:
    if rest in {"/ping", "/versions"}:
        call: Call = "ping" if rest == "/ping" else "versions"
        return _only("GET", Route(call, method, tenant_id))
    if rest == "/v3/multipartMessage":
        return _only("POST", Route("post", method, tenant_id))
    if match := _ACCEPTED.fullmatch(rest):
        logical_id = unquote(match["logical_id"])
        if not logical_id.startswith("lid://"):
            return _nothing(
                method,
                tenant_id,
                "the logical id must be one percent-encoded segment, lid%3A%2F%2F…, encoded once",
            )
        return _only("GET", Route("acceptedDocuments", method, tenant_id, logical_id))
    return _nothing(method, tenant_id, f"IMS has nothing at {rest[:200]}")


def _tokens(method: str, rest: str, tenant_id: str) -> Route:
    match rest:
        case "token.oauth2":
            return _only("POST", Route("token", method, tenant_id))
        case "revoke_token.oauth2":
            return _only("POST", Route("revoke", method, tenant_id))
        case _:
            return _nothing(method, tenant_id, f"the token service has nothing at {rest[:200]}")


def _nothing(method: str, tenant_id: str | None, text: str) -> Route:
    return Route("unknown", method, tenant_id, refusal=Refusal(404, 404, text))


def _only(method: str, route: Route) -> Route:
    if route.method == method:
        return route
    refusal = Refusal(405, 405, f"{route.call} takes {method} only, not {route.method[:20]}")
    return Route(route.call, route.method, route.tenant_id, route.logical_id, refusal)
