"""This file is how the simulator's answers look: a status, an IMS code, and JSON.

The code of an answer is the one ims-v3 names; where it names none, the HTTP status stands in its place
(the sandbox's choice: the full list is not known outside Infor).
"""

import json
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before the faults got at it. `why`: what was wrong, for the request log."""

    status: int
    body: bytes
    code: int = 0
    why: str = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken, in ION's numbers and in words."""

    status: int
    code: int
    text: str


def ok(document: object, status: int = 200) -> Reply:
    """A success with a JSON body."""
    return Reply(status, json.dumps(document, separators=(",", ":")).encode(), status)


ACCEPTED = Reply(202, b'{"status":"OK","code":202}', 202)


def fail(refusal: Refusal, headers: dict[str, str] | None = None) -> Reply:
    """A refusal in the shape of IMS: the text stands in a list under `errors`."""
    body = {"status": "FAIL", "code": refusal.code, "errors": [refusal.text]}
    return Reply(
        refusal.status,
        json.dumps(body).encode(),
        refusal.code,
        refusal.text,
        headers if headers is not None else {},
    )


def oauth_error(status: int, error: str, text: str) -> Reply:
    """A refusal in the shape of a token service (RFC 6749 section 5.2)."""
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="sandbox"'
    body = json.dumps({"error": error, "error_description": text}).encode()
    return Reply(status, body, status, f"{error}: {text}", headers)
