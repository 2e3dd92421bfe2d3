"""Answers written byte by byte to a request's connection, below the server's own way of sending.

What goes over the wire is computed by `frame`; `send_raw` writes it and ends the connection as asked.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from http import HTTPStatus
from itertools import chain, repeat

from aiohttp import web

from relay.sandbox.fault_spec import Wire

_LONG_HEADER = 9_000
_MANY_HEADERS = 300
_BLOCK = 16 * 1024
_GARBAGE = b"\x00\xffnot an answer\r\n\r\n"
_TICK = 0.05
"""Seconds between two pieces of an answer that is written slowly."""

CLOSED = frozenset(
    {
        "malformed-header", "unequal-lengths", "cut-head", "close", "http10", "header-bomb", "endless-body",
        "reset-after",
    }
)  # fmt: skip
"""After these the connection is closed."""


class _Sent(web.StreamResponse):
    """Tells the server that the answer was written, and whether the connection may be used again."""

    def __init__(self, status: int, *, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._may_be_used_again = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to write."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""

    @property
    def keep_alive(self) -> bool:
        """Whether another request may come on this connection."""
        return self._may_be_used_again


def frame(status: int, headers: Mapping[str, str], body: bytes, wire: Wire | None) -> Iterator[bytes]:
    """The bytes of the answer; without end for floods, `header-bomb` and `endless-body`."""
    version = "1.0" if wire == "http10" else "1.1"
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
    first = f"HTTP/{version} {status} {phrase}\r\n".encode()
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    length = b"Content-Length: %d\r\n" % len(body)
    match wire:
        case "flood-100" | "flood-103":
            return repeat(_interim(wire) * 200)
        case "interim-100" | "interim-103":
            return iter([_interim(wire), first + fields + length + b"\r\n" + body])
        case "cut-head":
            return iter([first + fields[: len(fields) // 2]])
        case "header-bomb":
            return chain([first], repeat(b"X-Bomb: " + b"x" * _BLOCK + b"\r\n"))
        case "endless-body":
            head = first + fields + b"Transfer-Encoding: chunked\r\n\r\n"
            return chain([head], repeat(b"%x\r\n%s\r\n" % (_BLOCK, b"x" * _BLOCK)))
        case "chunked":
            return iter([first + fields + _chunked(body)])
        case _:
            return iter(
                [first + fields + _odd_fields(wire, len(body), length) + b"\r\n" + body + _behind(wire)]
            )


def _odd_fields(wire: Wire | None, size: int, length: bytes) -> bytes:
    """The header fields at the end of the head, where the length of the body stands too."""
    match wire:
        case "long-header":
            return length + b"X-Long: " + b"x" * _LONG_HEADER + b"\r\n"
        case "many-headers":
            return length + b"".join(b"X-Header-%d: x\r\n" % number for number in range(_MANY_HEADERS))
        case "equal-lengths":
            return length + length
        case "unequal-lengths":
            return length + b"Content-Length: %d\r\n" % (size + 1)
        case "malformed-header":
            return length + b"this line has no colon\r\n"
        case "close":
            return length + b"Connection: close\r\n"
        case "http10":
            return b""
        case _:
            return length


def _behind(wire: Wire | None) -> bytes:
    return _GARBAGE if wire == "garbage" else b""


def _interim(wire: str) -> bytes:
    if wire.endswith("100"):
        return b"HTTP/1.1 100 Continue\r\n\r\n"
    return b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


def _chunked(body: bytes) -> bytes:
    """The rest of the head and the body in chunks of at most 7 bytes, with a trailer."""
    pieces = (body[place : place + 7] for place in range(0, len(body), 7))
    chunks = b"".join(b"%x;part=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return (
        b"Transfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n" + chunks + b"0\r\nX-Checksum: 1\r\n\r\n"
    )


async def send_raw(
    request: web.BaseRequest,
    status: int,
    frames: Iterator[bytes],
    wire: Wire | None,
    rate: float | None,
    delay: Callable[[float], Awaitable[None]],
) -> web.StreamResponse:
    """Write the frames. `rate`: bytes per second, or as fast as the client reads; `delay` waits."""
    async for piece in pace(frames, rate, delay):
        # nothing of a head was handed to the server's writer, so it passes the bytes on as they are
        await request.writer.write(piece)
        await request.writer.drain()
        await asyncio.sleep(0)  # an answer without end must leave a turn to everything else
    if wire == "reset-after":
        reset(request)
    return _Sent(status, keep_alive=wire not in CLOSED)


async def pace(
    frames: Iterator[bytes], rate: float | None, delay: Callable[[float], Awaitable[None]]
) -> AsyncIterator[bytes]:
    """The frames, cut into pieces that make `rate` bytes per second."""
    for block in frames:
        if rate is None:
            yield block
            continue
        size = max(1, int(rate * _TICK))
        for place in range(0, len(block), size):
            piece = block[place : place + size]
            yield piece
            await delay(len(piece) / rate)


async def read_paced(
    request: web.BaseRequest, rate: float, delay: Callable[[float], Awaitable[None]]
) -> AsyncIterator[bytes]:
    """The request's body at `rate` bytes per second: the kernel keeps little, so the client feels it."""
    _shrink_receive_buffer(request)
    size = max(1, int(rate * _TICK))
    while piece := await request.content.read(size):
        yield piece
        await delay(len(piece) / rate)


def reset(request: web.BaseRequest) -> None:
    """End the connection by a reset (RST) instead of an orderly end."""
    if request.transport is None:
        return
    if (connection := request.transport.get_extra_info("socket")) is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


def _shrink_receive_buffer(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None and (connection := transport.get_extra_info("socket")) is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BLOCK)
