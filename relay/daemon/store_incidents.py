"""What is wrong with the outbox though its calls succeed: asked regularly, and reported as incidents."""

import asyncio
from collections.abc import Callable

from relay.core.answers import FaultOwner
from relay.core.ports import Store
from relay.observability.incidents import Incidents

_ROUND_SECONDS = 15.0


class StoreIncidents:
    """The store's incidents; each kind is opened and resolved on its own. `new` makes a reporter for one."""

    def __init__(self, store: Store, new: Callable[[], Incidents]) -> None:
        self._store, self._new = store, new
        self._known: dict[str, Incidents] = {}

    async def run(self) -> None:
        """For ever. Also after the store was replaced by another one, as after a failover."""
        while True:
            await self.ask()
            await asyncio.sleep(_ROUND_SECONDS)

    async def ask(self) -> None:
        """Report what is wrong now, and resolve what no longer is."""
        found = {incident.kind: incident for incident in await self._store.incidents()}
        for kind, incident in found.items():
            if kind not in self._known:
                self._known[kind] = self._new()
            self._known[kind].report(
                kind, detail=incident.detail, fault=FaultOwner.OUTBOX, hint=incident.hint
            )
        for kind in self._known.keys() - found.keys():
            self._known[kind].resolved()

    def close(self) -> None:
        """No more timers."""
        for known in self._known.values():
            known.close()
