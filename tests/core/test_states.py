"""The states of a tenant's delivery, and how those that concurrent answers ask for are joined."""

import dataclasses
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.model import DocumentName
from relay.core.states import Halt, Initialise, Pause, Ping, Send, State, Streak, worst

ORDERS = frozenset({DocumentName("Sync.SalesOrder")})

A, B, C = Streak(1, 0), Streak(4, 2), Streak(2, 7)
BY_DISTANCE: list[State] = [
    Send(ORDERS),
    Ping(ORDERS),
    Initialise(),
    Halt("k", "credentials"),
    Halt("k", "refused", until_resumed=True),
]


def test_the_state_farthest_back_wins_whatever_the_order() -> None:
    for near, far in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)):
        assert worst([BY_DISTANCE[near], BY_DISTANCE[far]]) == BY_DISTANCE[far]
        assert worst([BY_DISTANCE[far], BY_DISTANCE[near]]) == BY_DISTANCE[far]
    for states in permutations(BY_DISTANCE):
        assert worst(states) == BY_DISTANCE[4]


def test_one_state_alone_stays_as_it_is() -> None:
    for state in (
        *BY_DISTANCE,
        Pause(Ping(ORDERS, B), "kind", "why", 3.0, True),
        Pause(Initialise(C), "kind", "why"),
    ):
        assert worst([state]) == state


def test_a_pause_is_as_far_back_as_what_it_waits_for() -> None:
    ping, initialise = Pause(Ping(ORDERS), "kind-p", "p", 1.0), Pause(Initialise(), "kind-i", "i", 2.0)
    assert worst([Send(ORDERS), ping]) == ping
    assert worst([ping, Send(ORDERS)]) == ping
    assert worst([ping, initialise]) == initialise
    assert worst([initialise, ping]) == initialise


def test_a_halt_wins_over_every_pause_and_waits_for_no_delay() -> None:
    pause = Pause(Initialise(), "kind-i", "i", 3000.0, True)
    assert worst([Halt("kind-h", "h"), pause]) == Halt("kind-h", "h")
    assert worst([pause, Halt("kind-h", "h", until_resumed=True), Halt("kind-g", "g")]) == Halt(
        "kind-h", "h", until_resumed=True
    )


def test_the_longest_pause_wins_even_when_another_state_is_farther_back() -> None:
    assert worst(
        [Pause(Ping(ORDERS), "kind-p", "p", 90.0), Pause(Initialise(), "kind-i", "i", 5.0)]
    ) == Pause(Initialise(), "kind-i", "i", 90.0, False)
    assert worst(
        [Pause(Initialise(), "kind-i", "i", 5.0), Pause(Ping(ORDERS), "kind-p", "p", 0.0, True)]
    ) == Pause(Initialise(), "kind-i", "i", 5.0, True)


def test_a_pause_is_kept_when_the_state_farthest_back_asked_for_none() -> None:
    pause = Pause(Ping(ORDERS, A), "busy", "HTTP 503", 60.0)
    expected = Pause(Initialise(A), "busy", "HTTP 503", 60.0, False)
    assert worst([Initialise(A), pause]) == expected
    assert worst([pause, Initialise(A)]) == expected


def test_the_longest_streak_is_kept() -> None:
    assert worst([Send(ORDERS, A), Send(ORDERS, C)]) == Send(ORDERS, C)
    assert worst([Send(ORDERS, B), Send(ORDERS, C)]) == Send(ORDERS, Streak(4, 7))


def test_the_longest_streak_is_kept_with_what_failed_last_in_it() -> None:
    joined = worst(
        [Ping(ORDERS, Streak(1, 7, "busy", "HTTP 503")), Ping(ORDERS, Streak(2, 3, "cut", "reset"))]
    )
    assert isinstance(joined, Ping)
    assert dataclasses.astuple(joined.streak) == (2, 7, "cut", "reset")


def test_how_a_failure_is_worded_makes_no_other_streak() -> None:
    assert Streak(1, 2, "busy", "HTTP 503") == Streak(1, 2, "cut", "reset")
    assert hash(Streak(1, 2, "busy")) == hash(Streak(1, 2, "cut"))


def test_a_delivery_amid_failures_shortens_no_delay() -> None:
    late: list[State] = [
        Pause(Ping(ORDERS, Streak(6, 1)), "busy", "HTTP 503"),
        Send(ORDERS),
        Initialise(Streak(1, 0)),
    ]
    assert worst(late) == Pause(Initialise(Streak(6, 1)), "busy", "HTTP 503", 0.0, False)
    assert worst([Halt("kind-h", "h", Streak(1, 0)), late[0]]) == Halt("kind-h", "h", Streak(6, 1))


streaks = st.builds(Streak, st.integers(0, 4), st.integers(0, 12))
steps = st.one_of(st.builds(Initialise, streaks), st.builds(Ping, st.just(ORDERS), streaks))
states_of_a_flight = st.one_of(
    steps,
    st.builds(Send, st.just(ORDERS), streaks),
    st.builds(
        Pause,
        steps,
        st.just("kind"),
        st.just("why"),
        st.sampled_from([0.0, 1.0, 60.0, 3600.0]),
        st.booleans(),
    ),
    st.builds(Halt, st.just("kind"), st.just("why"), streaks, st.booleans()),
)


flights = st.lists(states_of_a_flight, min_size=1, max_size=6)


@given(flights.flatmap(lambda states: st.tuples(st.just(states), st.permutations(states))))
def test_joining_knows_no_order_and_no_grouping(flight: tuple[list[State], list[State]]) -> None:
    states, shuffled = flight
    joined = worst(states)
    assert worst(shuffled) == joined
    assert worst([joined, joined]) == joined
    for cut in range(1, len(states)):
        assert worst([worst(states[:cut]), *states[cut:]]) == joined


def test_states_are_values_that_nothing_can_change() -> None:
    values = (
        Streak(), Initialise(), Ping(ORDERS), Send(ORDERS), Pause(Initialise(), "kind", "why"),
        Halt("kind", "why"),
    )  # fmt: skip
    for value in values:
        assert not hasattr(value, "__dict__"), type(value)
        assert hash(value) == hash(dataclasses.replace(value))
        field = dataclasses.fields(value)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, "changed")


def test_everything_starts_without_failures_and_pauses_only_as_long_as_asked() -> None:
    assert Streak() == Streak(failures=0, rejected=0)
    for state in (Initialise(), Ping(ORDERS), Send(ORDERS), Halt("kind", "why")):
        assert state.streak == Streak(0, 0)
    assert Pause(Ping(ORDERS), "kind", "why") == Pause(
        Ping(ORDERS), "kind", "why", at_least=0.0, longest=False
    )
    assert Halt("kind", "why") == Halt("kind", "why", until_resumed=False)
