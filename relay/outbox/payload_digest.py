"""What is kept of a purged payload: enough to decide whether another one is the same.

`payload_size` is null while the payload is kept. Afterwards it is the payload's length, and the column
`payload` holds the SHA-256.
"""

import hashlib


def sha256(payload: bytes) -> bytes:
    """32 bytes, as PostgreSQL's function of this name gives them."""
    return hashlib.sha256(payload).digest()


def fingerprint(payload: bytes, size: int | None) -> tuple[int, bytes]:
    """Equal for the same payload, whether it is kept or not."""
    return (len(payload), sha256(payload)) if size is None else (size, payload)
