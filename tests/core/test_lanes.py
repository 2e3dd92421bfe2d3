"""Which message may go next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.core.lanes import Lanes, SlowStart
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


def lanes_with(*messages, ordering="key", **limits):
    lanes = Lanes(ordering, **limits)
    offer(lanes, *messages)
    return lanes


def offer(lanes, *messages, now=0.0):
    wanted = lanes.wanted(now, ())
    assert wanted is not None
    return lanes.offer(messages, wanted, now)


def take_rows(lanes, *, cautious=False):
    rows = []
    while (taken := lanes.take(cautious=cautious)) is not None:
        rows.append(taken.row)
    return rows


def test_one_message_of_a_key_at_a_time_different_keys_in_parallel():
    lanes = lanes_with(message(1, "a"), message(2, "a"), message(3, "b"), message(4))
    assert take_rows(lanes) == [1, 3, 4]


def test_messages_without_a_key_share_a_lane():
    lanes = lanes_with(message(1), message(2))
    assert take_rows(lanes) == [1]


def test_ordering_tenant_is_one_lane_whatever_the_keys():
    lanes = lanes_with(message(1, "a"), message(2, "b"), ordering="tenant")
    assert take_rows(lanes) == [1]


def test_ordering_none_lets_all_go():
    lanes = lanes_with(message(1, "a"), message(2, "a"), ordering="none")
    assert take_rows(lanes) == [1, 2]


def test_the_next_of_a_lane_goes_when_the_one_before_is_done():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "a"))
    lanes.take(cautious=False)
    lanes.done(first)
    assert take_rows(lanes) == [2]


def test_a_message_that_did_not_go_returns_to_its_place():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "a"))
    lanes.take(cautious=False)
    lanes.back(first)
    assert take_rows(lanes) == [1]


def test_a_released_message_holds_its_lane_until_it_is_told_when():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "a"), message(3, "b"))
    lanes.take(cautious=False)
    lanes.released(first)
    assert take_rows(lanes) == [3]
    assert lanes.next_hold_end(0.0) is None
    assert lanes.wanted(10.0**9, ()).held == {"a"}
    lanes.hold("a", 5.0)
    assert lanes.next_hold_end(4.0) == 5.0
    assert lanes.holding
    assert lanes.wanted(5.0, ()).held == set()
    assert not lanes.holding


def test_a_message_that_was_cut_off_while_its_lane_was_held_is_read_anew():
    first = message(1, "a")
    lanes = lanes_with(first)
    lanes.take(cautious=False)
    lanes.hold("a", 5.0)
    lanes.back(first)
    assert take_rows(lanes) == []
    assert lanes.wanted(0.0, ()).known == set()


def test_a_head_whose_own_delay_runs_holds_its_lane():
    lanes = lanes_with(message(1, "a", holds_for=7.0), message(2, "a"), message(3, "b"))
    assert take_rows(lanes) == [3]
    assert lanes.next_hold_end(0.0) == 7.0


def test_held_single_messages_are_left_out_by_row():
    lanes = lanes_with(message(1, holds_for=7.0), message(2), ordering="none")
    assert lanes.wanted(0.0, ()).known == {1, 2}
    assert lanes.wanted(7.0, ()).known == {2}


def test_a_held_tenant_lane_asks_for_nothing():
    lanes = lanes_with(message(1, holds_for=7.0), ordering="tenant")
    assert lanes.wanted(0.0, ()) is None
    assert lanes.wanted(7.0, ()) is not None


def test_what_is_buffered_under_way_or_unsettled_is_known():
    lanes = lanes_with(message(1, "a"), message(2, "a"))
    lanes.take(cautious=False)
    assert lanes.wanted(0.0, {RowId(9)}).known == {1, 2, 9}


def test_a_full_lane_is_held_until_it_is_half_empty():
    rows = [message(row) for row in range(1, 6)]
    lanes = lanes_with(*rows, ahead=4)
    assert lanes.wanted(0.0, ()).held == {None}
    assert lanes.wanted(0.0, ()).known == {1, 2, 3, 4}  # the fifth was let go, to be read again
    for row in rows[:2]:
        lanes.take(cautious=False)
        lanes.done(row)
    assert lanes.wanted(0.0, ()).held == set()


def test_a_lane_is_full_in_bytes_too():
    lanes = lanes_with(message(1, size=100), message(2, size=100), ahead_bytes=800)
    assert lanes.wanted(0.0, ()).held == {None}


def test_no_read_is_wanted_when_the_bytes_are_used_up():
    lanes = lanes_with(message(1, size=60), message(2, "b", size=60), ahead_bytes=100)
    assert lanes.wanted(0.0, ()) is None
    assert lanes.room_bytes == 1
    lanes.take(cautious=False)
    assert lanes.room_bytes == 40


def test_a_read_that_was_overtaken_by_a_hold_is_thrown_away():
    lanes = Lanes("key")
    wanted = lanes.wanted(0.0, ())
    assert wanted is not None
    lanes.hold("a", 5.0)
    assert not lanes.offer([message(2, "a")], wanted, 0.0)
    assert take_rows(lanes) == []


def test_a_held_lane_takes_nothing_in():
    lanes = Lanes("key")
    lanes.hold("a", 5.0)
    offer(lanes, message(1, "a"), message(2, "b"))
    assert take_rows(lanes) == [2]


def test_cautious_takes_another_lane_than_the_one_in_trouble():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "b"))
    lanes.take(cautious=False)
    lanes.released(first)
    lanes.hold("a", 0.0)
    offer(lanes, first)
    assert take_rows(lanes, cautious=True) == [2, 1]


def test_without_caution_the_order_of_the_rows_decides():
    first = message(1, "a")
    lanes = lanes_with(first, message(2, "b"))
    lanes.take(cautious=False)
    lanes.released(first)
    lanes.hold("a", 0.0)
    offer(lanes, first)
    assert take_rows(lanes) == [1, 2]


def test_where_all_are_suspected_the_longest_unsuspected_goes_first():
    a, b = message(1, "a"), message(2, "b")
    lanes = lanes_with(a, b)
    for _ in range(2):
        lanes.take(cautious=False)
    lanes.released(b)
    lanes.released(a)
    for lane in ("a", "b"):
        lanes.hold(lane, 0.0)
    offer(lanes, a, b)
    assert take_rows(lanes, cautious=True) == [2, 1]


def test_a_delivery_clears_the_suspicion():
    first, second = message(1, "a"), message(2, "a")
    lanes = lanes_with(first)
    lanes.take(cautious=False)
    lanes.released(first)
    lanes.hold("a", 0.0)
    offer(lanes, first, second, message(3, "b"))
    assert lanes.take(cautious=False) == first
    lanes.done(first)
    assert take_rows(lanes, cautious=True) == [2, 3]


def test_discard_forgets_all_but_what_is_under_way():
    lanes = lanes_with(message(1, "a"), message(2, "a"), message(3, "b", holds_for=9.0))
    lanes.take(cautious=False)
    lanes.discard()
    assert lanes.wanted(0.0, ()).known == {1}
    assert lanes.buffered_bytes == 0
    assert take_rows(lanes) == []


def test_discard_keeps_a_lane_held_whose_release_is_not_settled():
    first = message(1, "a")
    lanes = lanes_with(first)
    lanes.take(cautious=False)
    lanes.released(first)
    lanes.discard()
    assert lanes.wanted(0.0, ()).held == {"a"}


def test_what_is_not_accepted_any_more_is_forgotten():
    lanes = lanes_with(message(1, "a"), message(2, "b", document=SHIPMENT))
    lanes.discard_unaccepted(frozenset({ORDER, SHIPMENT}))
    assert lanes.wanted(0.0, ()).known == {1, 2}
    lanes.discard_unaccepted(frozenset({ORDER}))
    assert lanes.wanted(0.0, ()).known == set()


def test_alone_means_no_other_lane_is_known():
    lanes = lanes_with(message(1, "a"))
    assert lanes.alone("a")
    lanes.hold("b", 1.0)
    assert not lanes.alone("a")


def test_ready_counts_lanes_that_could_go():
    lanes = lanes_with(message(1, "a"), message(2, "a"), message(3, "b"))
    assert lanes.ready == 2


def test_a_stale_head_is_passed_over():
    lanes = lanes_with(message(1, "a"))
    lanes.hold("a", 0.0)
    offer(lanes, message(2, "b"))
    assert take_rows(lanes) == [2]


@pytest.mark.parametrize("most", [1, 3, 8])
def test_room_starts_at_one_and_doubles_up_to_the_most(most):
    room = SlowStart(most)
    sizes = [room.size]
    for _ in range(5):
        room.succeeded()
        sizes.append(room.size)
    assert sizes == [min(2**n, most) for n in range(6)]
    assert room.full_size
    room.failed()
    assert (room.size, room.full_size) == (1, most == 1)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens, a key's messages go in the order of their rows, one at a time, each once."""

    def __init__(self):
        super().__init__()
        self.lanes = Lanes("key", ahead=4)
        self.pending: list[Message] = []
        self.under_way: list[Message] = []
        self.delivered: list[Message] = []
        self.now = 0.0

    @rule(key=st.sampled_from(["a", "b", None]))
    def arrive(self, key):
        self.pending.append(message(len(self.pending) + len(self.delivered) + 1, key))

    @rule(limit=st.integers(1, 6))
    def read(self, limit):
        wanted = self.lanes.wanted(self.now, ())
        if wanted is None:
            return
        due = [m for m in self.pending if m.row not in wanted.known and m.ordering_key not in wanted.held]
        assert self.lanes.offer(due[:limit], wanted, self.now)

    @rule(cautious=st.booleans())
    def take(self, cautious):
        taken = self.lanes.take(cautious=cautious)
        if taken is not None:
            assert taken not in self.under_way
            assert all(taken.ordering_key != other.ordering_key for other in self.under_way)
            older = [m for m in self.pending if m.ordering_key == taken.ordering_key and m.row < taken.row]
            assert not older
            self.under_way.append(taken)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), what=st.sampled_from(["done", "back", "released"]))
    def land(self, data, what):
        landed = data.draw(st.sampled_from(self.under_way))
        self.under_way.remove(landed)
        match what:
            case "done":
                self.lanes.done(landed)
                self.pending.remove(landed)
                self.delivered.append(landed)
            case "back":
                self.lanes.back(landed)
            case _:
                self.lanes.released(landed)
                self.lanes.hold(landed.ordering_key, self.now + 3)

    @rule()
    def discard(self):
        self.lanes.discard()

    @rule()
    def time_passes(self):
        self.now += 1

    @invariant()
    def bytes_are_counted(self):
        known = self.lanes.wanted(self.now, ())
        assert known is None or self.lanes.buffered_bytes == 10 * (len(known.known) - len(self.under_way))


TestAnyOrder = AnyOrder.TestCase


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30))
def test_everything_offered_goes_at_last(keys):
    lanes = lanes_with(*(message(row, key) for row, key in enumerate(keys, 1)))
    gone = []
    while (taken := lanes.take(cautious=True)) is not None:
        gone.append(taken.row)
        lanes.done(taken)
    assert gone == list(range(1, len(keys) + 1))
