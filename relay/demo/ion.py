"""This file is what the demo asks the ION simulator about its record, tenant by tenant."""

from typing import Any

from relay.core import protocol
from relay.core.replies import Reply
from relay.demo.stage import Stage


class SimulatorView:
    """Its record. Instants are seconds since the epoch."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def pings(self, tenant: str) -> list[float]:
        """When the tenant's pings came."""
        asked = await self._stage.listed("requests", tenant=tenant, call="ping")
        return [request["at"] for request in asked]

    async def taken_since(self, tenant: str, at: float) -> bool:
        """Whether anything of the tenant was taken since then."""
        taken = await self._stage.listed("record", tenant=tenant)
        return any(message["at"] > at for message in taken)

    async def sent_twice(self, tenant: str) -> bool:
        """Whether any message of the tenant came twice."""
        return bool(await self._stage.listed("record", tenant=tenant, sent_twice="1"))

    async def not_ready(self, tenant: str, since: float) -> int:
        """How often ION said since then that it is not configured for it."""
        asked = await self._stage.listed("requests", tenant=tenant)
        return sum(
            protocol.row_of(Reply(request["status"])) is protocol.NOT_READY
            for request in asked
            if request["at"] >= since
        )

    async def tokens(self, tenant: str) -> int:
        """How many access tokens the tenant was given."""
        overview = await self._stage.ask("GET", "")
        return int(overview["tenants"][tenant]["tokens_issued"])

    async def has_tokens(self, tenant: str, number: int) -> bool:
        """Whether they are so many by now."""
        return await self.tokens(tenant) >= number


def ping_was_fine(request: dict[str, Any]) -> bool:
    """Whether the ION simulator answered this ping well."""
    return protocol.is_fine(Reply(request["status"]))
