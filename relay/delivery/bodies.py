"""The bodies of large messages: the memory first, then the payload is read and the body built."""

import asyncio

from relay.core.byte_budget import BODY_COPIES, SEND_BUFFER
from relay.core.fair_share import TenantShare
from relay.core.model import Message, RowId
from relay.core.ports import LARGE_PAYLOAD, EncodedPost
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.tasks import Tasks
from relay.delivery.unsendable import content_reason


class Bodies:
    """One tenant's bodies. Those of small messages are built from what was prefetched."""

    def __init__(self, rules: TenantRules, context: TenantContext, tasks: Tasks) -> None:
        self._rules, self._context, self._memory = rules, context, context.memory.bodies
        self._share = TenantShare(tasks.wake)
        self._taken: dict[RowId, int] = {}

    def begin(self, message: Message) -> bool:
        """Take the memory that the message needs; False: there is not enough now."""
        if message.size <= LARGE_PAYLOAD:
            return True
        size = BODY_COPIES * message.size
        if not self._memory.begin(self._share, size):
            return False
        self._taken[message.row] = size
        return True

    async def build(self, message: Message) -> EncodedPost | str | None:
        """The body, or why it can never be sent; None: the message is not in the outbox as it was read."""
        if message.size <= LARGE_PAYLOAD:
            reason = content_reason(message, self._rules)
            return await self._context.ion.encode(message) if reason is None else reason
        outbox, liveness = self._context.outbox, self._context.telemetry.liveness
        liveness.idle()  # while the outbox fails, it is the outbox that is reported
        whole = await self._context.outbox_retry.ask(lambda: outbox.message(message.row, message.size))
        liveness.begin()
        if whole is None or whole.message_id != message.message_id or whole.size > message.size:
            return None
        is_quick = self._rules.check == "off"
        reason = (
            content_reason(whole, self._rules)
            if is_quick
            else await asyncio.to_thread(content_reason, whole, self._rules)
        )
        if reason is not None:
            return reason
        encoded = await self._context.ion.encode(whole)
        size = len(encoded.data)
        self._keep(message, size + min(size, SEND_BUFFER))  # the payload is not needed any more
        return encoded

    def end(self, message: Message) -> None:
        """The message was answered, or not sent."""
        if message.size > LARGE_PAYLOAD:
            self._keep(message, 0)
            del self._taken[message.row]

    def rest(self) -> None:
        """Leave memory that cannot be used now to another tenant."""
        if self._share.granted:
            self._memory.rest(self._share)

    def wait_no_more(self) -> None:
        """No body is built for now."""
        self._memory.rest(self._share)

    def leave(self) -> None:
        """No post is in flight any more."""
        self._memory.leave(self._share)

    def _keep(self, message: Message, size: int) -> None:
        taken = self._taken[message.row]
        self._taken[message.row] = kept = min(size, taken)
        self._memory.end(self._share, taken - kept)
