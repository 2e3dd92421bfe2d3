"""First-in-first-out lanes: which message may be sent next."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.core.lanes import Lanes
from relay.core.model import DocumentName, Message, MessageId, OrderingKey, RowId, TenantId

ORDER, SHIPMENT = DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment")


def message(row, key=None, *, document=ORDER, size=10, holds_for=0.0):
    return Message(
        row=RowId(row),
        tenant_id=TenantId("ACME"),
        document_name=document,
        message_id=MessageId(f"m{row}"),
        payload=b"x" * size,
        size=size,
        ordering_key=OrderingKey(key) if key is not None else None,
        holds_for=holds_for,
    )


def empty_lanes(ordering="key", *, max_messages=128, max_bytes=16 * 2**20):
    return Lanes(ordering, max_messages=max_messages, max_bytes=max_bytes)


def lanes_with(*messages, ordering="key", **limits):
    lanes = empty_lanes(ordering, **limits)
    add(lanes, *messages)
    return lanes


def add(lanes, *messages, now=0.0):
    plan = lanes.plan_read(now, ())
    assert plan is not None
    return lanes.add(messages, plan, now)


def take_rows(lanes, *, cautious=False):
    rows = []
    while (taken := lanes.take(cautious=cautious)) is not None:
        rows.append(taken.row)
    return rows


def test_one_message_of_a_key_at_a_time_different_keys_in_parallel():
    lanes = lanes_with(message(1, "a"), message(2, "a"), message(3, "b"), message(4))
    assert take_rows(lanes) == [1, 3, 4]


def test_a_message_that_is_gone_has_its_lane_read_again():
    lanes = lanes_with(message(1, "a"), message(2, "a"), message(3, "b"))
    gone, _ = lanes.take(cautious=False), lanes.take(cautious=False)
    before = lanes.generation
    lanes.drop(gone)
    assert lanes.generation > before, "a read that began before knows nothing of it"
    assert take_rows(lanes) == []
    assert lanes.plan_read(0.0, ()).known == {3}
    add(lanes, message(2, "a"))
    assert take_rows(lanes) == [2]


def test_a_payload_is_held_until_its_message_is_settled_or_discarded():
    lanes = lanes_with(message(1, "a"), message(2, "a", size=20), message(3, "b", size=40))
    first, second = lanes.take(cautious=False), lanes.take(cautious=False)
    lanes.finish(first)
    lanes.put_back(second)
    assert lanes.held_bytes == 70
    lanes.discard_buffered()
    assert (lanes.held_bytes, lanes.buffered_bytes) == (10, 0)
    lanes.settled(first)
    assert lanes.held_bytes == 0
    add(lanes, message(4, "c", size=5))
    fourth = lanes.take(cautious=False)
    lanes.hold("c", 10.0)
    lanes.put_back(fourth)
    assert lanes.held_bytes == 0


def test_messages_without_a_key_share_a_lane():
    lanes = lanes_with(message(1), message(2))
    assert take_rows(lanes) == [1]


def test_ordering_tenant_is_one_lane_whatever_the_keys():
    lanes = lanes_with(message(1, "a"), message(2, "b"), ordering="tenant")
    assert take_rows(lanes) == [1]


def test_ordering_none_sends_all_at_once():
    lanes = lanes_with(message(1, "a"), message(2, "a"), ordering="none")
    assert take_rows(lanes) == [1, 2]


def test_the_next_of_a_lane_follows_when_the_one_before_is_finished():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "a"))
    lanes.take(cautious=False)
    lanes.finish(first)
    assert take_rows(lanes) == [2]


def test_a_message_that_was_not_sent_returns_to_its_place():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "a"))
    lanes.take(cautious=False)
    lanes.put_back(first)
    assert take_rows(lanes) == [1]


def test_a_released_message_holds_its_lane_until_the_time_is_set():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "a"), message(3, "b"))
    lanes.take(cautious=False)
    lanes.release(first)
    assert take_rows(lanes) == [3]
    assert lanes.next_hold_end(0.0) is None
    assert lanes.plan_read(10.0**9, ()).held == {"a"}
    lanes.hold("a", 5.0)
    assert lanes.next_hold_end(4.0) == 5.0
    assert lanes.any_held
    assert lanes.plan_read(5.0, ()).held == set()
    assert not lanes.any_held


def test_a_message_that_was_cancelled_while_its_lane_was_held_is_read_again():
    first = message(1, "a")
    lanes = lanes_with(first)
    lanes.take(cautious=False)
    lanes.hold("a", 5.0)
    lanes.put_back(first)
    assert take_rows(lanes) == []
    assert lanes.plan_read(0.0, ()).known == set()


def test_a_head_that_backs_off_holds_its_lane():
    lanes = lanes_with(message(1, "a", holds_for=7.0), message(2, "a"), message(3, "b"))
    assert take_rows(lanes) == [3]
    assert lanes.next_hold_end(0.0) == 7.0


def test_what_is_before_a_message_that_waits_is_sent_and_what_is_behind_it_is_not():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "a", holds_for=7.0), message(3, "a"))
    assert lanes.take(cautious=False) == first
    assert lanes.plan_read(0.0, ()).known == {1}
    assert lanes.plan_read(0.0, ()).held == {"a"}
    lanes.finish(first)
    assert take_rows(lanes) == []
    assert lanes.next_hold_end(0.0) == 7.0
    assert lanes.plan_read(7.0, ()).held == set()


def test_a_message_that_was_not_sent_returns_before_the_one_that_waits():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "a", holds_for=7.0))
    lanes.take(cautious=False)
    lanes.put_back(first)
    assert take_rows(lanes) == [1]


def test_a_message_that_waits_behind_a_full_lane_is_read_again():
    rows = [message(row) for row in range(1, 5)]
    lanes = lanes_with(*rows, message(5, holds_for=7.0), max_messages=4)
    for row in rows:
        lanes.take(cautious=False)
        lanes.finish(row)
    assert lanes.plan_read(0.0, ()).held == set()


def test_a_lane_that_ends_in_a_message_that_waits_is_read_again_each_minute():
    lanes = lanes_with(message(2, "a", holds_for=1000.0))
    assert lanes.plan_read(59.0, ()).held == {"a"}
    assert lanes.plan_read(60.0, ()).held == set()
    add(lanes, message(1, "a"), message(2, "a", holds_for=940.0), now=60.0)
    assert take_rows(lanes) == [1]
    assert lanes.plan_read(119.0, ()).held == {"a"}


def test_a_lane_that_ends_in_a_message_that_waits_is_read_again_when_more_is_accepted():
    lanes = lanes_with(message(2, "a", holds_for=7.0))
    lanes.reread()
    assert lanes.plan_read(0.0, ()).held == set()


def test_a_release_of_what_is_held_for_another_reason_keeps_that_hold():
    first = message(1, "a")
    lanes = lanes_with(first)
    lanes.take(cautious=False)
    lanes.release(first)
    lanes.hold("a", 9.0)
    lanes.reopen("a", 3.0)
    assert lanes.plan_read(3.0, ()).held == {"a"}
    assert lanes.plan_read(9.0, ()).held == set()


def test_a_released_message_is_read_again_once_its_time_is_over():
    first = message(1, "a")
    lanes = lanes_with(first)
    lanes.take(cautious=False)
    lanes.release(first)
    lanes.reopen("a", 3.0)
    assert lanes.next_hold_end(0.0) == 3.0
    assert lanes.plan_read(3.0, ()).held == set()


def test_held_single_messages_are_left_out_by_row():
    lanes = lanes_with(message(1, holds_for=7.0), message(2), ordering="none")
    assert lanes.plan_read(0.0, ()).known == {1, 2}
    assert lanes.plan_read(7.0, ()).known == {2}


def test_a_held_tenant_lane_reads_nothing():
    lanes = lanes_with(message(1, holds_for=7.0), ordering="tenant")
    assert lanes.plan_read(0.0, ()) is None
    assert lanes.plan_read(7.0, ()) is not None


def test_what_is_buffered_in_flight_or_unsettled_is_known():
    lanes = lanes_with(message(1, "a"), message(2, "a"))
    lanes.take(cautious=False)
    assert lanes.plan_read(0.0, {RowId(9)}).known == {1, 2, 9}


def test_a_full_lane_is_held_until_it_is_half_empty():
    rows = [message(row) for row in range(1, 6)]
    lanes = lanes_with(*rows, max_messages=4)
    assert lanes.plan_read(0.0, ()).held == {None}
    assert lanes.plan_read(0.0, ()).known == {1, 2, 3, 4}  # the fifth is read again later
    for row in rows[:2]:
        lanes.take(cautious=False)
        lanes.finish(row)
    assert lanes.plan_read(0.0, ()).held == set()


def test_a_lane_is_full_in_bytes_too():
    lanes = lanes_with(message(1, size=100), message(2, size=100), max_bytes=800)
    assert lanes.plan_read(0.0, ()).held == {None}


def test_no_read_is_wanted_when_the_bytes_are_used_up():
    lanes = lanes_with(message(1, size=60), message(2, "b", size=60), max_bytes=100)
    assert lanes.plan_read(0.0, ()) is None
    assert lanes.free_bytes == 1
    lanes.take(cautious=False)
    assert lanes.free_bytes == 40


def test_a_read_that_was_overtaken_by_a_hold_is_ignored():
    lanes = empty_lanes("key")
    plan = lanes.plan_read(0.0, ())
    assert plan is not None
    lanes.hold("a", 5.0)
    assert not lanes.add([message(2, "a")], plan, 0.0)
    assert take_rows(lanes) == []


def test_a_held_lane_accepts_nothing():
    lanes = empty_lanes("key")
    lanes.hold("a", 5.0)
    add(lanes, message(1, "a"), message(2, "b"))
    assert take_rows(lanes) == [2]


def test_cautious_takes_another_lane_than_the_one_that_failed():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "b"))
    lanes.take(cautious=False)
    lanes.release(first)
    lanes.hold("a", 0.0)
    add(lanes, first)
    assert take_rows(lanes, cautious=True) == [2, 1]


def test_without_caution_the_order_of_the_rows_decides():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "b"))
    lanes.take(cautious=False)
    lanes.release(first)
    lanes.hold("a", 0.0)
    add(lanes, first)
    assert take_rows(lanes) == [1, 2]


def test_where_all_are_suspect_the_longest_unsuspected_is_first():
    a, b = message(1, "a"), message(2, "b")
    lanes = lanes_with(a, b)
    for _ in range(2):
        lanes.take(cautious=False)
    lanes.release(b)
    lanes.release(a)
    for lane in ("a", "b"):
        lanes.hold(lane, 0.0)
    add(lanes, a, b)
    assert take_rows(lanes, cautious=True) == [2, 1]


def test_a_delivery_clears_the_suspicion():
    first, second = message(1, "a"), message(2, "a")
    lanes = lanes_with(first)
    lanes.take(cautious=False)
    lanes.release(first)
    lanes.hold("a", 0.0)
    add(lanes, first, second, message(3, "b"))
    assert lanes.take(cautious=False) == first
    lanes.finish(first)
    assert take_rows(lanes, cautious=True) == [2, 3]


def test_discard_drops_all_but_what_is_in_flight():
    lanes = lanes_with(message(1, "a"), message(2, "a"), message(3, "b", holds_for=9.0))
    lanes.take(cautious=False)
    lanes.discard()
    assert lanes.plan_read(0.0, ()).known == {1}
    assert lanes.buffered_bytes == 0
    assert take_rows(lanes) == []


def test_discard_keeps_a_lane_held_whose_release_is_not_settled():
    first = message(1, "a")
    lanes = lanes_with(first)
    lanes.take(cautious=False)
    lanes.release(first)
    lanes.discard()
    assert lanes.plan_read(0.0, ()).held == {"a"}


def test_what_is_no_longer_accepted_is_discarded():
    lanes = lanes_with(message(1, "a"), message(2, "b", document=SHIPMENT))
    lanes.discard_unaccepted(frozenset({ORDER, SHIPMENT}))
    assert lanes.plan_read(0.0, ()).known == {1, 2}
    lanes.discard_unaccepted(frozenset({ORDER}))
    assert lanes.plan_read(0.0, ()).known == set()


def test_alone_means_no_other_lane_is_known():
    lanes = lanes_with(message(1, "a"))
    assert lanes.is_alone("a")
    lanes.hold("b", 1.0)
    assert not lanes.is_alone("a")


def test_ready_counts_lanes_with_a_message_to_send():
    lanes = lanes_with(message(1, "a"), message(2, "a"), message(3, "b"))
    assert lanes.ready == 2


def test_a_stale_head_is_skipped():
    lanes = lanes_with(message(1, "a"))
    lanes.hold("a", 0.0)
    add(lanes, message(2, "b"))
    assert take_rows(lanes) == [2]


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens, a key's messages are sent in the order of their rows, one at a time, each once."""

    def __init__(self):
        super().__init__()
        self.lanes = empty_lanes("key", max_messages=4)
        self.pending: list[Message] = []
        self.in_flight: list[Message] = []
        self.delivered: list[Message] = []
        self.now = 0.0
        self.waits: dict[int, float] = {}

    @rule(key=st.sampled_from(["a", "b", None]))
    def arrive(self, key):
        self.pending.append(message(len(self.pending) + len(self.delivered) + 1, key))

    @rule(key=st.sampled_from(["a", "b", None]), wait=st.integers(1, 9))
    def arrive_to_wait(self, key, wait):
        self.waits[len(self.pending) + len(self.delivered) + 1] = self.now + wait
        self.arrive(key)

    def as_read(self, m):
        return replace(m, holds_for=max(self.waits.get(m.row, 0.0) - self.now, 0.0))

    @rule(limit=st.integers(1, 6))
    def read(self, limit):
        plan = self.lanes.plan_read(self.now, ())
        if plan is None:
            return
        due = [m for m in self.pending if m.row not in plan.known and m.ordering_key not in plan.held]
        assert self.lanes.add([self.as_read(m) for m in due[:limit]], plan, self.now)

    @rule(cautious=st.booleans())
    def take(self, cautious):
        taken = self.lanes.take(cautious=cautious)
        if taken is not None:
            assert self.waits.get(taken.row, 0.0) <= self.now
            assert taken not in self.in_flight
            assert all(taken.ordering_key != other.ordering_key for other in self.in_flight)
            older = [m for m in self.pending if m.ordering_key == taken.ordering_key and m.row < taken.row]
            assert not older
            self.in_flight.append(taken)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), what=st.sampled_from(["finish", "put back", "release"]))
    def answer(self, data, what):
        answered = data.draw(st.sampled_from(self.in_flight))
        self.in_flight.remove(answered)
        match what:
            case "finish":
                self.lanes.finish(answered)
                self.pending.remove(answered)
                self.delivered.append(answered)
            case "put back":
                self.lanes.put_back(answered)
            case _:
                self.lanes.release(answered)
                self.waits[answered.row] = self.now + 3
                self.lanes.reopen(answered.ordering_key, self.now + 3)

    @rule()
    def discard(self):
        self.lanes.discard()

    @rule()
    def more_is_accepted(self):
        self.lanes.reread()

    @rule(seconds=st.sampled_from([1, 60]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def what_may_go_now_goes(self):
        """Read and taken to the end, every lane without a post in flight gets to its first message that waits."""
        for _ in range(len(self.pending) + 3):
            self.read(limit=1000)
        flying = {m.ordering_key for m in self.in_flight}
        for key in {m.ordering_key for m in self.pending} - flying:
            head = min((m for m in self.pending if m.ordering_key == key), key=lambda m: m.row)
            may_go = self.waits.get(head.row, 0.0) <= self.now
            assert may_go == any(row == head.row for row, lane in self.lanes._ready if lane == key)

    @invariant()
    def bytes_are_counted(self):
        known = self.lanes.plan_read(self.now, ())
        assert known is None or self.lanes.buffered_bytes == 10 * (len(known.known) - len(self.in_flight))


TestAnyOrder = AnyOrder.TestCase


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30))
def test_everything_added_is_sent_in_the_end(keys):
    lanes = lanes_with(*(message(row, key) for row, key in enumerate(keys, 1)))
    gone = []
    while (taken := lanes.take(cautious=True)) is not None:
        gone.append(taken.row)
        lanes.finish(taken)
    assert gone == list(range(1, len(keys) + 1))
