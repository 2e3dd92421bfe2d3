"""A row never breaks its tenant: every value that a column admits, to a running relay and to every view of it.

The message beside an odd one is delivered; the odd one is delivered, parked with a reason, or waits for what the
views name; each view shows it by its id, without a traceback and without a 500. The long form tries thousands.
"""

import asyncio
import contextlib
import html
import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from relay.cli import main
from relay.core.admin import BulkAction, Filter, Record
from relay.core.model import MessageId, RowId, TenantId
from relay.core.ports import Store
from relay.outbox import open_outbox, upgrade
from relay.sandbox import Sandbox, SandboxTenant
from tests.conftest import LONG
from tests.support.application import ORDER
from tests.support.odd_rows import (
    COLUMNS,
    OddPostgres,
    OddSqlite,
    OddStore,
    literal,
    postgres_at_version,
    rows,
    sqlite_at_version,
    values_of,
)
from tests.support.postgres import Cluster
from tests.support.process import RelayProcess, Station
from tests.web.hostile import Caller

ACME = TenantId("ACME_PRD")
STATES = ("pending", "delivered", "parked", "dropped")
TEXTUAL = frozenset({"document_name", "message_id", "to_logical_id", "ordering_key", "reason"})
"""Columns that are tried with the same texts: the short form looks at each fourth of their rows alone."""

MARK = re.compile(r'name="mark" value="([\w-]+)"')


@dataclass
class Bench:
    """A relay that runs on an outbox with odd rows, and all ways to look at it."""

    station: Station
    odd: OddStore
    running: RelayProcess | None = None
    opened: Store | None = None
    callers: Caller | None = None
    cookie: str = ""
    mark: str = ""
    number: int = 0
    tried: Counter[str] = field(default_factory=Counter)
    admitted: Counter[str] = field(default_factory=Counter)
    column_of: dict[int, str] = field(default_factory=dict)
    views: Counter[str] = field(default_factory=Counter)

    @property
    def relay(self) -> RelayProcess:
        """The one that runs."""
        assert self.running is not None
        return self.running

    @property
    def store(self) -> Store:
        """The outbox, opened here."""
        assert self.opened is not None
        return self.opened

    @property
    def caller(self) -> Caller:
        """A browser."""
        assert self.callers is not None
        return self.callers

    # --- rows -------------------------------------------------------------------------------------------

    async def insert(self, columns: Mapping[str, str], *, column: str = "any") -> int | None:
        """An odd row, alone in its lane unless it has a key; its id, or None where the store refuses it."""
        self.number += 1
        unset = {
            "tenant_id": literal(ACME),
            "document_name": literal(ORDER),
            "message_id": literal(f"odd-{self.number}"),
            "ordering_key": literal(f"odd-{self.number}"),
            "payload": "'x'" if self.odd.kind == "sqlite" else "'x'::bytea",
        }
        row = await self.odd.insert({**unset, **columns})
        self.tried[column] += 1
        self.admitted[column] += row is not None
        if row is not None:
            self.column_of[row] = column
        return row

    async def deliver_another(self) -> None:
        """A good message, inserted last, is delivered."""
        self.number += 1
        good = {
            "tenant_id": literal(ACME),
            "document_name": literal(ORDER),
            "message_id": literal(f"good-{self.number}"),
        }
        good |= {"ordering_key": literal(f"good-{self.number}"), "payload": "'<good/>'"}
        row = await self.odd.insert(good)
        assert row is not None
        await self.until_state(row, "delivered")

    async def until_state(self, row: int, *states: str) -> None:
        """Wait until it is in one of them."""
        async with asyncio.timeout(30):
            while (await self.odd.ask(f"SELECT state FROM relay_outbox WHERE id = {row}"))[0][
                0
            ] not in states:
                assert self.relay.running
                await asyncio.sleep(0.01)

    # --- views ------------------------------------------------------------------------------------------

    async def command(self, *words: str) -> str:
        """A command in this process, on a thread; what it printed."""
        self.views[" ".join(words[:2]) if words[0] in {"messages", "tenants"} else words[0]] += 1
        return await asyncio.to_thread(self._command, words)

    def _command(self, words: Sequence[str]) -> str:
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main(words)
        assert ended.value.code == 0, (words, err.getvalue()[-2000:])
        assert "Traceback" not in err.getvalue()
        return out.getvalue()

    async def page(self, path: str, status: int = 200) -> str:
        """A page as a browser gets it."""
        self.views["GET " + path.partition("?")[0].replace(ACME, "T")] += 1
        found, text = await self.caller.ask("GET", path, Cookie=self.cookie)
        assert found == status, (path, text[-3000:], self.relay.tail())
        return text

    async def ready(self, path: str) -> None:
        """Wait until the relay is ready: for a moment it is not where the store is slow to begin a write."""
        self.views[f"GET {path}"] += 1
        async with asyncio.timeout(30):
            while (answer := await self.caller.ask("GET", path))[0] != 200:
                assert answer[0] == 503
                await asyncio.sleep(0.05)

    async def form(self, path: str, **fields: str) -> str:
        """A form that is sent; the page that follows."""
        self.views[f"POST {path}"] += 1
        found, text = await self.caller.post(path, {**fields, "mark": self.mark}, Cookie=self.cookie)
        assert found in {200, 303}, (path, fields, text[-3000:])
        return text

    async def come_in(self) -> None:
        """A session of the page."""
        _, text = await self.caller.ask("GET", f"/tenants/{ACME}")
        cookie = re.search(r"relay_session=[\w-]+", text)
        assert cookie
        self.cookie = cookie[0]
        found = MARK.search(await self.page(f"/tenants/{ACME}"))
        assert found
        self.mark = found[1]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox([SandboxTenant(ACME, "lid://acme.orders.1", [ORDER], auth="oauth1")]) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgres"])
async def odd(
    request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OddStore]:
    """An outbox of the schema's version 3, on each store; commands in this process use it."""
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        sqlite_at_version(tmp_path / "odd.db", 3)
        yield OddSqlite(tmp_path / "odd.db")
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    name = await cluster.create()
    await postgres_at_version(cluster.url_of(name), 3)
    yield OddPostgres(cluster.url_of(name))
    await cluster.drop(name)


@pytest.fixture
def bench(odd: OddStore, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """What is done with it."""
    station = Station(tmp_path, {"RELAY_WEB__LISTEN": "127.0.0.1:0"})
    station.environment |= sandbox.environment(tmp_path) | {"RELAY_OUTBOX__URL": odd.url}
    for name, text in station.environment.items():
        if name.startswith("RELAY_"):
            monkeypatch.setenv(name, text)
    return Bench(station, odd)


@contextlib.asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Store]:
    """The outbox is brought up to date, and a relay runs on it, with its page."""
    await asyncio.to_thread(upgrade, bench.odd.url)
    store = await open_outbox(bench.odd.url, notify=False)
    try:
        async with bench.station.relay() as relay:
            opened = await bench.station.event(relay, "web.opened")
            host, _, port = opened["address"].rpartition(":")
            bench.running, bench.opened, bench.callers = relay, store, Caller(host, int(port))
            await bench.deliver_another()
            await bench.come_in()
            yield store
            assert "Traceback" not in relay.text, relay.tail()
            assert not relay.said("component.failed"), relay.tail()
    finally:
        await store.close()


# --- one row, in every view ---------------------------------------------------------------------------------


async def look_at(bench: Bench, row: int) -> None:
    """Every view of one message."""
    ((raw, tenant),) = await bench.odd.ask(
        f"SELECT message_id, upper(tenant_id) FROM relay_outbox WHERE id = {row}"
    )
    message_id = str(raw)
    found = await bench.store.show(MessageId(message_id), TenantId(tenant))
    (record,) = (one for one in found if one.row == row)  # ids that are not UTF-8 are read alike
    async with asyncio.timeout(20):  # the relay writes its state once a second
        while not is_explained(record, shown := await shown_by_command(bench, record)):
            assert shown["state"] == record.state, shown
            await asyncio.sleep(0.1)
    path = f"/message?tenant={tenant}&id={quote(message_id, safe='')}"
    assert html.escape(message_id).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in await bench.page(
        path
    )
    await bench.form("/message/document", tenant=tenant, id=message_id)
    await bench.form("/messages/preview", what="retry", tenant=tenant, id=message_id, state="")
    found = await bench.store.find(Filter(ids=(MessageId(message_id),), tenant=TenantId(tenant)), 10)
    assert row in [one.row for one in found]
    document = None if "\ufffd" in record.document_name else record.document_name
    found = await bench.store.find(Filter(TenantId(tenant), document, record.state), 1, RowId(row - 1))
    assert [one.row for one in found] == [row]
    if record.state == "pending":
        await bench.store.before(record, "key", (), 10)
        await bench.store.before(record, "tenant", (), 10)


async def shown_by_command(bench: Bench, record: Record) -> dict[str, Any]:
    """What `relay messages show --json` prints."""
    words = ("messages", "show", "--tenant", record.tenant_id)
    await bench.command(*words, "--", record.message_id)
    found = json.loads(await bench.command(*words, "--json", "--", record.message_id))
    shown: list[dict[str, Any]] = found if isinstance(found, list) else [found]
    assert {one["message_id"] for one in shown} == {record.message_id}
    return next(one for one in shown if one["state"] == record.state)


def is_explained(record: Record, shown: Mapping[str, Any]) -> bool:
    """Whether it was delivered or parked with a reason, or the views name what it waits for."""
    if record.state == "parked":
        return bool(record.reason) or not record.history  # an application may park without a reason
    rules = {wait["rule"] for wait in shown["waits_for"]}
    return record.state != "pending" or bool(rules & {"back-off", "not-accepted", "lane", "unconfigured"})


async def look_at_all(bench: Bench) -> None:
    """Every view that is not of one message."""
    for words in (
        ("status",), ("queue",), ("queue", "--by", "document"), ("queue", "--tenant", ACME), ("next",), ("audit",),
        ("messages", "list", "--limit", "5000"), ("tenants", "list"), ("tenants", "show", ACME),
        *(("messages", "list", "--state", state) for state in STATES),
    ):  # fmt: skip
        await bench.command(*words)
        json.loads(await bench.command(*words, "--json"))
    for path in ("/", "/?all", f"/tenants/{ACME}", "/messages?state=", "/messages?state=pending", "/audit", "/metrics",
                 "/livez"):  # fmt: skip
        await bench.page(path)
    for path in ("/healthz", "/readyz"):
        await bench.ready(path)
    query = "/messages?state="
    while following := re.search(r'href="([^"]+)" rel="next"', await bench.page(query)):
        query = html.unescape(following[1])
    listed = json.loads(await bench.command("messages", "list", "--limit", "100000", "--json"))
    (count,) = await bench.odd.ask("SELECT count(*) FROM relay_outbox")
    assert len(listed) == count[0], "each row is in the list"


async def act_on(bench: Bench, row: int) -> None:
    """An operator can park, drop and retry whatever waits or is parked."""
    found = await bench.odd.ask(
        f"SELECT message_id, upper(tenant_id), state FROM relay_outbox WHERE id = {row}"
    )
    if not found:  # it was not copied
        return
    ((message_id, tenant, state),) = found
    wanted = Filter(TenantId(tenant), ids=(MessageId(message_id),))
    if state == "pending":
        assert await bench.store.decide(BulkAction("park", wanted, "ann", "odd")) >= 1
    if state in {"pending", "parked"}:
        assert await bench.store.decide(BulkAction("drop", wanted, "ann", "odd")) >= 1


# --- the tests ----------------------------------------------------------------------------------------------


async def test_each_value_that_a_column_ever_admitted_is_borne(
    bench: Bench, request: pytest.FixtureRequest
) -> None:
    """One odd value a row, written before version 4 limited the columns; also copied into another outbox."""
    inserted = await insert_each(bench)
    async with running(bench):
        await settled(bench, inserted)
        for row in inserted:
            if LONG or row % 4 == 0 or bench.column_of[row] not in TEXTUAL:
                await look_at(bench, row)
        await look_at_all(bench)
    async with another_outbox(bench, request) as target:
        for _ in ("copied", "resumed"):
            done = json.loads(await bench.command("outbox", "copy", bench.odd.url, target, "--json"))
            assert done["complete"]
            assert sum(done["from"].values()) == sum(done["to"].values()) > 100
    async with running(bench):
        for row in inserted:
            await act_on(bench, row)
        await look_at_all(bench)
        assert await bench.store.prune(0.0, 100_000) > 0
    report(bench)


async def test_each_value_that_a_column_still_admits_is_borne(bench: Bench) -> None:
    """The same by rows that arrive while the relay runs."""
    async with running(bench):
        inserted = await insert_each(bench)
        await bench.deliver_another()
        await settled(bench, inserted)
        for row in inserted[:: 1 if LONG else 5]:
            await look_at(bench, row)
            await act_on(bench, row)
        await look_at_all(bench)
        await bench.deliver_another()
    report(bench)


async def insert_each(bench: Bench) -> list[int]:
    """The ids of the rows that the outbox admits."""
    found = [
        await bench.insert({column: value}, column=column)
        for column in COLUMNS
        for value in values_of(bench.odd, column)
    ]
    return [row for row in found if row is not None]


@contextlib.asynccontextmanager
async def another_outbox(bench: Bench, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of an empty one on the other store."""
    if bench.odd.kind == "postgres":
        yield f"sqlite:///{bench.station.folder}/copy.db"
        return
    for column in ("document_name", "message_id", "ordering_key"):  # what PostgreSQL never admitted
        await bench.odd.ask(f"DELETE FROM relay_outbox WHERE {column} GLOB '*' || char(133) || '*'")
    cluster: Cluster = request.getfixturevalue("postgres")
    async with cluster.outbox() as url:
        yield url


async def settled(bench: Bench, inserted: Sequence[int]) -> None:
    """Wait until nothing is due any more of what this tenant may send now."""
    now = {"sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')", "postgres": "now()"}[bench.odd.kind]
    due = (
        "SELECT id, message_id, document_name FROM relay_outbox WHERE state = 'pending' AND upper(tenant_id) = 'ACME_PRD'"
        f" AND document_name = '{ORDER}' AND (not_before IS NULL OR not_before <= {now})"
    )
    async with asyncio.timeout(60):
        while left := [row for row in await bench.odd.ask(due) if row[0] in set(inserted)]:
            assert bench.relay.running, left
            await asyncio.sleep(0.05)


async def test_any_values_in_any_columns_are_borne(bench: Bench) -> None:
    """Random ones, several columns of a row at a time."""
    loop = asyncio.get_running_loop()

    async def check(batch: Sequence[Mapping[str, str]]) -> None:
        found = [row for row in [await bench.insert(columns) for columns in batch] if row is not None]
        await bench.deliver_another()
        await settled(bench, found)
        for row in found:
            await look_at(bench, row)
            await act_on(bench, row)
        await look_at_all(bench)

    @settings(
        max_examples=200 if LONG else 4,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(rows(bench.odd), min_size=20, max_size=20))
    def property_(batch: Sequence[Mapping[str, str]]) -> None:
        asyncio.run_coroutine_threadsafe(check(batch), loop).result(300)

    async with running(bench):
        await asyncio.to_thread(property_)
    report(bench)


# --- the relay's own tables ---------------------------------------------------------------------------------

FACTS: Mapping[str, Mapping[str, str]] = {
    "relay_history": {"what": "'parked'", "detail": "'x'"},
    "relay_audit": {
        "who": "'ann'",
        "what": "'retry'",
        "selection": "'x'",
        "reason": "'x'",
        "outcome": "'done'",
    },
    "relay_tenants": {"revision": "1", "state": "'sending'", "reason": "'x'"},
    "relay_relays": {"token": "'x'", "details": "'{}'"},
    "relay_counts": {"pending": "1", "delivered": "1", "parked": "1", "dropped": "1"},
}
"""What an odd row has besides the odd value."""


async def test_each_value_in_the_relays_own_tables_is_shown(bench: Bench) -> None:
    """An older or a later relay, or an application, may have written any of them."""
    async with running(bench):
        (message, name), *_ = await bench.odd.ask("SELECT id, message_id FROM relay_outbox")
        (relay,), *_ = await bench.odd.ask("SELECT relay FROM relay_relays")
        for table, facts in FACTS.items():
            columns = await bench.odd.ask(bench.odd.columns_of(table))
            for (column,) in columns:
                for value in values_of(bench.odd, kind_of(column)):
                    bench.number += 1
                    keys = {
                        "relay_history": {
                            "message_row" if bench.odd.kind == "postgres" else "row": str(message)
                        },
                        "relay_tenants": {"tenant_id": f"'T{bench.number}'", "relay": literal(relay)},
                        "relay_relays": {"relay": f"'r{bench.number}'"},
                        "relay_audit": {"outcome": "'running'" if column in {"what", "wanted"} else "'done'"},
                        "relay_counts": {"tenant_id": f"'T{bench.number}'"},
                    }.get(table, {})
                    row = await bench.odd.insert({**facts, **keys, column: value}, table)
                    bench.tried[f"{table}.{column}"] += 1
                    bench.admitted[f"{table}.{column}"] += row is not None
            await bench.command("messages", "show", name)
            await bench.page(f"/message?tenant={ACME}&id={name}")
            await look_at_all(bench)
        entries = json.loads(await bench.command("audit", "--limit", "100000", "--json"))
        for entry in entries:
            await bench.page(f"/audit/{entry['id']}")
            await bench.form(f"/audit/{entry['id']}/go-on")
        await bench.deliver_another()
    report(bench)


def kind_of(column: str) -> str:
    """The column of `relay_outbox` whose values are tried in this one."""
    if column.endswith("_at") or column in {"at", "since", "next_try"}:
        return "settled_at"
    if column in {"details", "documents", "wanted"}:
        return "parameters"
    if column == "id":
        return column
    is_number = column in {"row", "message_row", "revision", "messages", "reached", *STATES}
    return "payload_size" if is_number else "reason"


def report(bench: Bench) -> None:
    """The figures, with `-s`."""
    columns = ", ".join(f"{name} {bench.admitted[name]}/{number}" for name, number in bench.tried.items())
    views = ", ".join(f"{name} {number}" for name, number in sorted(bench.views.items()))
    print(f"\n{bench.odd.kind}: values admitted of tried: {columns}\n  views: {views}")  # noqa: T201
