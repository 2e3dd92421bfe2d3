"""Makes a change of the outbox once, even if the outbox' answer to it is lost.

A commit whose answer is lost is no failure: the change may be there. It is looked for, or repeated in a way
that changes nothing twice, until that is known or LOOK_SECONDS have passed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from relay.cli import output
from relay.core.ports import StoreError

if TYPE_CHECKING:
    from relay.core.admin import AuditAction, AuditEntry, BulkAction
    from relay.core.model import AuditId, TenantId
    from relay.core.ports import Store

LOOK_SECONDS = 30.0
"""No further look begins after this time: a fail-over is over by then, or an operator is needed."""

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 4.0
_AUDIT_ENTRIES = 50
"""How far back a look goes: the entries that others made at the same time."""

T = TypeVar("T")


async def make_once(change: Callable[[], Awaitable[T]], again: Callable[[], Awaitable[T]] | None = None) -> T:
    """The change's result. `again`: what repeats it without effect if it was made; None: itself.

    Raises StoreError; with `answer_lost` it is not known whether the change was made.
    """
    try:
        return await change()
    except StoreError as error:
        if not error.answer_lost:
            raise
        lost = error
    output.print_note("relay: the answer of the outbox was lost; looking whether the change was made")
    end, wait = time.monotonic() + LOOK_SECONDS, _FIRST_WAIT
    while time.monotonic() < end:
        await asyncio.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)
        try:
            made = await (again or change)()
        except StoreError as error:
            lost = error
        else:
            output.print_note("relay: the change was made, once")
            return made
    raise StoreError(str(lost), answer_lost=True) from lost


# --- changes that are in the audit --------------------------------------------------------------------------


async def act_once(
    outbox: "Store",
    act: Callable[[], Awaitable[None]],
    what: "AuditAction",
    tenant: "TenantId",
    who: str,
    reason: str = "",
) -> None:
    """Pause, resume or ask: repeated only where the audit does not have it."""
    look = await _look(
        outbox,
        lambda entry: (entry.what, entry.tenant, entry.who, entry.reason) == (what, tenant, who, reason),
    )

    async def again() -> None:
        if await look() is None:
            await act()

    await make_once(act, again)


async def begin_once(outbox: "Store", action: "BulkAction") -> "AuditId":
    """Begin a bulk action: repeated only where the audit does not have it."""
    from relay.outbox.bulk import summary

    wanted = (action.what, action.wanted.tenant, action.who, action.reason, summary(action.wanted))
    look = await _look(
        outbox,
        lambda entry: (entry.what, entry.tenant, entry.who, entry.reason, entry.selection) == wanted,
    )

    async def again() -> "AuditId":
        found = await look()
        return await outbox.begin(action) if found is None else found

    return await make_once(lambda: outbox.begin(action), again)


async def _look(
    outbox: "Store", is_meant: "Callable[[AuditEntry], bool]"
) -> "Callable[[], Awaitable[AuditId | None]]":
    """Looks for an entry that is newer than this moment."""
    newest = await outbox.audit(1)
    before = newest[0].id if newest else 0

    async def look() -> "AuditId | None":
        entries = await outbox.audit(_AUDIT_ENTRIES)
        return next((entry.id for entry in entries if entry.id > before and is_meant(entry)), None)

    return look
