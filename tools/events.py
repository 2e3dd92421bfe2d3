"""Every event of the log with a sample: the source of docs/log.md.

`facts` are the keys as the call gives them; `bound` those that the logger carries in addition. A test
compares both with the calls in the code.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from relay.core import answers
from relay.core.answers import FaultOwner
from relay.observability import logs

Level = Literal["debug", "info", "warning", "error"]

_WALL = datetime(2026, 11, 24, 19, 16, 11, 207000, UTC)
_TENANT = {"tenant": "ACME_PRD"}
_ION = {"fault": FaultOwner.ION.value, "hint": answers.BUSY.hint}


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log: when it is written, and what it looks like."""

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
    Event(
        "relay.started",
        "info",
        "the relay runs",
        {"version": "0.1.0", "relay": "host-7-4f2a", "outbox": "/var/lib/ion-relay/relay.db", "tenants": 2},
    ),
    Event(
        "outbox.created",
        "warning",
        "there was no outbox at this place; a new one was created",
        {
            "outbox": "/var/lib/ion-relay/relay.db",
            "reason": "there was no outbox at this place",
            "hint": "if it is not the first start, correct RELAY_OUTBOX__URL, or mount its folder",
        },
    ),
    Event(
        "relay.recovered",
        "warning",
        "the previous relay ended without settling its last posts",
        {
            "reason": "the relay before this one ended without settling its last posts",
            "detail": "at most 128 messages a tenant are sent again under the same message ids",
        },
    ),
    Event(
        "outbox.restored",
        "warning",
        "a backup was put in the place of the outbox: what was delivered since is sent again",
        {
            "reason": "the outbox is older than when a relay last used it: a backup was put in its place",
            "sent_again": 849,
            "detail": "849 messages that were delivered since are sent again under the same message ids, and "
            "what was in flight when the last relay ended, at most 128 messages a tenant",
        },
    ),
    Event(
        "outbox.endangered",
        "warning",
        "the outbox is in a place where it may be damaged or lost",
        {
            "reason": "the outbox /app/relay.db is in the container's own layer (overlay): it is deleted "
            "with the container",
            "hint": "put the outbox on a volume of the container, or on a local disk",
        },
    ),
    Event("relay.ended", "info", "the relay ended, and everything was settled"),
    Event(
        "relay.ended",
        "warning",
        "the relay ended at once, after a second signal",
        {"reason": "a second signal: posts in flight were cut"},
    ),
    Event(
        "relay.ended",
        "error",
        "the relay ended, and its last settlements could not be written to the outbox",
        {"reason": "3 settlements could not be written", "hint": "see above"},
    ),
    Event(
        "relay.cut",
        "warning",
        "the grace period ended with posts in flight",
        {"reason": "the grace ran out with posts in flight"},
    ),
    Event(
        "relay.gave_up",
        "error",
        "`relay run --until-empty --within SECONDS`: the time is up",
        {"reason": "not everything was delivered within 60 s"},
    ),
    Event(
        "setting.ignored",
        "warning",
        "a variable that has no effect: a misspelt `RELAY_…`, or OpenTelemetry's without the extra `otel`",
        {
            "setting": "RELAY_LOG__LEVL",
            "reason": "is not a setting of the relay",
            "hint": "did you mean RELAY_LOG__LEVEL?",
        },
    ),
    Event(
        "settings.reloaded",
        "info",
        "new settings are in use; the tenants that they changed or removed",
        {"changed": ["ACME_PRD"], "removed": []},
    ),
    Event(
        "settings.refused",
        "error",
        "the new settings, or a file in the tenants directory, are invalid; the previous ones stay in use",
        {
            "setting": "tenants/ACME_PRD.toml",
            "reason": "has no credentials",
            "hint": "set IONAPI_FILE, or ION_URL with OAUTH1__CONSUMER_KEY and OAUTH1__CONSUMER_SECRET",
        },
    ),
    Event(
        "incident.opened",
        "warning",
        "an incident caused by ION or the network",
        {
            "kind": "busy",
            "detail": "HTTP 503: under maintenance",
            **_ION,
        },
        _TENANT,
    ),
    Event(
        "incident.opened",
        "error",
        "an incident that needs an operator",
        {
            "kind": "outbox",
            "detail": "sqlite:///relay.db: the disk is full",
            "fault": FaultOwner.OUTBOX.value,
            "hint": "fix the cause; the relay retries automatically, nothing is lost",
        },
    ),
    Event(
        "incident.ongoing",
        "error",
        "the incident lasts: `count` since the last line, `total` and `seconds` since it opened",
        {
            "kind": "busy",
            "count": 4,
            "total": 9,
            "seconds": 120.0,
            "first": "HTTP 503: under maintenance",
            "last": "HTTP 503: under maintenance",
            **_ION,
        },
        _TENANT,
    ),
    Event(
        "incident.resolved",
        "info",
        "the incident is over: its duration, and the number of its errors",
        {"seconds": 187.402, "count": 11, "kinds": ["busy"], "last": "HTTP 503: under maintenance"},
        _TENANT,
    ),
    Event(
        "messages.delivered",
        "info",
        "the number of deliveries by document since the last such line",
        {"tenant": "ACME_PRD", "count": 1842, "documents": {"Sync.SalesOrder": 1800, "Sync.Shipment": 42}},
    ),
    Event(
        "message.delivered",
        "debug",
        "one delivery, with size and duration",
        {
            "tenant": "ACME_PRD",
            "document": "Sync.Shipment",
            "message_id": "37797f44d0b042d59ad21a0ac7e88099",
            "bytes": 1724,
            "seconds": 0.0312,
        },
    ),
    Event(
        "message.failing",
        "warning",
        "only this message fails, others are delivered; once for each message",
        {
            "message_id": "37797f44d0b042d59ad21a0ac7e88099",
            "document": "Sync.Shipment",
            "reason": "HTTP 403: an HTML page: Request Rejected",
            "hint": "check this document: others are delivered. It is tried again at growing distances, and "
            "parked in the end",
        },
        _TENANT,
    ),
    Event(
        "message.parked",
        "warning",
        "a message was parked and needs an operator",
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
        "`--until-empty`: the number of messages parked in this run",
        {"tenant": "ACME_PRD", "count": 2, "hint": "relay messages list --tenant ACME_PRD --state parked"},
    ),
    Event(
        "settlements.discarded",
        "warning",
        "the rows of these messages hold other messages now, which are left alone: the outbox was restored",
        {
            "count": 3,
            "tenants": ["ACME_PRD"],
            "message_ids": ["37797f44d0b042d59ad21a0ac7e88099"],
            "reason": "their rows hold other messages now",
            "hint": "if the outbox was restored, or another server took over, nothing is to be done: "
            "what is in it now is sent",
        },
    ),
    Event(
        "retention.hindered",
        "warning",
        "rows that are old enough cannot be deleted, or their payloads not purged; logged once an hour",
        {
            "count": 2,
            "row": 1042,
            "reason": "the outbox postgresql://relay@db/shop refused a row: update or delete on table "
            '"relay_outbox" violates foreign key constraint "invoice_message" on table "invoice" (23503)',
            "hint": "correct the trigger, constraint or foreign key; the other rows are deleted as usual",
        },
    ),
    Event(
        "documents.ignored",
        "warning",
        "ION's list of accepted documents has names that no message can have; the others are used",
        {
            "count": 1,
            "hint": "correct these names in ION Desk, or remove them from the connection point",
        },
    ),
    Event(
        "documents.withheld",
        "warning",
        "messages wait for these documents to be accepted by ION",
        {
            "count": 1,
            "documents": ["Sync.Shipment"],
            "hint": "add them to the connection point in ION Desk (sent by the application)",
        },
        _TENANT,
    ),
    Event(
        "documents.changed",
        "info",
        "ION accepts other documents than before",
        {"added": ["Sync.Shipment"], "removed": []},
        _TENANT,
    ),
    Event(
        "connections.limited",
        "warning",
        "the limit of open files allows fewer connections to ION than posts in flight; logged at the start",
        {
            "reason": "the limit of 64 open files leaves 20 connections to ION, not 256",
            "hint": "raise the limit: LimitNOFILE of the systemd unit, ulimit -n, or --ulimit nofile of the "
            "container",
        },
    ),
    Event(
        "outbox.watched",
        "info",
        "PostgreSQL: how new messages are found from now on: `notify` (by LISTEN) or `poll` (every half "
        "second); if `poll` is unexpected: [postgres.md](postgres.md)",
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
        "the oldest message has waited longer than `RELAY_WARN_AFTER_SECONDS`; logged once an hour",
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
        "of several relays on one outbox, this one owns the tenant from now on",
        {"tenant": "ACME_PRD"},
    ),
    Event(
        "tenant.released",
        "info",
        "another relay takes over the tenant, as soon as the posts in flight are settled here",
        {"tenant": "ACME_PRD"},
    ),
    Event(
        "outbox.changed",
        "warning",
        "a standby was promoted, a backup put back, or the tables made anew: what was read is read again",
        {
            "reason": "the file holds another outbox, or an earlier copy of this one",
            "hint": "check what applications committed last: what the new store does not have is not sent",
        },
    ),
    Event(
        "tenant.lost",
        "warning",
        "its lease ended, or another relay owns it: posts in flight are cut and repeated there, same ids",
        {"tenant": "ACME_PRD", "reason": "no heartbeat reached the outbox in time"},
    ),
    Event(
        "tenant.stuck",
        "error",
        "`--until-empty`: the remaining messages need an operator",
        {
            "tenant": "ACME_PRD",
            "reason": "not accepted by ION: Sync.Shipment",
            "hint": "relay status",
        },
    ),
    Event(
        "component.stuck",
        "error",
        "a component is stalled: it is restarted, the others continue",
        {"component": "tenant ACME_PRD", "seconds": 70.4, "hint": "it is restarted automatically; report it"},
    ),
    Event(
        "loop.blocked",
        "error",
        "the event loop is blocked, and where",
        {
            "seconds": 3.2,
            "where": "database.py:57 connect, in store.py:88 settle",
            "hint": "if it lasts, restart the relay; report the place",
        },
    ),
    Event("loop.freed", "info", "the event loop runs again"),
    Event(
        "clock.jumped",
        "warning",
        "the clock by which the outbox judges what is due and what is old went forward or back at once",
        {
            "seconds": 3600.2,
            "hint": "check the time synchronisation of the outbox' machine; `date` there, and `relay status`",
        },
    ),
    Event(
        "log.dropped",
        "warning",
        "lines before this one are missing: stderr could not be written for a while",
        {
            "lines": 1840,
            "hint": "let something read the log faster: what reads stderr had stopped, or its disk was full",
        },
    ),
    Event(
        "web.opened",
        "info",
        "the address that serves health, metrics and the page, or ION's own calls",
        {"setting": "RELAY_WEB__LISTEN", "address": "127.0.0.1:8480"},
    ),
    Event(
        "secrets.exposed",
        "warning",
        "at the start: a file with secrets that other users of the machine may read",
        {
            "setting": "RELAY_TENANTS__ACME_PRD__IONAPI_FILE",
            "reason": "names /etc/ion-relay/acme.ionapi, which every user of this machine may read "
            "(mode 0644)",
            "hint": "chmod o= /etc/ion-relay/acme.ionapi, and give it the group of the relay alone",
        },
    ),
    Event(
        "web.crowded",
        "warning",
        "connections are turned away, for there is room for probes alone; one line a minute",
        {
            "setting": "RELAY_WEB__LISTEN",
            "caller": "10.0.0.7",
            "turned_away": 1,
            "reason": "it has 100 connections",
            "hint": "find out what holds them open, and keep it from this port; probes are still answered",
        },
    ),
    Event(
        "session.opened",
        "info",
        "a token of the page was right, and a session began",
        {"role": "operator", "caller": "10.0.0.7"},
    ),
    Event(
        "session.closed",
        "info",
        "somebody signed out of the page",
        {"role": "operator", "caller": "10.0.0.7"},
    ),
    Event(
        "audit.skipped",
        "warning",
        "an entry that could not be written into the audit, since the outbox did not answer",
        {
            "who": "operator@10.0.0.7",
            "what": "sign-in",
            "reason": "the outbox postgresql://db.example/shop did not answer within 10 s; …",
        },
    ),
    Event(
        "component.crashed",
        "error",
        "a bug, with its traceback: the component is restarted, the others continue",
        {
            "component": "tenant ACME_PRD",
            "failures": 1,
            "exception": "Traceback (most recent call last):\n  …\nValueError: what was wrong",
        },
    ),
)
"""In the order in which an operator meets them; one for each level and each set of keys."""
