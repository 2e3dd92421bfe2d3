"""Instants as the PostgreSQL outbox keeps them: infinite ones too, from 4714 BC to the year 294276.

The driver's own codec fails for those that Python cannot hold, and the whole answer with them. In statements
the difference of an infinite instant is an error before PostgreSQL 17.
"""

from datetime import UTC, datetime, timedelta

from relay.outbox.postgres.connection import Connection
from relay.outbox.values import EARLIEST, LATEST

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


async def decode_all_instants(connection: Connection) -> None:
    """Have the connection give the nearest instant that Python can hold."""
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_encode, decoder=_decode, format="tuple"
    )


def seconds_until(column: str) -> str:
    """The seconds until the instant in the column, in a statement; negative where it has passed."""
    return (
        f"extract(epoch FROM least(greatest({column}, '{EARLIEST.isoformat()}'), '{LATEST.isoformat()}')"
        " - clock_timestamp())::float8"
    )


def _decode(microseconds: tuple[int]) -> datetime:
    try:
        return min(_EPOCH + microseconds[0] * _MICROSECOND, LATEST)
    except OverflowError:
        return LATEST if microseconds[0] > 0 else EARLIEST


def _encode(when: datetime) -> tuple[int]:
    return ((when - _EPOCH) // _MICROSECOND,)
