"""Each example does what it says."""

import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from subprocess import run
from xml.etree import ElementTree as ET

import pytest

from relay.config import settings
from relay.demo.workload import ACCEPTED, LATE, read_template
from relay.outbox import upgrade

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

TENANTS = {
    "RELAY_TENANTS__ACME_PRD__LOGICAL_ID": "lid://acme.orders.1",
    "RELAY_TENANTS__ACME_PRD__IONAPI_FILE": "acme.ionapi",
    "RELAY_TENANTS__GLOBEX_TST__LOGICAL_ID": "lid://globex.orders.1",
    "RELAY_TENANTS__GLOBEX_TST__IONAPI_FILE": "globex.ionapi",
}


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    upgrade(f"sqlite:///{tmp_path / 'shop.db'}")
    return tmp_path / "shop.db"


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def call(folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    own = {"PYTHONPATH": str(ROOT), **(environment or {})}
    done = run(
        [sys.executable, *words],
        cwd=folder,
        env=own,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_sql_hands_three_messages_over_and_a_second_time_only_two(outbox: Path) -> None:
    """The one with an id of its own is not there twice."""
    text = (EXAMPLES / "enqueue.sql").read_text()
    with closing(sqlite3.connect(outbox, isolation_level=None)) as connection:
        connection.executescript(text)
        connection.executescript(text)
    counted = rows(outbox, "SELECT document_name, message_id = 'orders-2025-100002-v1', state, count(*) "
                           "FROM relay_outbox GROUP BY 1, 2, 3 ORDER BY 1, 2")  # fmt: skip
    assert counted == [
        ("My_PurchaseOrder_JSON", 0, "pending", 2),
        ("Sync.SalesOrder", 0, "pending", 2),
        ("Sync.SalesOrder", 1, "pending", 1),
    ]


def test_the_application_stores_order_and_message_together(outbox: Path) -> None:
    code, out, err = call(outbox.parent, str(EXAMPLES / "enqueue.py"), "shop.db", "SO-100777")
    assert (code, err) == (0, "")
    ((message_id, key, payload),) = rows(outbox, "SELECT message_id, ordering_key, payload FROM relay_outbox")
    assert (out.strip(), key) == (message_id, "SO-100777")
    assert isinstance(payload, bytes)
    assert b"SO-100777" in payload
    assert ET.fromstring(payload).tag == "{http://schema.infor.com/InforOAGIS/2}SyncSalesOrder"
    assert rows(outbox, "SELECT number FROM orders") == [("SO-100777",)]


def test_an_order_that_is_refused_leaves_no_message(outbox: Path) -> None:
    """The same number twice: the second transaction is rolled back as a whole."""
    words = (str(EXAMPLES / "enqueue.py"), "shop.db", "SO-100777")
    assert [call(outbox.parent, *words)[0] for _ in range(2)] == [0, 1]
    assert rows(outbox, "SELECT count(*) FROM relay_outbox") == [(1,)]


def test_a_message_that_is_refused_leaves_no_order(outbox: Path) -> None:
    """A key that the outbox refuses: the order is rolled back with it."""
    code, _, err = call(outbox.parent, str(EXAMPLES / "enqueue.py"), "shop.db", "x" * 251)
    assert code == 1
    assert "ordering_key_is_null_or_1_to_250_printable_characters" in err
    assert rows(outbox, "SELECT count(*) FROM orders") == [(0,)]


def test_the_ndjson_file_is_handed_over_whole(outbox: Path) -> None:
    environment = {**TENANTS, "RELAY_OUTBOX__URL": f"sqlite:///{outbox}"}
    words = ("-m", "relay", "enqueue", "--ndjson", str(EXAMPLES / "messages.ndjson"))
    code, out, err = call(outbox.parent, *words, environment=environment)
    assert (code, err) == (0, f"outbox: {outbox}\n")
    stored = rows(outbox, "SELECT message_id, document_name, payload FROM relay_outbox ORDER BY id")
    assert out.split() == [message_id for message_id, _, _ in stored]
    assert [name for _, name, _ in stored] == [
        "Sync.SalesOrder",
        "My_PurchaseOrder_JSON",
        "Sync.ReceiveDelivery",
    ]
    assert stored[2][2] == b"<SyncReceiveDelivery/>"


def test_the_settings_file_is_valid_and_has_no_unknown_name(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text((EXAMPLES / "relay.toml").read_text())
    read = settings.load({}, directory=tmp_path)
    assert read.unknown == ()
    assert sorted(read.tenants) == ["ACME_PRD", "GLOBEX_TST"]
    assert read.tenants["GLOBEX_TST"].on_rejected == "stop"
    assert read.outbox.url == "sqlite:////var/lib/relay/outbox.db"


def test_the_documents_of_the_examples_are_those_that_the_demo_sends() -> None:
    """One copy: what the package carries is what a reader finds here."""
    names = {path.stem for path in (EXAMPLES / "documents").iterdir()}
    assert names == {*ACCEPTED, LATE}
    for path in (EXAMPLES / "documents").iterdir():
        assert path.read_text("utf-8") == read_template(path.stem)
