"""Asks ION for acceptedDocuments; repeatedly while messages wait for documents that are not accepted."""

import asyncio
from collections.abc import Callable

from relay.core.accepted_documents import PollSchedule, similar_name
from relay.core.model import DocumentName
from relay.core.replies import Accepted, Answer
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.tasks import Tasks

_IGNORED_HINT = "correct these names in ION Desk, or remove them from the connection point"
_HINT = "add them to the connection point in ION Desk (sent by the application)"

_MAX_SUGGESTIONS = 5
_MAX_NAMED = 20
"""Names in a line of the log; `count` has them all."""


class DocumentPoll:
    """One tenant's poll. `answered` is called with each answer, `ended` at the end of each poll."""

    def __init__(
        self,
        rules: TenantRules,
        context: TenantContext,
        tasks: Tasks,
        answered: Callable[[Answer], None],
        ended: Callable[[], None],
    ) -> None:
        self._context, self._tasks, self._answered, self._ended = context, tasks, answered, ended
        self._schedule = PollSchedule(rules.schedule, context.chance)
        self._is_polling = False
        self._ignored = 0
        self._compared: tuple[frozenset[DocumentName], frozenset[DocumentName]] | None = None
        self.suggestions = ""
        """Which accepted documents were probably meant by those that are not; empty where none is similar."""

    async def ask(self) -> Answer:
        """What ION accepts; a warning when the number of names that no message can have changes."""
        answer = await self._context.ion.accepted_documents()
        if isinstance(answer, Accepted) and answer.ignored != self._ignored:
            self._ignored = answer.ignored
            if answer.ignored:
                self._context.telemetry.log.warning(
                    "documents.ignored", count=answer.ignored, hint=_IGNORED_HINT
                )
        return answer

    def update(
        self,
        unaccepted: frozenset[DocumentName],
        accepted: frozenset[DocumentName],
        now: float,
        *,
        may_poll: bool,
    ) -> None:
        """The first have messages and are not accepted: log the new ones, and poll when it is time."""
        if self._compared != (unaccepted, accepted):
            self._compared = unaccepted, accepted
            self.suggestions = _suggestions(unaccepted, accepted)
        new = self._schedule.update(unaccepted, now)
        if new:
            hint = f"{self.suggestions} or {_HINT}" if self.suggestions else _HINT
            named = sorted(new)[:_MAX_NAMED]
            log = self._context.telemetry.log
            log.warning("documents.withheld", count=len(new), documents=named, hint=hint)
        if may_poll and not self._is_polling and self._schedule.is_due(now):
            self._is_polling = True
            self._tasks.start(self._poll(), self._end_poll)

    def poll_now(self) -> None:
        """An operator acted: where documents wait, poll at once."""
        self._schedule.poll_now()

    @property
    def next_poll(self) -> float | None:
        """When the next poll begins; None where none is planned."""
        return None if self._is_polling else self._schedule.next_poll

    async def _poll(self) -> None:
        answer = await self.ask()
        self._schedule.polled(asyncio.get_running_loop().time())
        self._answered(answer)

    def _end_poll(self) -> None:
        self._is_polling = False
        self._ended()


def _suggestions(unaccepted: frozenset[DocumentName], accepted: frozenset[DocumentName]) -> str:
    pairs = [(one, similar_name(one, accepted)) for one in sorted(unaccepted)[:_MAX_SUGGESTIONS]]
    return " ".join(f"did you mean {meant} instead of {one}?" for one, meant in pairs if meant is not None)
