"""HTTP/1.1 as bytes: the head of a request, and a reader of its response that trusts nothing in it.

Pure: bytes in, values out (RFC 9112). Every part of a response is bounded: its head, the interim answers
before it, its body, its trailers. What cannot be read raises `NotHttpError`, which says where.
"""

import re
from collections.abc import Mapping
from enum import Enum

MAX_HEAD = 64 * 1024
"""Bytes of a response before its body, interim answers included; of its trailers; of a chunk's size line."""
MAX_FIELDS = 1000
MAX_INTERIM = 16
"""Interim answers (1xx) before the final one."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) +([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*([^\r\n\x00]*?)[ \t]*\r?\n")
_HEAD_END = re.compile(rb"\n\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LENGTH = re.compile(r"[0-9]{1,15}")
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SUCCESSES = 2
_NO_BODY = frozenset({101, 204, 304})


class NotHttpError(Exception):
    """What is wrong with a response, for people."""


class _Step(Enum):
    HEAD = "head"
    LENGTH = "length"
    CHUNK_SIZE = "chunk size"
    CHUNK = "chunk"
    CHUNK_END = "chunk end"
    TRAILERS = "trailers"
    UNTIL_END = "until the end"
    DONE = "done"


def request_head(method: str, target: str, host: str, fields: Mapping[str, str]) -> bytes:
    """The bytes before a request's body. Raises ValueError where a field cannot be sent as it is."""
    if any(_UNSAFE.search(value) for value in fields.values()):
        raise ValueError("a header of the request has a control character")
    lines = [f"{name}: {value}\r\n" for name, value in fields.items()]
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{''.join(lines)}\r\n".encode("latin-1")


class ResponseReader:
    """Reads one response. `limit`: bytes of its body that are wanted; what is longer is not read further.

    `is_tunnel`: it is the answer to CONNECT: behind a success nothing is HTTP any more.
    """

    def __init__(self, limit: int, *, is_tunnel: bool = False) -> None:
        self._limit, self._is_tunnel = limit, is_tunnel
        self._buffer = bytearray()
        self._step = _Step.HEAD
        self._left = self._before_body = self._interim = 0
        self._body: list[bytes] = []
        self._size = 0
        self.status = 0
        """Of the final answer; 0 until its first line is known."""
        self.fields: dict[str, str] = {}
        """By lower-case name; of several with one name the first."""
        self.is_complete = True
        """Whether the body was not longer than the limit."""
        self.is_reusable = False
        """Whether another request may follow on the connection."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to be read."""
        return self._step is _Step.DONE

    @property
    def has_begun(self) -> bool:
        """Whether any byte came."""
        return bool(self._before_body or self._buffer or self.status)

    @property
    def is_success(self) -> bool:
        """Whether the final answer is a 2xx."""
        return self.status // 100 == _SUCCESSES

    @property
    def body(self) -> bytes:
        """What was read of the body, at most `limit` bytes."""
        return self._body[0] if len(self._body) == 1 else b"".join(self._body)

    def feed(self, data: bytes) -> None:
        """The next bytes of the connection."""
        self._buffer += data
        while self._buffer and self._step is not _Step.DONE and self._advance():
            pass
        if self._step is _Step.DONE and self._buffer:  # nothing was asked for that it could answer
            self.is_reusable = False

    def end(self) -> None:
        """The connection ended."""
        if self._step is _Step.UNTIL_END:
            self._step = _Step.DONE
        elif self._step is not _Step.DONE:
            raise NotHttpError("the connection ended before the answer did")

    def _advance(self) -> bool:
        """Read one part of what is there; False: more bytes are needed."""
        match self._step:
            case _Step.HEAD:
                return self._read_head()
            case _Step.LENGTH | _Step.CHUNK | _Step.UNTIL_END:
                return self._read_content()
            case _Step.CHUNK_SIZE:
                return self._read_chunk_size()
            case _Step.CHUNK_END:
                return self._read_chunk_end()
            case _:
                return self._read_trailers()

    # --- the head -------------------------------------------------------------------------------------

    def _read_head(self) -> bool:
        buffer = self._buffer
        line = _STATUS_LINE.match(buffer)
        if line is None and (b"\n" in buffer or not _may_become_http(buffer)):
            raise NotHttpError("it is not HTTP/1.1")
        if line is not None and (line[2][0] != 0x31 or line[2] == b"101"):
            self.status = int(line[2])
        end = _HEAD_END.search(buffer, line.end() - 1) if line is not None else None
        if self._before_body + (len(buffer) if end is None else end.end()) > MAX_HEAD:
            raise NotHttpError(f"more than {MAX_HEAD // 1024} KiB before its body")
        if line is None or end is None:
            return False
        head, is_1_1 = bytes(buffer[line.end() : end.end()]), line[1] == b"1"
        self._before_body += end.end()
        del buffer[: end.end()]  # the matches show the buffer as it is: nothing is read from them after this
        if not self.status:
            return self._skip_interim()
        self._begin_body(_read_fields(head), is_1_1)
        return True

    def _skip_interim(self) -> bool:
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise NotHttpError(f"more than {MAX_INTERIM} interim answers")
        return True

    def _begin_body(self, fields: dict[str, list[str]], is_1_1: bool) -> None:
        self.fields = {name: values[0] for name, values in fields.items()}
        options = _tokens(fields.get("connection", []))
        self.is_reusable = "close" not in options and (is_1_1 or "keep-alive" in options)
        codings = _tokens(fields.get("transfer-encoding", []))
        length = _read_length(fields.get("content-length", []))
        if self._is_tunnel and self.is_success:
            self._step, self.is_reusable = _Step.DONE, True
        elif self.status in _NO_BODY:
            self._step = _Step.DONE
            self.is_reusable = self.is_reusable and self.status in (204, 304)
        elif codings and codings[-1] == "chunked":
            self._step = _Step.CHUNK_SIZE
            self.is_reusable = self.is_reusable and length is None
        elif codings or length is None:
            self._step, self.is_reusable = _Step.UNTIL_END, False
        else:
            self._left = length
            self._step = _Step.LENGTH if length else _Step.DONE

    # --- the body -------------------------------------------------------------------------------------

    def _read_content(self) -> bool:
        buffer = self._buffer
        whole = len(buffer) if self._step is _Step.UNTIL_END else min(self._left, len(buffer))
        wanted = min(whole, self._limit - self._size)
        if wanted:
            self._body.append(bytes(buffer[:wanted]))
            self._size += wanted
        if wanted < whole:
            self.is_complete = self.is_reusable = False
            self._step = _Step.DONE
            buffer.clear()
            return True
        del buffer[:whole]
        self._left -= whole
        if self._left == 0 and self._step is not _Step.UNTIL_END:
            self._step = _Step.DONE if self._step is _Step.LENGTH else _Step.CHUNK_END
        return True

    def _read_chunk_size(self) -> bool:
        line = _CHUNK_SIZE.match(self._buffer)
        if line is None:
            if b"\n" in self._buffer or len(self._buffer) > MAX_HEAD:
                raise NotHttpError("a chunk of its body has no readable size")
            return False
        self._left = int(line[1], 16)
        del self._buffer[: line.end()]
        self._step = _Step.CHUNK if self._left else _Step.TRAILERS
        return True

    def _read_chunk_end(self) -> bool:
        start = bytes(self._buffer[:2])
        if start == b"\r":
            return False
        if start != b"\r\n" and start[:1] != b"\n":
            raise NotHttpError("a chunk of its body is longer than its size")
        del self._buffer[: start.index(b"\n") + 1]
        self._step = _Step.CHUNK_SIZE
        return True

    def _read_trailers(self) -> bool:
        if self._buffer.startswith((b"\r\n", b"\n")):
            end = self._buffer.index(b"\n") + 1
        elif found := _HEAD_END.search(self._buffer):
            end = found.end()
        elif len(self._buffer) > MAX_HEAD:
            raise NotHttpError(f"more than {MAX_HEAD // 1024} KiB after its body")
        else:
            return False
        del self._buffer[:end]
        self._step = _Step.DONE
        return True


def _may_become_http(buffer: bytearray) -> bool:
    """Whether what has come of a first line may still be one."""
    start = b"HTTP/1."
    return buffer[: len(start)] == start[: len(buffer)]


def _read_fields(head: bytes) -> dict[str, list[str]]:
    """The fields of a head that ends in an empty line; a folded one is joined."""
    fields: dict[str, list[str]] = {}
    place, count, last = 0, 0, None
    while head[place : place + 2] != b"\r\n" and head[place : place + 1] != b"\n":
        count += 1
        if count > MAX_FIELDS:
            raise NotHttpError(f"more than {MAX_FIELDS:,} header lines")
        line = _FIELD.match(head, place)
        if line is not None:
            last = fields.setdefault(line[1].decode("ascii").lower(), [])
            last.append(line[2].decode("latin-1"))
            place = line.end()
        elif last is not None and head[place : place + 1] in (b" ", b"\t"):
            end = head.index(b"\n", place) + 1
            last[-1] = f"{last[-1]} {head[place:end].strip().decode('latin-1')}"
            place = end
        else:
            raise NotHttpError("a header line that cannot be read")
    return fields


def _tokens(values: list[str]) -> list[str]:
    return [token for value in values for one in value.split(",") if (token := one.strip().lower())]


def _read_length(values: list[str]) -> int | None:
    """The length of the body; equal ones are one."""
    lengths = {one.strip() for value in values for one in value.split(",")}
    if not lengths:
        return None
    if len(lengths) > 1:
        raise NotHttpError("two different Content-Lengths")
    (length,) = lengths
    if not _LENGTH.fullmatch(length):
        raise NotHttpError("a Content-Length that is no number")
    return int(length)
