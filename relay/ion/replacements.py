"""How often a refused access token is replaced by a new one, within the quota of the token service.

Pure: instants are arguments, in seconds of a steady clock. A gateway may check tokens on some calls only, so
that one is refused on posts while pings succeed; and a firewall may refuse one message whatever the token.
"""

from relay.core.replies import IonCall

_DAY = 86400.0
_USUAL_QUOTA = 100
"""Tokens a client and day on the smallest licence tier that is known [G]."""


class Replacements:
    """Of one tenant. `a_day`: the licence's quota of tokens; None: unknown.

    A new token that was refused as well, before the call that refused the last one took it, does not help: it
    is not replaced at once again. Half of the quota may go into replacements that nothing shows to be needed,
    and of what has gathered operators have the second half.
    """

    def __init__(self, a_day: int | None) -> None:
        quota = a_day or _USUAL_QUOTA
        self._interval = 2 * _DAY / quota
        self._gathered = max(2, quota // 10)
        self._spent_until = self._replaced_at = float("-inf")
        self._suspect_by: IonCall | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether a call was refused since it last succeeded."""
        return self._suspect_by is not None

    def succeeded(self, call: IonCall) -> None:
        """ION took the token for this call."""
        if self._suspect_by == call:
            self._suspect_by = None

    def suspect(self, call: IonCall) -> None:
        """ION refused this call, perhaps for the token."""
        self._suspect_by = call

    def may_replace(self, call: IonCall, now: float) -> bool:
        """ION refused the token for this call: whether a new one is fetched in its place."""
        in_vain, self._suspect_by = self._suspect_by is not None, call
        if in_vain and now < self._replaced_at + self._interval:
            return False
        if (in_vain or call == "post") and not self._take(now, self._gathered // 2):
            return False
        self._replaced_at = now
        return True

    def take(self, now: float) -> bool:
        """An operator asks for a new token: whether the quota has one left."""
        return self._take(now, 0)

    def _take(self, now: float, kept: int) -> bool:
        spent_until = max(self._spent_until, now) + self._interval
        if spent_until > now + (self._gathered - kept) * self._interval:
            return False
        self._spent_until = spent_until
        return True
