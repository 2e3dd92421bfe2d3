"""HTTP/1.1 as bytes: the head of a request, and a reader of its response that trusts nothing in it.

Pure: bytes in, values out (RFC 9112). Every part of a response is bounded: its head, the interim answers
before it, its body, its trailers. What cannot be read raises `NotHttpError`, which says where.
"""

import re
from collections.abc import Callable, Mapping

MAX_HEAD = 64 * 1024
"""Bytes of a response before its body, interim answers included; of its trailers; of a chunk's size line."""
MAX_FIELDS = 1000
MAX_INTERIM = 16
"""Interim answers (1xx) before the final one."""
MAX_CHUNK_LINES = 256 * 1024
"""Bytes of the size lines of all chunks: tiny chunks, and what is written beside their sizes, are work."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) +([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:([^\r\n\x00]*)\r?\n")
_HEAD_END = re.compile(rb"\n\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LENGTH = re.compile(r"[0-9]{1,15}")
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_UNSAFE_IN_LINE = re.compile(r"[\x00-\x20\x7f]")
_SUCCESSES = 2
_NO_BODY = frozenset({101, 204, 304})


class NotHttpError(Exception):
    """What is wrong with a response, for people."""


def request_head(method: str, target: str, host: str, fields: Mapping[str, str]) -> bytes:
    """The bytes before a request's body. Raises ValueError where one of them cannot be sent as it is."""
    if _UNSAFE_IN_LINE.search(target + host) or any(_UNSAFE.search(value) for value in fields.values()):
        raise ValueError("the URL or a header of the request has a character that cannot be sent")
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    first = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n".encode("ascii")
    return first + f"{lines}\r\n".encode("latin-1")


class ResponseReader:
    """Reads one response. `limit`: bytes of its body that are wanted; what is longer is not read further.

    `is_tunnel`: it is the answer to CONNECT: behind a success nothing is HTTP any more.
    """

    def __init__(self, limit: int, *, is_tunnel: bool = False) -> None:
        self._limit, self._is_tunnel = limit, is_tunnel
        self._buffer = bytearray()
        self._searched = 0
        """Where the search for the end of a line or a head goes on: bytes that come singly cost no more."""
        self._read_part: Callable[[], bool] | None = self._read_head
        """Reads the next part of what is there; False: more bytes are needed. None: it is done."""
        self._line_end, self._is_1_1 = 0, False
        self._left = self._before_body = self._interim = self._chunk_lines = 0
        self._body = bytearray()
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
        return self._read_part is None

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
        return bytes(self._body)

    def feed(self, data: bytes) -> None:
        """The next bytes of the connection."""
        self._buffer += data
        while self._buffer and self._read_part is not None and self._read_part():
            pass
        if self._read_part is None and self._buffer:  # nothing was asked for that it could answer
            self.is_reusable = False

    def end(self) -> None:
        """The connection ended."""
        if self._read_part == self._read_until_end:
            self._read_part = None
        elif self._read_part is not None:
            raise NotHttpError("the connection ended before the answer did")

    # --- the head -------------------------------------------------------------------------------------

    def _read_head(self) -> bool:
        buffer = self._buffer
        if not self._line_end:
            self._read_first_line()
        found = _HEAD_END.search(buffer, self._searched) if self._line_end else None
        end = found.end() if found is not None else 0
        if self._before_body + (end or len(buffer)) > MAX_HEAD:
            raise NotHttpError(f"more than {MAX_HEAD // 1024} KiB before its body")
        if not end:
            self._searched = max(0, len(buffer) - 2)
            return False
        head = bytes(buffer[self._line_end : end])
        del buffer[:end]
        self._before_body += end
        self._searched = self._line_end = 0
        if not self.status:
            return self._skip_interim()
        self._begin_body(_read_fields(head))
        return True

    def _read_first_line(self) -> None:
        """As soon as it is there: it says something even if the rest never comes, or cannot be read."""
        end = self._buffer.find(b"\n", self._searched) + 1
        line = _STATUS_LINE.match(self._buffer) if end else None
        if line is None:
            if end or not _may_become_http(self._buffer):
                raise NotHttpError("it is not HTTP/1.1")
            return
        self._line_end, self._is_1_1 = end, line[1] == b"1"
        if line[2][0] != 0x31 or line[2] == b"101":
            self.status = int(line[2])

    def _skip_interim(self) -> bool:
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise NotHttpError(f"more than {MAX_INTERIM} interim answers")
        return True

    def _begin_body(self, fields: dict[str, list[str]]) -> None:
        self.fields = {name: values[0] for name, values in fields.items()}
        options = _tokens(fields.get("connection", []))
        self.is_reusable = "close" not in options and (self._is_1_1 or "keep-alive" in options)
        codings = [one for one in _tokens(fields.get("transfer-encoding", [])) if one != "identity"]
        length = _read_length(fields.get("content-length", []))
        if self._is_tunnel and self.is_success:
            self._read_part, self.is_reusable = None, True
        elif self.status in _NO_BODY:
            self._read_part = None
            self.is_reusable = self.is_reusable and self.status in (204, 304)
        elif codings and codings[-1] == "chunked":
            self._read_part = self._read_chunk_size
            self.is_reusable = self.is_reusable and length is None
        elif codings or length is None:
            self._read_part, self.is_reusable = self._read_until_end, False
        else:
            self._left = length
            self._read_part = self._read_length if length else None

    # --- the body -------------------------------------------------------------------------------------

    def _read_length(self) -> bool:
        self._read_content(min(self._left, len(self._buffer)), then=None)
        return True

    def _read_chunk(self) -> bool:
        self._read_content(min(self._left, len(self._buffer)), then=self._read_chunk_end)
        return True

    def _read_until_end(self) -> bool:
        self._left = len(self._buffer) + 1  # it is never the last byte
        self._read_content(len(self._buffer), then=None)
        return True

    def _read_content(self, size: int, then: Callable[[], bool] | None) -> None:
        """So many bytes of the body. `then`: the next part, once none is left."""
        wanted = min(size, self._limit - len(self._body))
        self._body += self._buffer[:wanted]
        if wanted < size:
            self.is_complete = self.is_reusable = False
            self._read_part = None
            self._buffer.clear()
            return
        del self._buffer[:size]
        self._left -= size
        if not self._left:
            self._read_part = then

    def _read_chunk_size(self) -> bool:
        buffer = self._buffer
        end = buffer.find(b"\n", self._searched) + 1
        line = _CHUNK_SIZE.match(buffer) if end else None
        if line is None:
            if end or len(buffer) > MAX_HEAD:
                raise NotHttpError("a chunk of its body has no readable size")
            self._searched = len(buffer)
            return False
        self._chunk_lines += end
        if self._chunk_lines > MAX_CHUNK_LINES:
            raise NotHttpError(f"more than {MAX_CHUNK_LINES // 1024} KiB of chunk sizes in its body")
        self._left = int(line[1], 16)
        del buffer[:end]
        self._searched = 0
        self._read_part = self._read_chunk if self._left else self._read_trailers
        return True

    def _read_chunk_end(self) -> bool:
        start = bytes(self._buffer[:2])
        if start == b"\r":
            return False
        if start != b"\r\n" and start[:1] != b"\n":
            raise NotHttpError("a chunk of its body is longer than its size")
        del self._buffer[: start.index(b"\n") + 1]
        self._read_part = self._read_chunk_size
        return True

    def _read_trailers(self) -> bool:
        if self._buffer.startswith((b"\r\n", b"\n")):
            end = self._buffer.index(b"\n") + 1
        elif found := _HEAD_END.search(self._buffer, self._searched):
            end = found.end()
        elif len(self._buffer) > MAX_HEAD:
            raise NotHttpError(f"more than {MAX_HEAD // 1024} KiB after its body")
        else:
            self._searched = max(0, len(self._buffer) - 2)
            return False
        del self._buffer[:end]
        self._read_part = None
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
            last.append(line[2].decode("latin-1").strip(" \t"))
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
    texts = {one.strip() for value in values for one in value.split(",")}
    if not all(map(_LENGTH.fullmatch, texts)):
        raise NotHttpError("a Content-Length that is no number")
    lengths = set(map(int, texts))
    if len(lengths) > 1:
        raise NotHttpError("two different Content-Lengths")
    return lengths.pop() if lengths else None
