"""Sessions of the operator's page: by cookie, each with a role and an anti-forgery token for its forms.

Pure: random tokens and the time, in seconds of a monotonic clock, are arguments.
"""

import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Role = Literal["operator", "reader"]

MOST = 1000
"""Maximum number of sessions; the one that was idle longest is removed first."""

IDLE_SECONDS = 12 * 3600.0


@dataclass(slots=True)
class Session:
    """One browser. `mark`: the anti-forgery token that every form of it must contain."""

    key: str
    role: Role
    mark: str
    seen_at: float

    def sent(self, mark: str) -> bool:
        """Whether a form with this mark belongs to the session."""
        return hmac.compare_digest(self.mark.encode(), mark.encode(errors="backslashreplace"))


class Sessions:
    """All sessions, in memory: a restart of the relay ends them. `token()`: a new random token."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def begin(self, role: Role, now: float) -> Session:
        """A new session under a new key."""
        session = Session(self._token(), role, self._token(), now)
        self._sessions[session.key] = session
        if len(self._sessions) > MOST:
            self._sessions.popitem(last=False)
        return session

    def find(self, key: str, now: float, *, is_use: bool = True) -> Session | None:
        """The session of this cookie, None if it is unknown or was idle for too long.

        `is_use`: an operator or a reader did something, so that it is not idle now.
        """
        session = self._sessions.get(key)
        if session is None:
            return None
        if now - session.seen_at > IDLE_SECONDS:
            del self._sessions[key]
            return None
        if is_use:
            session.seen_at = now
            self._sessions.move_to_end(key)
        return session

    def end(self, key: str) -> None:
        """Remove the session."""
        self._sessions.pop(key, None)
