"""What a start reports of the last end, and of the place where the outbox lies."""

import asyncio

from relay.config.settings import Settings
from relay.core.ports import Store
from relay.daemon.startup import Startup
from relay.delivery.limits import MAX_UNSETTLED
from relay.observability.logs import Log
from relay.outbox import risks_of


async def report_risks(settings: Settings, log: Log) -> None:
    """What may damage or lose the outbox where it lies."""
    for problem in await asyncio.to_thread(risks_of, settings.outbox.location):
        log.warning("outbox.endangered", reason=f"{problem.field} {problem.what}", hint=problem.hint)


async def report_last_end(store: Store, startup: Startup, log: Log) -> None:
    """What is sent again: a backup was put back, or the last relay did not settle its last posts."""
    in_flight = f"at most {MAX_UNSETTLED} messages a tenant"
    restored = await startup.wait_for(store.restored)
    is_unclean = await startup.wait_for(store.unclean)
    if restored is not None:
        least = "" if restored.exact else "at least "
        again = "an unknown number of" if restored.sent_again is None else f"{least}{restored.sent_again}"
        log.warning(
            "outbox.restored",
            reason="the outbox is older than when a relay last used it: a backup was put in its place",
            sent_again=restored.sent_again,
            detail=f"{again} messages that were delivered since are sent again under the same message ids, "
            f"and what was in flight when the last relay ended, {in_flight}",
        )
    elif is_unclean:
        log.warning(
            "relay.recovered",
            reason="the relay before this one ended without settling its last posts",
            detail=f"{in_flight} are sent again under the same message ids",
        )
