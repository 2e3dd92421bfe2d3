"""One performance of the state `Send`, and what the answers to its posts ask for together."""

from dataclasses import dataclass

from relay.core import states
from relay.core.states import Send, State


@dataclass(slots=True)
class Cycle:
    """One performance of `Send`. It ends when an answer asks for another state, or when it is drained.

    `state`: what the next answer starts from. `next`: the other state. `is_over`: it was performed; answers
    to its posts are late.
    """

    state: Send
    next: State | None = None
    is_draining: bool = False
    is_over: bool = False

    def follow(self, state: State) -> None:
        """An answer to one of its posts asks for this state."""
        if not isinstance(state, Send):
            self.next = state if self.next is None else states.worst((self.next, state))
        elif self.next is None:  # otherwise it was launched before the failure: it resets nothing
            self.state = state

    def join(self, state: State) -> None:
        """An answer to a post of an earlier cycle asks for this state."""
        self.follow(states.worst((self.state, state)))
