"""What a relay keeps of documents after their delivery."""

from relay.outbox.payload_digest import sha256
from relay.sandbox import Sandbox
from tests.e2e.conftest import GLOBEX
from tests.support.application import OutboxRow
from tests.support.process import Station


async def test_a_document_goes_with_its_delivery_where_that_is_wanted(
    sandbox: Sandbox, station: Station
) -> None:
    """ION got it whole; the outbox has its length and its digest, and what waits or is parked has all."""
    sandbox.faults(call="post", status=400, text="refused")
    station.application.insert_all([OutboxRow(GLOBEX, b"<delivered/>"), OutboxRow(GLOBEX, b"<refused/>")])
    async with station.relay(environment={"RELAY_RETENTION__PAYLOAD_DAYS": "0"}):
        await station.until(
            lambda: station.application.states() == {"delivered": 1, "parked": 1}, "one delivered, one parked"
        )
    rows = station.application.ask(
        "SELECT state, CAST(payload AS BLOB) AS payload, payload_size FROM relay_outbox ORDER BY id"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("delivered", sha256(b"<delivered/>"), len(b"<delivered/>")),
        ("parked", b"<refused/>", None),
    ]
    (taken,) = sandbox.messages()
    assert taken.digest == rows[0]["payload"]
    assert b"<delivered/>" not in station.application.path.read_bytes()


async def test_a_document_is_kept_where_nothing_else_is_said(sandbox: Sandbox, station: Station) -> None:
    station.application.insert_all([OutboxRow(GLOBEX, b"<delivered/>")])
    async with station.relay():
        await station.until_delivered()
    (row,) = station.application.ask(
        "SELECT CAST(payload AS BLOB) AS payload, payload_size FROM relay_outbox"
    )
    assert tuple(row.values()) == (b"<delivered/>", None)
