"""What happens in the demo, chapter after chapter; each waits for the fact that ends it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from relay.demo.application import OrderApplication
from relay.demo.screen import OutboxWatch
from relay.demo.stage import Stage
from relay.demo.verdict import FaultPeriod
from relay.demo.workload import (
    ACME,
    AFTER_WITHDRAWAL,
    GLOBEX,
    LATE,
    REFUSED,
    WITHDRAWN,
    make_document,
    make_documents,
)

ORDERS, SEED = 30, 2025
INTERVAL = 0.26
"""Seconds between two messages of a tenant."""
BATCH = 24
"""How many of each tenant's messages are enqueued at once, before the kill."""
_SLOW_SECONDS = 0.4
_POLL_SECONDS = 0.05

Report = Callable[[str, str], None]


class Scenario:
    """Directs application, faults and relay process, and records when each fault was active."""

    def __init__(
        self, stage: Stage, application: OrderApplication, watch: OutboxWatch, report: Report
    ) -> None:
        self._stage, self._application, self._watch, self._report = stage, application, watch, report
        self._sandbox = stage.sandbox
        self.faults: list[FaultPeriod] = []
        self.active: dict[str | None, str] = {}
        self.problems: list[str] = []
        self.killed_at: float | None = None
        self.restarted_at: float | None = None
        self._documents = {tenant: make_documents(tenant, ORDERS, SEED) for tenant in (ACME, GLOBEX)}

    async def run(self) -> None:
        """All chapters, while the application enqueues steadily."""
        async with asyncio.TaskGroup() as group:
            for documents in self._documents.values():
                group.create_task(self._application.enqueue_steadily(documents[:-BATCH], INTERVAL))
            group.create_task(self._run_chapters())
        await self._wait_for(self._is_settled, "every message is settled", 15)

    async def _run_chapters(self) -> None:
        await self._operate_normally()
        await self._fail_every_call()
        await self._lose_an_answer()
        await self._refuse_a_message()
        await self._revoke_the_token()
        await self._withdraw_a_document()
        await self._deactivate_a_connection_point()
        await self._kill_the_relay()
        self._add_documents()

    # --- chapters ---------------------------------------------------------------------------------

    async def _operate_normally(self) -> None:
        self._report("", "Normal operation: an application enqueues orders; the relay delivers them to ION.")
        self._report(ACME, f"{LATE} is not on its connection point yet: those wait, the others pass them.")
        tenants = self._watch.tenants.values()
        await self._wait_for(lambda: all(tenant.delivered for tenant in tenants), "a delivery", 15)
        await asyncio.sleep(2.5)

    async def _fail_every_call(self) -> None:
        self._report(ACME, "Outage: ION answers 503 to every call. The other tenant must not be affected.")
        pings, began = len(self._sandbox.requests(ACME, "ping")), time.time()
        with self._fault(ACME, "outage", "outage: 503", status=503, error="the document flow is not active"):
            await asyncio.sleep(6.5)
        ended = time.time()
        self._report_whether_affected(GLOBEX, began, ended - 0.5)
        await self._wait_for(lambda: self._has_taken(ACME, ended), "a delivery after the outage", 8)
        times = [request.at for request in self._sandbox.requests(ACME, "ping")][pings:]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        growing = f", {gaps[0]:.1f} s apart, growing to {max(gaps):.1f} s" if gaps else ""
        self._report(ACME, f"ION is back: {len(times)} pings{growing}; then what waited was delivered.")
        await asyncio.sleep(1.0)

    def _report_whether_affected(self, tenant: str, begin: float, end: float) -> None:
        """How long the messages took that were enqueued from `begin` to `end`."""
        arrived = {taken.message_id: taken.at for taken in self._sandbox.messages(tenant)}
        enqueued = [
            one for one in self._application.enqueued if one.tenant == tenant and begin <= one.at <= end
        ]
        seconds = [arrived[one.message_id] - one.at for one in enqueued if one.message_id in arrived]
        if not seconds or len(seconds) < len(enqueued):
            self.problems.append(f"{tenant} was stalled by the outage of the other tenant's ION")
        else:
            slowest = f"the slowest in {max(seconds) * 1000:.0f} ms"
            self._report(tenant, f"It was not: {len(seconds)} messages delivered meanwhile, {slowest}.")

    async def _lose_an_answer(self) -> None:
        self._report(
            GLOBEX, "ION takes a message, but its answer is lost: the relay cannot know that it arrived."
        )
        with self._fault(GLOBEX, "answer", "answer lost", call="post", cut="after", count=1):
            await self._wait_for(
                lambda: bool(self._sandbox.record.sent_twice(GLOBEX)), "the message is sent again", 8
            )
        self._report(
            GLOBEX, "The relay pinged, then sent it again under the same id, so that ION can recognise it."
        )
        await asyncio.sleep(0.8)

    async def _refuse_a_message(self) -> None:
        self._report(GLOBEX, f"The application enqueues an order that ION refuses with 400: {REFUSED}.")
        fields = {"status": 400, "error": "supplier S-0815 is blocked", "text": REFUSED}
        self._sandbox.faults(tenant=GLOBEX, call="post", **fields)
        began = time.time()
        await self._application.enqueue(make_document(GLOBEX, "Process.PurchaseOrder", REFUSED))
        await self._wait_for(
            lambda: self._watch.tenants[GLOBEX].parked == 1, "the refused message is parked", 8
        )
        self._record(GLOBEX, "answer", "refused: 400", began)
        self._report(GLOBEX, "It is parked with ION's reason until an operator acts; others are not held up.")
        await asyncio.sleep(0.8)

    async def _revoke_the_token(self) -> None:
        self._report(ACME, "Its access token is revoked.")
        issued = self._sandbox.tokens.issued
        before, began = issued[ACME], time.time()
        self._sandbox.faults(tenant=ACME, tokens="revoke")
        await self._wait_for(lambda: issued[ACME] > before, "a new token", 8)
        self._record(ACME, "token", "token revoked", began)
        more = issued[ACME] - before
        self._report(ACME, f"401: the relay fetched {more} new token{'s' * (more > 1)} and continued.")
        await asyncio.sleep(0.8)

    async def _withdraw_a_document(self) -> None:
        self._report(ACME, f"An administrator takes {WITHDRAWN} off the connection point.")
        self._withdrawn_at = time.time()
        self.active[ACME] = f"{WITHDRAWN} withdrawn"
        self._sandbox.faults(tenant=ACME, withdraw=WITHDRAWN)
        await self._application.enqueue(make_document(ACME, WITHDRAWN, AFTER_WITHDRAWAL))
        await self._wait_for(
            lambda: WITHDRAWN in self._watch.tenants[ACME].reason, "the relay knows what is withdrawn", 8
        )
        refused = self._count_412(ACME, self._withdrawn_at)
        first = f"ION answered 412 to {refused} of them" if refused else "None was refused"
        self._report(ACME, f"{first}; the relay read the accepted documents again, and those wait.")

    async def _deactivate_a_connection_point(self) -> None:
        self._report(GLOBEX, "An administrator deactivates the whole connection point.")
        tenant, began = self._sandbox.tenant(GLOBEX), time.time()
        with self._fault(GLOBEX, "configuration", "connection point off"):
            tenant.connection_point = "inactive"
            await asyncio.sleep(3.5)
            tenant.connection_point = "active"
        ended = time.time()
        await self._wait_for(lambda: self._has_taken(GLOBEX, ended), "a delivery after the activation", 8)
        refused = self._count_412(GLOBEX, began)
        self._report(
            GLOBEX, f"ION answered 412 {refused} times; active again, the relay resumed automatically."
        )
        await asyncio.sleep(0.5)

    async def _kill_the_relay(self) -> None:
        self._report("", f"ION answers slowly, and {2 * BATCH} messages are enqueued in one transaction…")
        slow, began = self._sandbox.faults(call="post", late=_SLOW_SECONDS), time.time()
        batch = (one for documents in self._documents.values() for one in documents[-BATCH:])
        await self._application.enqueue(*batch)
        await self._wait_for(self._are_many_in_flight, "posts in flight", 8)
        self.active[None] = "relay killed"
        self.killed_at = time.time()
        self._record(None, "slow", "slow answers", began)
        await self._stage.kill_relay()
        self._watch.relay_died(self.killed_at)
        self._report("", "…kill -9 of the relay, with posts in flight.")
        self._sandbox.remove_fault(slow)
        await asyncio.sleep(1.5)
        restarted_at = self.restarted_at = time.time()
        await self._stage.start_relay()
        self._watch.relay_started()
        self.active.pop(None, None)
        self._report("", "Started again: the relay reads from the outbox what is not delivered yet.")
        await self._wait_for(
            lambda: self._has_taken(GLOBEX, restarted_at), "a delivery after the restart", 15
        )
        await asyncio.sleep(1.0)
        again = len(self._sandbox.record.sent_twice()) - 1
        self._report("", f"{again} messages without a recorded answer were sent again, under the same ids.")

    def _add_documents(self) -> None:
        self._report(
            ACME, f"The administrator puts {WITHDRAWN} back and adds {LATE}: what waited is delivered."
        )
        self._sandbox.faults(tenant=ACME, add=[WITHDRAWN, LATE])
        self._record(ACME, "configuration", f"{WITHDRAWN} withdrawn", self._withdrawn_at)
        self.active.pop(ACME, None)

    # --- faults -----------------------------------------------------------------------------------

    @contextmanager
    def _fault(self, tenant: str, kind: str, text: str, **fields: object) -> Iterator[None]:
        """Inject a fault for a while, if fields are given, and record the period."""
        fault = self._sandbox.faults(tenant=tenant, **fields) if fields else None
        began = time.time()
        self.active[tenant] = text
        yield
        if fault is not None:
            self._sandbox.remove_fault(fault)
        self._record(tenant, kind, text, began)
        self.active.pop(tenant, None)

    def _record(self, tenant: str | None, kind: str, text: str, began: float) -> None:
        self.faults.append(FaultPeriod(tenant, kind, text, began, time.time()))

    # --- facts ------------------------------------------------------------------------------------

    async def _wait_for(self, fact: Callable[[], bool], what: str, within: float) -> None:
        """Wait for a fact. One that does not come is a problem, and the scenario continues."""
        end = time.monotonic() + within
        while not fact():
            if self._watch.is_running and (exited := self._stage.find_unexpected_exit()):
                self.problems.append(exited)
                return
            if time.monotonic() > end:
                self.problems.append(f"did not happen within {within:g} s: {what}")
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _is_settled(self) -> bool:
        settled = sum(tenant.delivered + tenant.parked for tenant in self._watch.tenants.values())
        return settled >= len(self._application.enqueued)

    def _has_taken(self, tenant: str, since: float) -> bool:
        return any(taken.at > since for taken in self._sandbox.messages(tenant))

    def _count_412(self, tenant: str, since: float) -> int:
        requests = self._sandbox.requests(tenant)
        return sum(request.status == 412 and request.at >= since for request in requests)

    def _are_many_in_flight(self) -> bool:
        """Both tenants have posts in flight, and some of the batch were answered."""
        posts = self._sandbox.requests(call="post")
        in_flight = {post.tenant_id for post in posts if post.seconds is None}
        batch = {message.message_id for message in self._application.enqueued[-2 * BATCH :]}
        return len(in_flight) == 2 and any(post.status and post.message_id in batch for post in posts)
