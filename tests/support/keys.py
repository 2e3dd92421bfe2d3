"""Settling what a test knows by its row alone."""

from collections.abc import Iterable

from relay.core.admin import Filter, Record
from relay.core.model import MessageKey, RowId, Settlement
from relay.core.ports import NotSettled, Store


def key_of(record: Record) -> MessageKey:
    """What a settlement of it names."""
    return MessageKey(record.row, record.tenant_id, record.message_id)


async def settle_rows(store: Store, pairs: Iterable[tuple[RowId, Settlement]]) -> NotSettled:
    """Settle whatever messages the rows hold now."""
    keys = {record.row: key_of(record) for record in await store.find(Filter(), 100_000)}
    return await store.settle([(keys[row], settlement) for row, settlement in pairs])
