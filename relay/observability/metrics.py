"""This file is what the relay counts and measures: every meter, its labels, and how they look to Prometheus.

Counters and histograms live in plain dictionaries that one thread alone changes, the relay's; gauges of the
outbox are replaced whole, by the thread that looked. So a delivery costs no lock, and a scrape reads memory.
Why they are rendered here and not by prometheus-client: docs/decisions/0009.
"""

import asyncio
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from relay.core.model import TenantId
from relay.observability.token_quota import Quota

OTHER = "other"
"""The label of the tenants beyond the bound, all together."""

Kind = Literal["counter", "gauge", "histogram"]
Call = Literal["ping", "versions", "acceptedDocuments", "post", "token"]
Labels = tuple[str, ...]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WAITS = (0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)

_LAG_SECONDS = 1.0
_QUOTA_SECONDS = 60.0
"""So often it is looked at whether what was asked for is a day ago."""

_STATUSES = {None: "none", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}


class Family:
    """A counter or a gauge: a number for each set of label values. `tenant` is the first label, if any."""

    def __init__(self, kind: Kind, name: str, meaning: str, labels: Sequence[str] = ()) -> None:
        self.kind, self.name, self.meaning, self.labels = kind, name, meaning, tuple(labels)
        self._values: dict[Labels, float] = {}
        self._heads: dict[Labels, str] = {}
        self._changes = 0
        self._written: tuple[int, Sequence[str]] = (-1, ())

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        """Count."""
        self._values[labels] = self._values.get(labels, 0) + amount
        self._changes += 1

    def get(self, labels: Labels = ()) -> float:
        """The number as it is."""
        return self._values.get(labels, 0)

    def set(self, labels: Labels, value: float) -> None:
        """This number from now on; the others stay."""
        if self._values.get(labels) != value:
            self._values[labels] = value
            self._changes += 1

    def replace(self, values: Mapping[Labels, float]) -> None:
        """These numbers and no others from now on."""
        if values == self._values:
            return
        self._values = dict(values)
        self._heads = {labels: head for labels, head in self._heads.items() if labels in values}
        self._changes += 1

    def forget(self, tenant: str) -> None:
        """Drop the series of this tenant."""
        for labels in [labels for labels in self._values if labels[0] == tenant]:
            self._values.pop(labels, None)
            self._heads.pop(labels, None)
        self._changes += 1

    def lines(self) -> Sequence[str]:
        """The samples, a line each; written anew only where something changed."""
        changes = self._changes  # before the values are read: what is added meanwhile is a change
        if changes != self._written[0]:
            self._written = (changes, list(self._fresh()))
        return self._written[1]

    def _fresh(self) -> Iterator[str]:
        heads = self._heads
        for labels, value in list(self._values.items()):  # at once: another thread may add to it
            head = heads.get(labels)
            if head is None:
                head = heads[labels] = self.name + _braced(zip(self.labels, labels, strict=True))
            yield f"{head} {value}"


class Histogram:
    """How often a value was how large; `edges`: the buckets' upper ones."""

    kind: Kind = "histogram"

    def __init__(self, name: str, meaning: str, edges: Sequence[float], labels: Sequence[str] = ()) -> None:
        self.name, self.meaning, self.labels = name, meaning, tuple(labels)
        self._edges = tuple(edges)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, labels: Labels = ()) -> None:
        """Count this value."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._edges) + 1)
        counts[bisect_left(self._edges, value)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> Iterator[str]:
        """Each bucket with all that are smaller, the sum, the count."""
        for labels, counts in list(self._counts.items()):
            pairs, total = list(zip(self.labels, labels, strict=True)), 0
            for edge, count in zip((*map(str, self._edges), "+Inf"), list(counts), strict=True):
                total += count
                yield f"{self.name}_bucket{_braced([*pairs, ('le', edge)])} {total}"
            yield f"{self.name}_sum{_braced(pairs)} {self._sums.get(labels, 0.0)}"
            yield f"{self.name}_count{_braced(pairs)} {total}"


def _braced(pairs: Iterable[tuple[str, str]]) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
    return f"{{{inside}}}" if inside else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


# fmt: off
class Work:
    """What the relay's loop counts while it works."""

    def __init__(self) -> None:
        tenant = ("tenant",)
        self.delivered = Family("counter", "relay_messages_delivered_total",
            "Messages that ION took from this relay process.", tenant)
        self.parked = Family("counter", "relay_messages_parked_total",
            "Messages that this relay process parked, by the kind of trouble (`unsendable`: never sent).",
            ("tenant", "reason"))
        self.released = Family("counter", "relay_messages_released_total",
            "Sendings that ended with the message waiting again, by the kind of trouble; `blamed`: whether "
            "it counts against the message.", ("tenant", "reason", "blamed"))
        self.sent_again = Family("counter", "relay_messages_sent_again_total",
            "Posts of a message that had been sent before, under the same id.", tenant)
        self.requests = Family("counter", "relay_requests_total",
            "Requests to ION and to the token service, by call and status class (`none`: no answer).",
            ("tenant", "call", "status"))
        self.token_quota = Family("gauge", "relay_token_quota",
            "Tokens that the tenant may ask for a day, if OAUTH2__TOKENS_A_DAY says so. Aggregate with max.",
            tenant)
        self.token_quota_left = Family("gauge", "relay_token_quota_left",
            "What is left of it after the requests of this relay process within the last 24 hours. Aggregate "
            "with min.", tenant)
        self.request_seconds = Histogram("relay_request_duration_seconds",
            "How long requests took, of all tenants.", _SECONDS, ("call",))
        self.delivery_seconds = Histogram("relay_delivery_duration_seconds",
            "From hand-over (or a person's retry) to ION's answer, of delivered messages of all tenants.",
            _WAITS)
        self.group_messages = Histogram("relay_settlement_group_messages",
            "Messages that were settled in one commit.", _SIZES)
        self.settlement_seconds = Histogram("relay_settlement_duration_seconds",
            "How long the commit of a group of settlements took.", _SECONDS)
        self.loop_lag = Histogram("relay_loop_lag_seconds",
            "How late a timer of the relay's loop was, looked at once a second.", _SECONDS)


class Outlook:
    """What a look at the outbox shows; set by the thread that looks."""

    def __init__(self) -> None:
        tenant = ("tenant",)
        self.messages = Family("gauge", "relay_outbox_messages",
            "Messages in the outbox by state; of the shared outbox: aggregate with max, not sum.",
            ("tenant", "state"))
        self.enqueued = Family("counter", "relay_messages_handed_over_total",
            "Messages that came into the outbox since this relay process started, from the outbox' own "
            "counts (what retention deletes between two looks is missed); of the shared outbox: aggregate "
            "with max.", tenant)
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
        self.mode = Family("gauge", "relay_outbox_mode",
            "1 for how news are found now: `notify` or `poll`.", ("mode",))
        self.relays = Family("gauge", "relay_relays",
            "Relay processes that share the outbox and are alive. Aggregate with max.")
        self.seen = Family("gauge", "relay_outbox_seen_timestamp_seconds",
            "When the outbox was last looked at for the gauges above.")
        self.info = Family("gauge", "relay_info", "1; the version of this relay.", ("version",))
# fmt: on


class Meters(Work, Outlook):
    """All meters of one relay process. `bound`: so many tenants have series of their own. `clock`: steady."""

    def __init__(self, bound: int = 1000, clock: Callable[[], float] = time.monotonic) -> None:
        Work.__init__(self)
        Outlook.__init__(self)
        self._bound, self._known, self._lock = bound, set[str](), threading.Lock()
        self._clock, self._quotas = clock, dict[str, Quota]()

    @property
    def families(self) -> list[Family | Histogram]:
        """All of them, in the order of the documentation."""
        return [meter for meter in vars(self).values() if isinstance(meter, Family | Histogram)]

    def label(self, tenant: str) -> str:
        """The tenant's label: its id, or `other` beyond the bound."""
        with self._lock:
            if tenant not in self._known:
                if len(self._known) >= self._bound:
                    return OTHER
                self._known.add(tenant)
            return tenant

    async def watch_loop(self) -> None:
        """Measure how late this loop's timers are, for ever; and give back what was asked for a day ago."""
        now, tell_quotas_at = asyncio.get_running_loop().time, 0.0
        while True:
            due = now() + _LAG_SECONDS
            await asyncio.sleep(_LAG_SECONDS)
            self.loop_lag.observe(max(0.0, now() - due))
            if due >= tell_quotas_at:
                tell_quotas_at = due + _QUOTA_SECONDS
                self._tell_quotas(self._quotas)

    def of(self, tenant: TenantId, tokens_a_day: int | None = None) -> "Meter":
        """What this tenant's worker and endpoint count with. `tokens_a_day`: its quota, where it is known."""
        label = self.label(tenant)
        before = self._quotas.get(label)
        if tokens_a_day is not None and label != OTHER:
            self._quotas[label] = Quota(tokens_a_day, () if before is None else before.asked)
            self.token_quota.set((label,), tokens_a_day)
            self._tell_quotas([label])
        elif before is not None:
            del self._quotas[label]
            self.token_quota.forget(label)
            self.token_quota_left.forget(label)
        return Meter(self, label)

    def asked_for_token(self, label: str) -> None:
        """It counts against the quota, with or without success."""
        quota = self._quotas.get(label)
        if quota is not None:
            quota.ask(self._clock())
            self._tell_quotas([label])

    def _tell_quotas(self, labels: Iterable[str]) -> None:
        now = self._clock()
        for label in labels:
            self.token_quota_left.set((label,), self._quotas[label].left(now))

    def forget(self, tenant: TenantId) -> None:
        """The tenant is not carried any more: its series go, and its place is another's."""
        self._quotas.pop(tenant, None)
        for family in self.families:
            if isinstance(family, Family) and family.labels[:1] == ("tenant",):
                family.forget(tenant)
        with self._lock:
            self._known.discard(tenant)

    def text(self, *, openmetrics: bool) -> str:
        """All of it; in Prometheus' own text format, or as OpenMetrics without its closing line."""
        lines: list[str] = []
        for family in self.families:
            is_bare = openmetrics and family.kind == "counter"
            name = family.name.removesuffix("_total") if is_bare else family.name
            lines += (f"# HELP {name} {_escaped(family.meaning)}", f"# TYPE {name} {family.kind}")
            lines += family.lines()
        return "\n".join(lines) + "\n"


class Meter:
    """One tenant's view of the meters; called from the relay's loop alone."""

    def __init__(self, meters: Meters, label: str) -> None:
        self._meters, self._label, self._own = meters, label, (label,)

    def delivered(self, seconds: float) -> None:
        """ION took a message, so long after it was handed over."""
        self._meters.delivered.add(self._own)
        self._meters.delivery_seconds.observe(seconds)

    def parked(self, reason: str) -> None:
        """A message was parked. `reason`: one of a few words."""
        self._meters.parked.add((self._label, reason))

    def released(self, reason: str, *, counted: bool) -> None:
        """A message waits again. `reason`: one of a few words."""
        self._meters.released.add((self._label, reason, "yes" if counted else "no"))

    def sent_again(self) -> None:
        """A message goes out that went before."""
        self._meters.sent_again.add(self._own)

    def called(self, call: Call, status: int | None, seconds: float) -> None:
        """A request ended. `status` None: without an answer."""
        kind = _STATUSES.get(None if status is None else status // 100, "none")
        self._meters.requests.add((self._label, call, kind))
        if call == "token":
            self._meters.asked_for_token(self._label)
        self._meters.request_seconds.observe(seconds, (call,))
