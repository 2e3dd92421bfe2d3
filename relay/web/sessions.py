"""Sessions of the operator's page: by cookie, each with a role and an anti-forgery token for its forms.

Pure: random tokens and the time, in seconds of a monotonic clock, are arguments.
"""

import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["operator", "reader"]

MOST = 1000
"""Maximum number of sessions that were used, and of those that were not yet."""

IDLE_SECONDS = 12 * 3600.0


@dataclass(slots=True)
class Session:
    """One browser. `mark`: the anti-forgery token that every form of it must contain.

    `token`: the one that it began with; empty where none is required.
    """

    key: str
    role: Role
    mark: str
    seen_at: float
    token: str = field(default="", repr=False)
    notice: str = ""
    """What the next page confirms, once."""

    def take_notice(self) -> str:
        """It, and none from then on."""
        notice, self.notice = self.notice, ""
        return notice

    def sent(self, mark: str) -> bool:
        """Whether a form with this mark belongs to the session."""
        return hmac.compare_digest(self.mark.encode(), mark.encode(errors="backslashreplace"))


class Sessions:
    """All sessions, in memory: a restart of the relay ends them. `token()`: a new random token.

    Of those that were used, and of those that never came back with their cookie, the one that was idle
    longest is removed first: programs that keep no cookies do not end an operator's session.
    """

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token
        self._new: OrderedDict[str, Session] = OrderedDict()
        self._used: OrderedDict[str, Session] = OrderedDict()

    def begin(self, role: Role, now: float, token: str = "") -> Session:
        """A new session under a new key. `token`: the one that it is for; it counts as used then."""
        session = Session(self._token(), role, self._token(), now, token)
        self._keep(self._used if token else self._new, session)
        return session

    def find(self, key: str, now: float, *, is_use: bool = True) -> Session | None:
        """The session of this cookie, None if it is unknown or was idle for too long.

        `is_use`: an operator or a reader did something, so that it is not idle now.
        """
        session = self._new.get(key) or self._used.get(key)
        if session is None or not self.holds(session, now):
            return None
        if is_use:
            session.seen_at = now
        if is_use or key in self._new:
            self._new.pop(key, None)
            self._keep(self._used, session)
        return session

    def holds(self, session: Session, now: float) -> bool:
        """Whether the session has not ended; looking at it does not count as use."""
        if now - session.seen_at > IDLE_SECONDS:
            self.end(session.key)
        return session.key in self._used or session.key in self._new

    def end(self, key: str) -> None:
        """Remove the session."""
        self._new.pop(key, None)
        self._used.pop(key, None)

    @staticmethod
    def _keep(sessions: OrderedDict[str, Session], session: Session) -> None:
        sessions[session.key] = session
        sessions.move_to_end(session.key)
        if len(sessions) > MOST:
            sessions.popitem(last=False)
