"""Faults on the wire: what a client's socket gets, byte by byte."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import get_args
from urllib.parse import urlsplit

import pytest

from relay.sandbox import Sandbox
from relay.sandbox.fault_spec import Wire
from relay.sandbox.raw_answers import frame, pace
from tests.sandbox.client import BOUNDARY, IonClient, framed, parameters, two_parts

_ENDLESS = {"flood-100", "flood-103", "header-bomb", "endless-body"}


class _Connection:
    """A connection of its own to the simulator, that posts and reads raw bytes."""

    def __init__(self, client: IonClient) -> None:
        self._client = client

    async def open(self) -> None:
        address = urlsplit(self._client.sandbox.url)
        self.reader, self._writer = await asyncio.open_connection(address.hostname, address.port)

    async def begin_post(self, size: int) -> None:
        """Send a post's head."""
        path = urlsplit(f"{self._client.base}/v3/multipartMessage").path
        token = await self._client.authorization("POST", "")
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nX-TenantId: ACME_PRD\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {size}\r\n\r\n".encode()
        )

    async def post(self, payload: bytes = b"<SyncSalesOrder/>") -> None:
        body = framed(two_parts(parameters(self._client.tenant.logical_id), payload))
        await self.begin_post(len(body))
        self._writer.write(body)
        await self._writer.drain()

    @property
    def unsent(self) -> int:
        """Bytes that the kernel did not take yet."""
        return self._writer.transport.get_write_buffer_size()

    def close(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
async def raw(acme: IonClient) -> AsyncIterator[_Connection]:
    await acme.ping()
    connection = _Connection(acme)
    await connection.open()
    yield connection
    connection.close()


@pytest.mark.parametrize("wire", sorted(set(get_args(Wire)) - _ENDLESS - {"reset-after"}))
async def test_the_answer_to_a_post_is_on_the_wire_as_it_was_framed(
    sandbox: Sandbox, raw: _Connection, wire: str
) -> None:
    sandbox.faults(call="post", wire=wire)
    await raw.post()
    body = b'{"status":"OK","code":202}'
    expected = b"".join(frame(202, {"Content-Type": "application/json"}, body, wire))  # type: ignore[arg-type]
    assert await raw.reader.readexactly(len(expected)) == expected
    assert len(sandbox.messages()) == 1


@pytest.mark.parametrize("wire", sorted(_ENDLESS))
async def test_an_answer_without_end_leaves_a_turn_to_the_others_and_ends_with_the_client(
    sandbox: Sandbox, acme: IonClient, raw: _Connection, wire: str
) -> None:
    sandbox.faults(call="post", wire=wire)
    await raw.post()
    await raw.reader.readexactly(1_000_000)
    assert (await acme.ping()).status == 200
    raw.close()
    await sandbox.until(lambda: "went away" in sandbox.messages()[0].outcome)


async def test_a_reset_follows_the_answer(sandbox: Sandbox, raw: _Connection) -> None:
    sandbox.faults(call="post", wire="reset-after")
    await raw.post()
    with pytest.raises(ConnectionResetError):
        await raw.reader.read()
    assert len(sandbox.messages()) == 1


@pytest.mark.parametrize("wire", ["cut-head", "close", "http10", "malformed-header", "unequal-lengths"])
async def test_the_connection_is_closed_behind_these(sandbox: Sandbox, raw: _Connection, wire: str) -> None:
    sandbox.faults(call="post", wire=wire)
    await raw.post()
    assert (await raw.reader.read()).startswith(b"HTTP/1.")


@pytest.mark.parametrize("wire", ["chunked", "close", "http10", "interim-100", "interim-103"])
async def test_an_ordinary_client_reads_the_harmless_ones_of_every_call(
    sandbox: Sandbox, acme: IonClient, wire: str
) -> None:
    sandbox.faults(wire=wire)
    await acme.initialise()
    assert (await acme.post()).json == {"status": "OK", "code": 202}
    assert sandbox.violations == []


async def test_the_connection_is_used_again_behind_a_raw_answer(sandbox: Sandbox, raw: _Connection) -> None:
    sandbox.faults(call="post", wire="chunked", count=1)
    await raw.post()
    await raw.reader.readuntil(b"X-Checksum: 1\r\n\r\n")
    await raw.post()
    assert (await raw.reader.readline()).startswith(b"HTTP/1.1 202")


async def test_wire_goes_with_any_status_and_body(sandbox: Sandbox, raw: _Connection) -> None:
    sandbox.faults(call="post", status=400, body="gateway-error", wire="interim-103", retry_after=7)
    await raw.post()
    got = await raw.reader.readuntil(b"}")
    assert b"HTTP/1.1 400 Bad Request\r\n" in got
    assert b"Retry-After: 7\r\n" in got
    assert sandbox.messages() == []


# --- early, slow -----------------------------------------------------------------------------------


async def test_an_early_answer_comes_before_the_body(sandbox: Sandbox, raw: _Connection) -> None:
    sandbox.faults(call="post", status=413, early=True)
    await raw.begin_post(1_000_000)
    assert (await raw.reader.readline()).startswith(b"HTTP/1.1 413")
    assert sandbox.messages() == []


async def test_a_slow_reader_takes_its_time_and_then_the_message(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.ping()
    fault = sandbox.faults(call="post", read_rate=1_000_000)
    began = time.monotonic()
    assert (await acme.post(payload=b"x" * 300_000)).status == 202
    assert time.monotonic() - began >= 0.25
    assert (fault.applied, len(sandbox.messages())) == (1, 1)


async def test_a_slow_reader_holds_up_who_sends(sandbox: Sandbox, acme: IonClient, raw: _Connection) -> None:
    """Or its kernel would take 5 MB at once, and the client see no slow uplink."""
    fault = sandbox.faults(call="post", read_rate=1)
    posting = asyncio.create_task(raw.post(b"x" * 5_000_000))
    for _ in range(50):
        await acme.ping()
    assert fault.applied == 1
    assert raw.unsent > 0
    posting.cancel()


async def test_an_answer_can_trickle(sandbox: Sandbox, raw: _Connection) -> None:
    sandbox.faults(call="post", write_rate=1)
    await raw.post()
    assert await raw.reader.read(100) == b"H"
    assert len(sandbox.messages()) == 1


async def test_a_pace_waits_for_what_it_wrote() -> None:
    waits: list[float] = []

    async def delay(seconds: float) -> None:
        waits.append(seconds)

    pieces = [piece async for piece in pace(iter([b"x" * 250]), 1000.0, delay)]
    assert (b"".join(pieces), round(sum(waits), 6)) == (b"x" * 250, 0.25)


async def test_a_rate_beside_an_answer_is_applied_together_with_it(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="post", read_rate=1_000_000, status=503)
    sandbox.faults(call="post", status=429)
    assert (await acme.post()).status == 503
    assert json.loads((await acme.post()).body)["code"] == 503
