"""Compressed bodies of responses: some servers compress in spite of `Accept-Encoding: identity`.

Pure, and bounded: a few bytes can be made to grow to gigabytes.
"""

import zlib

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_MAX_ENCODINGS = 3


def decoded(body: bytes, encodings: str | None, limit: int) -> tuple[bytes, bool]:
    """The body before its encodings (RFC 9110, section 8.4), and whether it is not longer than the limit.

    What cannot be decoded is left as it is: then it is a body that cannot be read.
    """
    names = [
        name for one in (encodings or "").lower().split(",") if (name := one.strip()) != "identity" and name
    ]
    if not names or len(names) > _MAX_ENCODINGS:
        return body, True
    found, is_whole = body, True
    for name in reversed(names):
        decompressed = _decompressed(found, limit) if name in ("gzip", "x-gzip", "deflate") else None
        if decompressed is None:
            return body, True
        found, is_whole = decompressed[:limit], is_whole and len(decompressed) <= limit
    return found, is_whole


def _decompressed(body: bytes, limit: int) -> bytes | None:
    """At most limit + 1 bytes; None: it is not compressed so, or was cut. Some send deflate without frame."""
    for format_ in (_GZIP_OR_ZLIB, _RAW):
        decompressor = zlib.decompressobj(format_)
        try:
            found = decompressor.decompress(body, limit + 1)
        except zlib.error:
            continue
        return found if decompressor.eof or len(found) > limit else None
    return None
