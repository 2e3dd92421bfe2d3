"""This file is who is looking at the page: sessions by cookie, each with a role and a mark for its forms.

Pure but for the random marks that are handed in; the time is an argument, in seconds of any steady clock.
"""

import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Role = Literal["operator", "reader"]

MOST = 1000
"""Sessions at a time; the one that was idle longest goes first."""

IDLE_SECONDS = 12 * 3600.0


@dataclass(slots=True)
class Session:
    """One browser. `mark`: what every form that it sends must carry."""

    key: str
    role: Role
    mark: str
    seen_at: float

    def sent(self, mark: str) -> bool:
        """Whether a form is this session's own."""
        return hmac.compare_digest(self.mark.encode(), mark.encode(errors="backslashreplace"))


class Sessions:
    """All of them, in memory: a restart of the relay ends them. `token()`: long and random."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def begin(self, role: Role, now: float) -> Session:
        """A new one, under a key that was never used."""
        session = Session(self._token(), role, self._token(), now)
        self._sessions[session.key] = session
        if len(self._sessions) > MOST:
            self._sessions.popitem(last=False)
        return session

    def find(self, key: str, now: float) -> Session | None:
        """The session of this cookie, unless it was idle too long."""
        session = self._sessions.get(key)
        if session is None:
            return None
        if now - session.seen_at > IDLE_SECONDS:
            del self._sessions[key]
            return None
        session.seen_at = now
        self._sessions.move_to_end(key)
        return session

    def end(self, key: str) -> None:
        """Forget it."""
        self._sessions.pop(key, None)
