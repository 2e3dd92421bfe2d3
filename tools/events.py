"""This file is every event of the log, with a sample of each: what docs/log.md is made from.

`facts` are the keys as the call gives them; `bound` those that the logger carries besides. A test holds both
against the calls in the code.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from relay.observability import logs

Level = Literal["debug", "info", "warning", "error"]

_WALL = datetime(2026, 11, 24, 19, 16, 11, 207000, UTC)
_TENANT = {"tenant": "ACME_PRD"}
_WAIT = "wait; if it lasts, check the gateway's quota and ION's status"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log: when it is said, and what it looks like."""

    name: str
    level: Level
    meaning: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    bound: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """The sample, as the relay's own log writes it in JSON."""
        out = io.StringIO()
        log = structlog.wrap_logger(
            structlog.PrintLogger(out),
            processors=[*logs.processors(lambda: _WALL), logs.as_json],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        getattr(log.bind(**self.bound), self.level)(self.name, **self.facts)
        return out.getvalue().rstrip("\n")


EVENTS = (
    Event("relay.started", "info", "the relay runs", {"version": "0.1.0", "relay": "host-7-4f2a"}),
    Event(
        "relay.recovered",
        "warning",
        "the one before it ended without settling its last posts",
        {
            "reason": "the relay before this one ended without settling its last posts",
            "detail": "at most 128 messages a tenant go out again, under the same message ids",
        },
    ),
    Event("relay.ended", "info", "the relay ended, and everything was settled"),
    Event(
        "relay.ended",
        "warning",
        "it ended at once, as the second signal asked",
        {"reason": "a second signal: posts in flight were cut"},
    ),
    Event(
        "relay.ended",
        "error",
        "it ended, and the outbox did not take its last settlements",
        {"reason": "3 settlements could not be written", "hint": "see above"},
    ),
    Event(
        "relay.cut",
        "warning",
        "the grace ran out with posts in flight",
        {"reason": "the grace ran out with posts in flight"},
    ),
    Event(
        "relay.gave_up",
        "error",
        "`relay run --until-empty --within SECONDS`: time is up",
        {"reason": "not everything was delivered within 60 s"},
    ),
    Event(
        "setting.ignored",
        "warning",
        "a name that nobody reads: a misspelt `RELAY_…`, or OpenTelemetry's without the extra `otel`",
        {
            "setting": "RELAY_LOG__LEVL",
            "reason": "is not a setting of the relay",
            "hint": "did you mean RELAY_LOG__LEVEL?",
        },
    ),
    Event(
        "settings.reloaded",
        "info",
        "new settings are in use; which tenants they changed or removed",
        {"changed": ["ACME_PRD"], "removed": []},
    ),
    Event(
        "settings.refused",
        "error",
        "the new settings, or a file in the folder of tenants, are wrong; what held before goes on",
        {
            "setting": "tenants/ACME_PRD.toml",
            "reason": "has no credentials",
            "hint": "set IONAPI_FILE, or ION_URL with OAUTH1__CONSUMER_KEY and OAUTH1__CONSUMER_SECRET",
        },
    ),
    Event(
        "incident.opened",
        "warning",
        "something fails whose fault is ION's or the network's",
        {
            "kind": "busy",
            "detail": "HTTP 503: under maintenance",
            "fault": "ION's or the network's",
            "hint": _WAIT,
        },
        _TENANT,
    ),
    Event(
        "incident.opened",
        "error",
        "something fails that a person must mend",
        {
            "kind": "outbox",
            "detail": "sqlite:///relay.db: the disk is full",
            "fault": "the outbox's",
            "hint": "mend the cause; the relay tries again by itself, nothing is lost",
        },
    ),
    Event(
        "incident.ongoing",
        "error",
        "it lasts: `count` since the last line, `total` and `seconds` altogether, the first and last sample",
        {
            "kind": "busy",
            "count": 4,
            "total": 9,
            "seconds": 120.0,
            "first": "HTTP 503: under maintenance",
            "last": "HTTP 503: under maintenance",
            "fault": "ION's or the network's",
            "hint": _WAIT,
        },
        _TENANT,
    ),
    Event(
        "incident.resolved",
        "info",
        "it is over: how long it lasted, how many errors it brought",
        {"seconds": 187.402, "count": 11, "kinds": ["busy"], "last": "HTTP 503: under maintenance"},
        _TENANT,
    ),
    Event(
        "messages.delivered",
        "info",
        "how many, by document, since the last such line",
        {"tenant": "ACME_PRD", "count": 1842, "documents": {"Sync.SalesOrder": 1800, "Sync.Shipment": 42}},
    ),
    Event(
        "message.delivered",
        "debug",
        "one, with size and duration",
        {
            "tenant": "ACME_PRD",
            "document": "Sync.Shipment",
            "message_id": "37797f44d0b042d59ad21a0ac7e88099",
            "bytes": 1724,
            "seconds": 0.0312,
        },
    ),
    Event(
        "message.parked",
        "warning",
        "one message needs a person",
        {
            "message_id": "37797f44d0b042d59ad21a0ac7e88099",
            "document": "Sync.Shipment",
            "reason": "HTTP 400: unknown unit of measure",
        },
        _TENANT,
    ),
    Event(
        "messages.parked",
        "error",
        "`--until-empty`: so many were parked in this run",
        {"tenant": "ACME_PRD", "count": 2, "hint": "relay messages list --tenant ACME_PRD --state parked"},
    ),
    Event(
        "documents.withheld",
        "warning",
        "messages wait for these documents to be accepted",
        {
            "documents": ["Sync.Shipment"],
            "hint": "add them to the connection point in ION Desk (sent by the application)",
        },
        _TENANT,
    ),
    Event(
        "documents.changed",
        "info",
        "ION accepts more, or less, than before",
        {"added": ["Sync.Shipment"], "removed": []},
        _TENANT,
    ),
    Event(
        "outbox.watched",
        "info",
        "PostgreSQL: how news are found from now on: `notify` (it tells) or `poll` (a look every half "
        "second); if `poll` surprises: [postgres.md](postgres.md)",
        {"mode": "notify"},
    ),
    Event(
        "tenant.paused",
        "error",
        "the relay paused the tenant",
        {
            "reason": "10 messages in a row were refused, the last: HTTP 400",
            "hint": "relay tenants resume ACME_PRD",
        },
        _TENANT,
    ),
    Event(
        "tenant.delayed",
        "warning",
        "its oldest message has waited longer than `RELAY_WARN_AFTER_SECONDS`; said once an hour",
        {
            "tenant": "ACME_PRD",
            "oldest_due_seconds": 14460,
            "pending": 310,
            "hint": "relay status; relay messages list --tenant ACME_PRD --state pending",
        },
    ),
    Event(
        "tenant.missed",
        "warning",
        "messages wait for a tenant that is not configured",
        {
            "tenant": "ACME_TST",
            "reason": "messages wait, no tenant is configured",
            "hint": "configure RELAY_TENANTS__ACME_TST__…, or drop them: "
            "relay messages drop --tenant ACME_TST --state pending",
        },
    ),
    Event(
        "tenant.taken",
        "info",
        "of several relays on one outbox, this one carries the tenant now",
        {"tenant": "ACME_PRD"},
    ),
    Event(
        "tenant.handed_over",
        "info",
        "another relay is to carry it: what is under way lands, then it is given over",
        {"tenant": "ACME_PRD"},
    ),
    Event(
        "tenant.lost",
        "warning",
        "its lease ended or another relay has it: posts in flight are cut and go again there, same ids",
        {"tenant": "ACME_PRD", "reason": "no heartbeat reached the outbox in time"},
    ),
    Event(
        "tenant.stuck",
        "error",
        "`--until-empty`: what is left cannot go without a person",
        {
            "tenant": "ACME_PRD",
            "reason": "not accepted by ION: Sync.Shipment",
            "hint": "relay status",
        },
    ),
    Event(
        "component.stuck",
        "error",
        "a part stood still for longer than its step may take; it is started again, the others go on",
        {"part": "tenant ACME_PRD", "seconds": 70.4, "hint": "it is started again by itself; report it"},
    ),
    Event(
        "loop.blocked",
        "error",
        "the loop in which everything runs does not come round; where it is",
        {
            "seconds": 3.2,
            "where": "database.py:57 connect, in store.py:88 settle",
            "hint": "if it lasts, restart the relay; report the place",
        },
    ),
    Event("loop.freed", "info", "it comes round again"),
    Event(
        "web.opened",
        "info",
        "health, metrics and the page, or ION's own calls, are served there",
        {"setting": "RELAY_WEB__LISTEN", "address": "127.0.0.1:8480"},
    ),
    Event(
        "component.crashed",
        "error",
        "a bug, with its traceback; the part is started again, the others go on",
        {
            "part": "tenant ACME_PRD",
            "failures": 1,
            "exception": "Traceback (most recent call last):\n  …\nValueError: what was wrong",
        },
    ),
)
"""In the order in which a person meets them; one for each level and each set of keys."""
