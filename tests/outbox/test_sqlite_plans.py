"""The cost of the outbox's statements on SQLite: none scans a backlog that is not selected."""

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from relay.core.activity import EVERYONE, MINUTES, Activity, ActivityKey
from relay.core.admin import Filter
from relay.core.model import DocumentName, OrderingKey, TenantId
from relay.outbox import upgrade
from relay.outbox.sqlite import (
    activity,
    admin_queries,
    audit,
    bulk,
    due,
    retention,
    selection,
    settle,
    tenants,
)
from relay.outbox.sqlite.database import connect
from relay.outbox.values import WINDOW, PendingFilter
from tests.support.costs import steps

ACME = TenantId("ACME")
MANY = 20_000


@pytest.fixture(scope="module")
def piled_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A tenant with a backlog of each kind that must be stepped over, then a few rows that are wanted."""
    path = tmp_path_factory.mktemp("plans") / "relay.db"
    upgrade(f"sqlite:///{path}")
    with contextlib.closing(connect(path)) as connection:
        connection.execute("BEGIN")
        for document, key, state in (
            ("A", None, "delivered"), ("Unaccepted", None, "pending"), ("Unaccepted", "k", "pending"),
            ("A", None, "pending"), ("A", "held", "pending"),
        ):  # fmt: skip
            connection.executemany(
                "INSERT INTO relay_outbox (tenant_id, document_name, payload, ordering_key, state, settled_at) "
                "VALUES ('ACME', ?, x'00', ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
                [(document, key, state)] * MANY,
            )
        connection.executemany(
            "INSERT INTO relay_outbox (tenant_id, document_name, payload, ordering_key) VALUES ('ACME', ?, x'00', ?)",
            [(document, f"free{i}") for document, i in product(("A", "B"), range(10))],
        )
        connection.execute("COMMIT")
        yield connection


def pending(*held: str | None, limit: int = 10) -> PendingFilter:
    return PendingFilter(
        frozenset(None if key is None else OrderingKey(key) for key in held), frozenset(), limit
    )


def test_a_backlog_that_is_not_accepted_costs_nothing(piled_up: sqlite3.Connection) -> None:
    with steps(piled_up) as count:
        found = due.due(piled_up, ACME, {DocumentName("B")}, pending(), 1000)
    assert len(found) == 10
    assert count[0] < 50


def test_a_backlog_without_a_key_that_is_held_costs_nothing(piled_up: sqlite3.Connection) -> None:
    with steps(piled_up) as count:
        found = due.due(piled_up, ACME, {DocumentName("B")}, pending(None), 1000)
    assert len(found) == 10
    assert count[0] < 50


def test_a_held_lane_that_has_piled_up_costs_a_window_only(piled_up: sqlite3.Connection) -> None:
    with steps(piled_up) as count:
        found = due.due(piled_up, ACME, {DocumentName("A")}, pending(None, "held"), 1000)
    assert [message.ordering_key for message in found] == [f"free{i}" for i in range(10)]
    examined = count[0] * 100
    assert examined < WINDOW * 30 < MANY * 30


def test_the_next_of_a_large_backlog_cost_what_the_next_of_a_small_one_do(
    piled_up: sqlite3.Connection,
) -> None:
    with steps(piled_up) as count:
        assert len(due.due(piled_up, ACME, {DocumentName("A")}, pending(), 1000)) == 10
    assert count[0] < 50


def test_notification_documents_and_counts_step_over_the_rows(piled_up: sqlite3.Connection) -> None:
    with steps(piled_up) as count:
        assert tenants.notification(piled_up).pending == {ACME}
        assert due.documents(piled_up, ACME) == {"A", "B", "Unaccepted"}
        assert admin_queries.counts(piled_up)[ACME].pending == 4 * MANY + 20
    assert count[0] < 100


def test_finding_parked_and_dropped_messages_steps_over_the_rest(piled_up: sqlite3.Connection) -> None:
    with steps(piled_up) as count:
        assert admin_queries.find(piled_up, Filter(tenant=ACME, state="parked"), 10) == []
        assert admin_queries.find(piled_up, Filter(state="dropped"), 10) == []
        assert len(admin_queries.find(piled_up, Filter(state="pending"), 10)) == 10
        assert len(admin_queries.find(piled_up, Filter(tenant=ACME), 10)) == 10
    assert count[0] < 100


def test_the_ages_of_the_queue_examine_so_many_rows_and_no_more(piled_up: sqlite3.Connection) -> None:
    with steps(piled_up) as count:
        queues = admin_queries.queue_ages(piled_up, None, 50)
        assert [(queue.document, sum(queue.counts), queue.more) for queue in queues] == [
            ("A", 50, True), ("B", 10, False), ("Unaccepted", 50, True),
        ]  # fmt: skip
    assert count[0] < 300


def test_a_preview_examines_only_what_is_selected(piled_up: sqlite3.Connection) -> None:
    with steps(piled_up) as count:
        seen = admin_queries.preview(piled_up, "park", Filter(ACME, DocumentName("B")), 5)
        assert (seen.total, len(seen.sample)) == (10, 5)
        assert admin_queries.preview(piled_up, "retry", Filter(state="parked"), 5).total == 0
    assert count[0] < 100


def test_pruning_what_is_not_old_enough_costs_nothing(piled_up: sqlite3.Connection) -> None:
    with steps(piled_up) as count:
        assert retention.settled_long_ago(piled_up, None, 86400, 100) == []
    assert count[0] < 10


STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": sql
    for module in (due, settle, retention, tenants, admin_queries, selection, bulk, audit)
    for name, sql in vars(module).items()
    if isinstance(sql, str) and re.match(r"\s*(SELECT|WITH|UPDATE|INSERT|DELETE)\b", sql)
}
SCANS_ON_PURPOSE = {
    "admin_queries._COUNTS": "a row a tenant",
    "audit._NEWEST": "from the newest on, so many",
    "audit._PRUNE": "from the oldest on, so many",
    "audit._ABANDON": "the running actions",
    "tenants._PENDING": "the first step of the walk from tenant to tenant: one row",
    "tenants._CONTROLS": "a row a tenant",
    "tenants._STATES": "a row a relay, then a row a tenant",
    "tenants._CLEAR_STATES": "a row a tenant",
    "tenants._RELAYS": "a row a relay",
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_scans_a_table(piled_up: sqlite3.Connection, name: str) -> None:
    sql = STATEMENTS[name]
    numbered = sql.count("?") and max([int(n) for n in re.findall(r"\?(\d+)", sql)] or [sql.count("?")])
    values: Any = (None,) * numbered if numbered else dict.fromkeys(re.findall(r":(\w+)", sql))
    plan = [row[3] for row in piled_up.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    scans = [
        step
        for step in plan
        if re.match(r"SCAN (?!found|lane|head|json_each|CONSTANT|\(|.*VIRTUAL TABLE)", step)
    ]
    assert (scans != []) == (name in SCANS_ON_PURPOSE), plan


def test_the_settlement_of_a_group_goes_by_row_id(piled_up: sqlite3.Connection) -> None:
    plan = [
        row[3]
        for row in piled_up.execute(
            f"EXPLAIN QUERY PLAN {STATEMENTS['settle._DELIVERED']}", (json.dumps([1, 2]),)
        )
    ]
    assert "SEARCH relay_outbox USING INTEGER PRIMARY KEY (rowid=?)" in plan


# --- counts by time ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(piled_up: sqlite3.Connection) -> sqlite3.Connection:
    """Two hundred tenants that were busy all the time that minutes are kept."""
    now = time.time()
    for back in range(MINUTES.kept // 60):
        start = MINUTES.start(now) - 60 * back
        names = [EVERYONE, *(TenantId(f"T{number}") for number in range(200))]
        keys = (ActivityKey("a", MINUTES, start, name) for name in names)
        activity.record(piled_up, dict.fromkeys(keys, Activity(delivered=1)))
    return piled_up


def hour() -> list[int]:
    return [MINUTES.start(time.time()) - 60 * back for back in range(60)]


def test_the_hour_of_one_tenant_is_found_whatever_others_did(recorded: sqlite3.Connection) -> None:
    with steps(recorded) as count:
        found = activity.activity(recorded, MINUTES, hour(), [TenantId("T7"), EVERYONE])
    assert len(found) >= 118
    assert count[0] < 100


def test_deliveries_of_some_tenants_are_found_whatever_others_did(recorded: sqlite3.Connection) -> None:
    with steps(recorded) as count:
        found = activity.deliveries(recorded, MINUTES, hour(), [TenantId("T7"), TenantId("T8")])
    assert len(found) == 2
    assert count[0] < 100


def test_deleting_old_counts_never_looks_at_the_others(recorded: sqlite3.Connection) -> None:
    old = MINUTES.start(time.time()) - MINUTES.kept - 3600
    activity.record(recorded, {ActivityKey("a", MINUTES, old, ACME): Activity()})
    with steps(recorded) as count:
        assert activity.prune(recorded, 10) == 1
    assert count[0] < 50


def test_what_waits_is_noted_without_counting_messages(recorded: sqlite3.Connection) -> None:
    with steps(recorded) as count:
        activity.record_waiting(recorded, time.time())
    assert count[0] < 50
