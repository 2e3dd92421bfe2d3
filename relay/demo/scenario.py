"""This file is what happens in the demo, chapter after chapter; each ends with a fact that is waited for."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

from relay.core import protocol
from relay.demo.application import Application
from relay.demo.evidence import FaultPeriod
from relay.demo.ion import SimulatorView
from relay.demo.stage import Stage
from relay.demo.watch import DemoWatch
from relay.demo.workload import ACME, AFTER_WITHDRAWAL, GLOBEX, LATE, REFUSED, WITHDRAWN, paper, papers

ORDERS, SEED = 30, 2025
EVERY = 0.26
"""Seconds between two messages of a tenant."""
BATCH = 24
"""So many of each tenant's messages are handed over at once, before the kill."""
_SLOW_SECONDS = 0.4
_LOOK_SECONDS = 0.05
_CONFIGURATION = protocol.NOT_READY.answer
"""What ION answers where it is not configured for a message."""

Say = Callable[[str, str], None]


class Scenario:
    """Directs application, faults and processes, and notes what went on when."""

    def __init__(self, stage: Stage, application: Application, watch: DemoWatch, say: Say) -> None:
        self._stage, self._application, self._watch, self._say = stage, application, watch, say
        self.faults: list[FaultPeriod] = []
        self.now: dict[str | None, str] = {}
        self.problems: list[str] = []
        self.killed_at: float | None = None
        self.restarted_at: float | None = None
        self._ion = SimulatorView(stage)
        self._batches = {tenant: papers(tenant, ORDERS, SEED) for tenant in (ACME, GLOBEX)}

    async def tell(self) -> None:
        """All of it."""
        async with asyncio.TaskGroup() as group:
            for batch in self._batches.values():
                steady = batch[:-BATCH]
                group.create_task(self._application.hand_over_steadily(steady, EVERY))
            group.create_task(self._chapters())
        await self._until(self._is_empty, "everything is settled", 15)

    async def _chapters(self) -> None:
        await self._fair()
        await self._outage()
        await self._lost_answer()
        await self._refused_message()
        await self._revoked_token()
        await self._changed_configuration()
        await self._kill()
        await self._documents_added()

    # --- chapters ---------------------------------------------------------------------------------

    async def _fair(self) -> None:
        self._say("", "Normal operation: an application hands orders over; the relay carries them to ION.")
        self._say(ACME, f"{LATE} is not on its connection point yet: those wait, the others pass them.")
        await self._until(
            lambda: all(seen.delivered for seen in self._watch.tenants.values()), "a delivery", 15
        )
        await asyncio.sleep(2.5)

    async def _outage(self) -> None:
        self._say(ACME, "Outage: ION answers 503 to everything. The other tenant must not notice.")
        before, began = len(await self._ion.pings(ACME)), time.time()
        async with self._during(
            ACME, "outage", "outage: 503", status=503, error="the document flow is not active"
        ):
            await asyncio.sleep(6.5)
        mended = time.time()
        await self._say_whether_it_noticed(GLOBEX, began, mended - 0.5)
        await self._until(lambda: self._ion.taken_since(ACME, mended), "a delivery after the outage", 8)
        pings = (await self._ion.pings(ACME))[before:]
        gaps = [later - earlier for earlier, later in pairwise(pings)]
        growing = f", {gaps[0]:.1f} s apart, growing to {max(gaps):.1f} s" if gaps else ""
        self._say(ACME, f"ION is back: {len(pings)} pings{growing}; then everything that waited went.")
        await asyncio.sleep(1.0)

    async def _say_whether_it_noticed(self, tenant: str, begin: float, end: float) -> None:
        """How those messages fared that were handed over from `begin` to `end`."""
        arrived = {one["message_id"]: one["at"] for one in await self._stage.listed("record", tenant=tenant)}
        meanwhile = [
            one for one in self._application.handed if one.tenant == tenant and begin <= one.at <= end
        ]
        seconds = [arrived[one.message_id] - one.at for one in meanwhile if one.message_id in arrived]
        if not seconds or len(seconds) < len(meanwhile):
            self.problems.append(f"{tenant} stood still while the other tenant's ION was away")
        else:
            slowest = f"the slowest took {max(seconds) * 1000:.0f} ms"
            self._say(tenant, f"Nor did it: {len(seconds)} messages delivered meanwhile, {slowest}.")

    async def _lost_answer(self) -> None:
        self._say(GLOBEX, "ION takes a message, but its answer is lost on the way: nobody can know.")
        async with self._during(GLOBEX, "answer", "answer lost", call="post", cut="after", count=1):
            await self._until(lambda: self._ion.sent_twice(GLOBEX), "the message goes again", 8)
        self._say(GLOBEX, "The relay pinged and sent it again under the same id, so ION can tell.")
        await asyncio.sleep(0.8)

    async def _refused_message(self) -> None:
        self._say(GLOBEX, f"An order is handed over that ION refuses with 400: {REFUSED}.")
        await self._stage.order(
            tenant=GLOBEX, call="post", status=400, error="supplier S-0815 is blocked", text=REFUSED
        )
        began = time.time()
        await self._application.enqueue(paper(GLOBEX, "Process.PurchaseOrder", REFUSED))
        await self._until(lambda: self._watch.tenants[GLOBEX].parked == 1, "the refused message is parked", 8)
        self._note(GLOBEX, "answer", "refused: 400", began)
        self._say(GLOBEX, "Parked with ION's reason for a person to look at; the next message went on.")
        await asyncio.sleep(0.8)

    async def _revoked_token(self) -> None:
        self._say(ACME, "Its access token is revoked.")
        before, began = await self._ion.tokens(ACME), time.time()
        await self._stage.order(tenant=ACME, tokens="revoke")
        await self._until(lambda: self._ion.has_tokens(ACME, before + 1), "a new token", 8)
        self._note(ACME, "token", "token revoked", began)
        more = await self._ion.tokens(ACME) - before
        self._say(
            ACME, f"401: {more} new token fetched, and on." if more == 1 else f"401: {more} tokens fetched."
        )
        await asyncio.sleep(0.8)

    async def _changed_configuration(self) -> None:
        await self._withdraw_document()
        await self._deactivate_connection_point()

    async def _withdraw_document(self) -> None:
        self._say(ACME, f"An administrator takes {WITHDRAWN} off the connection point.")
        self._withdrawn_at = time.time()
        self.now[ACME] = f"{WITHDRAWN} withdrawn"
        await self._stage.order(tenant=ACME, withdraw=WITHDRAWN)
        await self._application.enqueue(paper(ACME, WITHDRAWN, AFTER_WITHDRAWAL))
        await self._until(
            lambda: WITHDRAWN in self._watch.tenants[ACME].reason, "the relay knows what is withdrawn", 8
        )
        refused = await self._ion.not_ready(ACME, self._withdrawn_at)
        met = f"{_CONFIGURATION} to {refused} of them" if refused else "None was refused"
        self._say(ACME, f"{met}; the relay asked again what is accepted, and those wait.")

    async def _deactivate_connection_point(self) -> None:
        self._say(GLOBEX, "An administrator deactivates this connection point altogether.")
        async with self._during(GLOBEX, "configuration", "connection point off"):
            began = time.time()
            await self._stage.order(tenant=GLOBEX, connection_point="inactive")
            await asyncio.sleep(3.5)
            await self._stage.order(tenant=GLOBEX, connection_point="active")
        mended = time.time()
        await self._until(lambda: self._ion.taken_since(GLOBEX, mended), "a delivery after the activation", 8)
        refused = await self._ion.not_ready(GLOBEX, began)
        self._say(GLOBEX, f"{_CONFIGURATION} {refused} times; active again, the relay went on by itself.")
        await asyncio.sleep(0.5)

    async def _kill(self) -> None:
        self._say("", f"Both answer slowly, and {2 * BATCH} messages arrive in one transaction…")
        rule, began = await self._stage.order(call="post", late=_SLOW_SECONDS), time.time()
        await self._application.enqueue(*(one for batch in self._batches.values() for one in batch[-BATCH:]))
        await self._until(self._many_under_way, "posts under way", 8)
        self.now[None] = "relay killed"
        self.killed_at = time.time()
        self._note(None, "slow", "slow answers", began)
        await self._stage.kill_relay()
        self._watch.relay_died(self.killed_at)
        self._say("", "…kill -9 of the relay, with posts under way.")
        await self._stage.ask("DELETE", f"faults/{rule}")
        await asyncio.sleep(1.5)
        self.restarted_at = time.time()
        await self._stage.start_relay()
        self._watch.relay_started()
        self.now.pop(None, None)
        self._say("", "Started again: the outbox tells it what is left.")
        await self._until(
            lambda: self._ion.taken_since(GLOBEX, self.restarted_at or 0), "a delivery after the restart", 15
        )
        await asyncio.sleep(1.0)
        again = len(await self._stage.listed("record", sent_twice="1")) - 1
        self._say(
            "",
            f"{again} messages whose answers nobody had read went again, under the same ids.",
        )

    async def _documents_added(self) -> None:
        self._say(ACME, f"The administrator puts {WITHDRAWN} back and adds {LATE}: what waited goes.")
        await self._stage.order(tenant=ACME, add=[WITHDRAWN, LATE])
        self._note(ACME, "configuration", f"{WITHDRAWN} withdrawn", self._withdrawn_at)
        self.now.pop(ACME, None)

    # --- faults ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _during(self, tenant: str, kind: str, text: str, **rule: object) -> AsyncIterator[None]:
        """While it lasts the faults is on; it is noted from begin to end."""
        ordered = await self._stage.order(tenant=tenant, **rule) if rule else None
        began = time.time()
        self.now[tenant] = text
        yield
        if ordered is not None:
            await self._stage.ask("DELETE", f"faults/{ordered}")
        self._note(tenant, kind, text, began)
        self.now.pop(tenant, None)

    def _note(self, tenant: str | None, kind: str, text: str, began: float) -> None:
        self.faults.append(FaultPeriod(tenant, kind, text, began, time.time()))

    # --- facts ------------------------------------------------------------------------------------

    async def _until(self, fact: Callable[[], bool | Awaitable[bool]], what: str, within: float) -> None:
        """Wait for it; one that does not come about is a problem, and the story goes on."""
        end = time.monotonic() + within
        while True:
            found = fact()
            if found if isinstance(found, bool) else await found:
                return
            if died := self._watch.running and self._stage.has_died():
                self.problems.append(died)
                return
            if time.monotonic() > end:
                self.problems.append(f"within {within:g} s this did not come about: {what}")
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def _is_empty(self) -> bool:
        handed = len(self._application.handed)
        return sum(seen.delivered + seen.parked for seen in self._watch.tenants.values()) >= handed

    async def _many_under_way(self) -> bool:
        """Both tenants have posts under way, and some of the batch has arrived."""
        posts = await self._stage.listed("requests", call="post")
        under_way = {post["tenant_id"] for post in posts if post["seconds"] is None}
        ids = {message.message_id for message in self._application.handed[-2 * BATCH :]}
        return len(under_way) == 2 and any(post["status"] and post["message_id"] in ids for post in posts)
