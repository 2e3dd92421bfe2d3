"""A link that is slow for large documents: each is sent once, as soon as what it bears is known."""

from relay.core.model import Draft, OrderingKey
from relay.core.replies import NoReply
from tests.simulation.harness import ACME, FINE, ORDER, World, world
from tests.support.virtual import run

RATE, SILENCE = 300_000, 30.0
SIZE = 1_000_000


def shared_link(w: World) -> None:
    """All posts in flight share the link; one that takes longer than the silence allowed is timed out."""
    ion = w.ion

    def seconds(call: str, *_: object) -> float:
        return 0.01 if call != "post" else min(ion.in_flight * SIZE / RATE, SILENCE)

    ion.delay = seconds
    ion.answer = lambda call, *_: (
        NoReply("no answer", timed_out=True)
        if call == "post" and ion.in_flight * SIZE / RATE > SILENCE
        else FINE[call]
    )


def test_after_a_time_out_so_much_is_in_flight_as_the_link_bears() -> None:
    async def work() -> None:
        w = world(max_in_flight=16)
        shared_link(w)
        await w.start()
        for number in range(60):
            w.outbox.insert(Draft(ACME, ORDER, b"x" * SIZE, ordering_key=OrderingKey(f"k{number}")))
        await w.all_settled()
        await w.stop()
        assert len(w.rows("delivered")) == 60
        failed = [one for one in w.calls("post") if isinstance(one.answer, NoReply)]
        assert 0 < len(failed) <= 24

    run(work())
