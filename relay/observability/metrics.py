"""The relay's metrics: every meter, its labels, and who changes it.

Counters and histograms are changed by the relay's loop alone; gauges of the outbox are replaced whole by the
web thread. So a delivery costs no lock, and a scrape reads memory.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Literal

from relay.core.model import TenantId
from relay.observability.activity import ActivityLedger, ActivityTally
from relay.observability.prometheus_text import Family, Histogram, render
from relay.observability.token_quota import TokenQuota

OTHER = "other"
"""The label of all tenants beyond the limit together."""

Call = Literal["ping", "versions", "acceptedDocuments", "post", "token"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WAITS = (0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)

_LAG_SECONDS = 1.0
_QUOTA_SECONDS = 60.0
"""Between two updates of the quota gauges: requests of a day ago no longer count."""

_STATUSES = {None: "none", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}


# fmt: off
class DeliveryMeters:
    """Meters that the relay's loop changes."""

    def __init__(self) -> None:
        tenant = ("tenant",)
        self.delivered = Family("counter", "relay_messages_delivered_total",
            "Messages that ION took from this relay process.", tenant)
        self.parked = Family("counter", "relay_messages_parked_total",
            "Messages that this relay process parked, by the kind of incident (`unsendable`: never sent).",
            ("tenant", "reason"))
        self.released = Family("counter", "relay_messages_released_total",
            "Posts after which the message waits again, by the kind of incident; `counted`: whether the "
            "attempt counts towards the message's maximum.", ("tenant", "reason", "counted"))
        self.sent_again = Family("counter", "relay_messages_sent_again_total",
            "Posts of a message that had been sent before, under the same id.", tenant)
        self.requests = Family("counter", "relay_requests_total",
            "Requests to ION and to the token service, by call and status class (`none`: no answer).",
            ("tenant", "call", "status"))
        self.token_quota = Family("gauge", "relay_token_quota",
            "Tokens that the tenant may request a day, if OAUTH2__TOKENS_A_DAY is set. Aggregate with max.",
            tenant)
        self.token_quota_left = Family("gauge", "relay_token_quota_left",
            "What remains of it after the requests of this relay process in the last 24 hours. Aggregate "
            "with min.", tenant)
        self.certificate = Family("gauge", "relay_certificate_not_after_seconds",
            "When the certificate of the tenant's ION ends, as POSIX time.", tenant)
        self.request_seconds = Histogram("relay_request_duration_seconds",
            "Duration of requests, of all tenants.", _SECONDS, ("call",))
        self.delivery_seconds = Histogram("relay_delivery_duration_seconds",
            "From enqueueing (or an operator's retry) to ION's answer, of delivered messages of all tenants.",
            _WAITS)
        self.group_messages = Histogram("relay_settlement_group_messages",
            "Messages settled in one commit.", _SIZES)
        self.settlement_seconds = Histogram("relay_settlement_duration_seconds",
            "Duration of the commit of a group of settlements.", _SECONDS)
        self.memory = Family("gauge", "relay_message_memory_bytes",
            "Memory that messages use or have reserved, of RELAY_MAX_BYTES_IN_MEMORY; read once a second.")
        self.outbox_changes = Family("counter", "relay_outbox_changes_total",
            "How often another store took the place of the outbox: a promoted standby, a restored backup.")
        self.outbox_changes.add((), 0)
        self.loop_lag = Histogram("relay_loop_lag_seconds",
            "By how much a timer of the relay's loop was late, measured once a second.", _SECONDS)


class OutboxMeters:
    """Meters of the outbox' contents; replaced whole by the thread that reads them."""

    def __init__(self) -> None:
        tenant = ("tenant",)
        self.messages = Family("gauge", "relay_outbox_messages",
            "Messages in the outbox by state; of the shared outbox: aggregate with max, not sum.",
            ("tenant", "state"))
        self.enqueued = Family("counter", "relay_messages_enqueued_total",
            "Messages enqueued since this relay process started, from the outbox' own counts (what retention "
            "deletes between two reads is missed); of the shared outbox: aggregate with max.", tenant)
        self.oldest_due = Family("gauge", "relay_oldest_due_seconds",
            "Age of the tenant's oldest message that is due; 0: none is. Aggregate with max.", tenant)
        self.waiting = Family("gauge", "relay_waiting_messages",
            "Pending messages by what their tenant as a whole waits for. Aggregate with max.",
            ("tenant", "reason"))
        self.state = Family("gauge", "relay_tenant_state",
            "1 for the state that the tenant is in; other states have no series. Aggregate with max.",
            ("tenant", "state"))
        self.lease = Family("gauge", "relay_lease_held",
            "1 where this relay process may send for the tenant.", tenant)
        self.bytes = Family("gauge", "relay_outbox_bytes",
            "Size of the outbox on disk. Aggregate with max.")
        self.log_bytes = Family("gauge", "relay_outbox_log_bytes",
            "Size of the write-ahead log of an outbox that is a file; a database has no series.")
        self.notification_queue = Family("gauge", "relay_notification_queue_ratio",
            "How full PostgreSQL's queue of notifications is, from 0 to 1; from 0.5 on an INSERT sends none. "
            "Aggregate with max.")
        self.mode = Family("gauge", "relay_outbox_mode",
            "1 for how new messages are found now: `notify` or `poll`.", ("mode",))
        self.relays = Family("gauge", "relay_relays",
            "Relay processes that share the outbox and are alive. Aggregate with max.")
        self.seen = Family("gauge", "relay_outbox_seen_timestamp_seconds",
            "When the outbox was last read for the gauges above.")
        self.info = Family("gauge", "relay_info", "1; the version of this relay.", ("version",))
# fmt: on


class Meters(DeliveryMeters, OutboxMeters):
    """All meters of one relay process. `bound`: tenants with series of their own. `clock`: steady seconds."""

    def __init__(self, bound: int = 1000, clock: Callable[[], float] = time.monotonic) -> None:
        DeliveryMeters.__init__(self)
        OutboxMeters.__init__(self)
        self._bound, self._known, self._lock = bound, set[str](), threading.Lock()
        self._clock, self._quotas = clock, dict[str, TokenQuota]()
        self.activity = ActivityLedger(os.urandom(16).hex())
        """The same by time, for the outbox: the operator's page shows it."""

    @property
    def families(self) -> list[Family | Histogram]:
        """All meters, in the order of the documentation."""
        return [meter for meter in vars(self).values() if isinstance(meter, Family | Histogram)]

    def label(self, tenant: str) -> str:
        """The tenant's label: its id, or `other` beyond the limit."""
        with self._lock:
            if tenant not in self._known:
                if len(self._known) >= self._bound:
                    return OTHER
                self._known.add(tenant)
            return tenant

    async def watch_loop(self, memory: Callable[[], int]) -> None:
        """Measure how late this loop's timers are; read the memory in use; the quotas once a minute."""
        now, next_quotas = asyncio.get_running_loop().time, 0.0
        while True:
            due = now() + _LAG_SECONDS
            await asyncio.sleep(_LAG_SECONDS)
            self.loop_lag.observe(max(0.0, now() - due))
            self.memory.set((), memory())
            if due >= next_quotas:
                next_quotas = due + _QUOTA_SECONDS
                self._update_quotas(self._quotas)

    def of(self, tenant: TenantId, tokens_a_day: int | None = None) -> "Meter":
        """The meter of this tenant's worker and ION client. `tokens_a_day`: its quota, where it is known."""
        label = self.label(tenant)
        before = self._quotas.get(label)
        if tokens_a_day is not None and label != OTHER:
            self._quotas[label] = TokenQuota(tokens_a_day, () if before is None else before.requests)
            self.token_quota.set((label,), tokens_a_day)
            self._update_quotas([label])
        elif before is not None:
            del self._quotas[label]
            self.token_quota.forget(label)
            self.token_quota_left.forget(label)
        return Meter(self, label, self.activity.of(tenant))

    def count_token_request(self, label: str) -> None:
        """A token was requested, with or without success."""
        quota = self._quotas.get(label)
        if quota is not None:
            quota.count(self._clock())
            self._update_quotas([label])

    def _update_quotas(self, labels: Iterable[str]) -> None:
        now = self._clock()
        for label in labels:
            self.token_quota_left.set((label,), self._quotas[label].remaining(now))

    def forget(self, tenant: TenantId) -> None:
        """Remove the series of a tenant that is not owned any more; another may take its place."""
        self._quotas.pop(tenant, None)
        for family in self.families:
            if isinstance(family, Family) and family.labels[:1] == ("tenant",):
                family.forget(tenant)
        with self._lock:
            self._known.discard(tenant)

    def text(self, *, openmetrics: bool) -> str:
        """All meters as text; see `prometheus_text.render`."""
        return render(self.families, openmetrics=openmetrics)


class Meter:
    """One tenant's view of the meters; called from the relay's loop alone."""

    def __init__(self, meters: Meters, label: str, activity: ActivityTally) -> None:
        self._meters, self._label, self._own = meters, label, (label,)
        self._activity = activity

    def certificate_ends(self, at: float) -> None:
        """The certificate of ION ends then, in POSIX time."""
        self._meters.certificate.set(self._own, at)

    def delivered(self, seconds: float) -> None:
        """ION took a message, `seconds` after it was enqueued."""
        self._meters.delivered.add(self._own)
        self._meters.delivery_seconds.observe(seconds)
        self._activity.add_delivery(seconds)

    def parked(self, reason: str) -> None:
        """A message was parked. `reason`: one of a few words."""
        self._meters.parked.add((self._label, reason))
        self._activity.parked += 1

    def released(self, reason: str, *, counted: bool) -> None:
        """A message waits again. `reason`: one of a few words."""
        self._meters.released.add((self._label, reason, "yes" if counted else "no"))
        self._activity.failed += 1

    def sent_again(self) -> None:
        """A message is posted that was posted before."""
        self._meters.sent_again.add(self._own)

    def called(self, call: Call, status: int | None, seconds: float) -> None:
        """A request ended. `status` None: without an answer."""
        kind = _STATUSES.get(None if status is None else status // 100, "none")
        self._meters.requests.add((self._label, call, kind))
        if call == "token":
            self._meters.count_token_request(self._label)
        self._meters.request_seconds.observe(seconds, (call,))
        if call == "post" and status is not None:
            self._activity.add_answer(seconds)
