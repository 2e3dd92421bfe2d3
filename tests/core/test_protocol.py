"""What follows from each answer, for the tenant and for the message: each row of the table once more."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from relay.core import answers, protocol
from relay.core.answers import row_of, row_of_get
from relay.core.model import Delivered, DocumentName, MessageId, Parked, Released, Settlement
from relay.core.poison import CountedAttempts
from relay.core.protocol import Policy
from relay.core.replies import Accepted, Answer, NoReply, Reply, TokenUnavailable, Versions
from relay.core.states import Halt, Initialise, Pause, Ping, Send, State, Streak, worst
from tests.core.test_answers import EVERY_STATUS, everything, text_of

ORDERS = frozenset({DocumentName("Sync.SalesOrder")})
OTHERS = frozenset({DocumentName("Sync.Shipment"), DocumentName("Process.Invoice")})
PARK = Policy("park", park_nothing=False, max_attempts=10)
STOP, PARK_NOTHING = replace(PARK, on_rejected="stop"), replace(PARK, park_nothing=True)
NO_ATTEMPTS = CountedAttempts()


def after_initialise(state: Initialise, answer: Answer) -> State:
    return protocol.after_initialise(state, answer).state


def after_ping(state: Ping, answer: Answer) -> State:
    return protocol.after_ping(state, answer).state


def after_accepted(state: Send, answer: Answer) -> State:
    return protocol.after_accepted(state, answer).state


def after_post(
    state: Send, answer: Answer, policy: Policy, known: CountedAttempts
) -> tuple[State, Settlement]:
    outcome = protocol.after_post(state, answer, policy, lambda _: known)
    return outcome.state, outcome.settlement


def always(known: CountedAttempts) -> Callable[[answers.Row], CountedAttempts]:
    return lambda _: known


def opening_expected(reaction: str, asked: Initialise | Ping, answer: Answer) -> State:
    """What follows an opening call's answer other than the one hoped for."""
    more = Streak(asked.streak.failures + 1, asked.streak.rejected)
    kind, reason = row_of_get(answer).name, text_of(answer)
    again = dataclasses.replace(asked, streak=more)
    expected: dict[str, State] = {
        "continue": Pause(again, kind, reason, 0.0, False),  # fine, and yet not the answer that was asked for
        "back off": Pause(again, kind, reason, 0.0, False),
        "start over": Pause(Initialise(more), kind, reason, 0.0, False),
        "longest": Pause(again, kind, reason, 0.0, True),
        "halt": Halt(kind, reason, more, False),
    }
    return expected[reaction]


def posting_expected(reaction: str, sent: Send, answer: Answer, fate: str) -> State:
    """What follows a post's answer for a tenant that parks what is refused."""
    streak, kind, reason = sent.streak, row_of(answer).name, text_of(answer)
    more = Streak(streak.failures + 1, streak.rejected)
    first = streak.failures == 0
    rejected = Streak(streak.failures, streak.rejected + 1)
    ping, initialise = Ping(sent.accepted, more), Initialise(more)
    paused_ping, paused_initialise = (
        Pause(ping, kind, reason, 0.0, False),
        Pause(initialise, kind, reason, 0.0, False),
    )
    expected: dict[str, State] = {
        "next": Send(sent.accepted, Streak(0, 0) if fate == "delivered" else rejected),
        "policy": Send(sent.accepted, rejected),
        "ping soon": ping if first else paused_ping,
        "ping": paused_ping,
        "start over": initialise if first else paused_initialise,
        "halt": Halt(kind, reason, more, False),
        "never": paused_ping,
    }
    return expected[reaction]


# --- ping, versions, acceptedDocuments ------------------------------------------------------------

STREAKS = [Streak(), Streak(1, 0), Streak(6, 4)]


@pytest.mark.parametrize("streak", STREAKS, ids=str)
def test_after_a_failed_opening_the_table_says_what_follows(streak: Streak) -> None:
    for answer, opening, _, _ in everything():
        expected = opening_expected(opening, Initialise(streak), answer)
        assert after_initialise(Initialise(streak), answer) == expected
        if opening != "continue":
            expected = opening_expected(opening, Ping(ORDERS, streak), answer)
            assert after_ping(Ping(ORDERS, streak), answer) == expected


@pytest.mark.parametrize("streak", STREAKS, ids=str)
def test_a_good_initialisation_sends_what_is_accepted_and_forgets_no_failure(streak: Streak) -> None:
    assert after_initialise(Initialise(streak), Accepted(OTHERS)) == Send(OTHERS, streak)
    assert after_initialise(Initialise(streak), Accepted(frozenset())) == Send(frozenset(), streak)


@pytest.mark.parametrize("streak", STREAKS, ids=str)
def test_a_good_ping_sends_and_forgets_no_failure(streak: Streak) -> None:
    assert after_ping(Ping(ORDERS, streak), Versions(("v3",))) == Send(ORDERS, streak)
    assert after_ping(Ping(ORDERS, streak), Reply(200)) == Send(ORDERS, streak)


def test_versions_without_v3_wait_the_longest_delay_and_then_do_the_same_step_again() -> None:
    assert after_ping(Ping(ORDERS), Versions(("v2",))) == Pause(
        Ping(ORDERS, Streak(1)), "no-v3", "v3 or later is needed, ION supports v2", 0.0, True
    )
    assert after_initialise(Initialise(), Versions(())) == Pause(
        Initialise(Streak(1)), "no-v3", "v3 or later is needed, ION supports none", 0.0, True
    )


def test_polling_accepted_documents_adopts_the_new_list() -> None:
    before = Send(ORDERS, Streak(2, 3))
    assert after_accepted(before, Accepted(OTHERS)) == Send(OTHERS, Streak(2, 3))


def test_polling_accepted_documents_stops_the_messages_only_where_the_table_says_so() -> None:
    before = Send(ORDERS, Streak(2, 3))
    for answer, opening, _, _ in everything():
        stops = opening in ("halt", "start over")
        expected = opening_expected(opening, Ping(ORDERS, before.streak), answer) if stops else before
        assert after_accepted(before, answer) == expected


# --- posts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("streak", STREAKS, ids=str)
def test_after_a_post_the_table_says_what_follows_and_what_becomes_of_the_message(streak: Streak) -> None:
    for answer, _, posting, fate in everything():
        reason = text_of(answer)
        settlements: dict[str, Settlement] = {
            "delivered": Delivered(),
            "released": Released(reason, False),
            "counted": Released(reason, True),
            "parked": Parked(reason),
            "policy": Parked(reason),
            "none": Released(reason, False),
        }
        state, settlement = after_post(Send(ORDERS, streak), answer, PARK, NO_ATTEMPTS)
        assert state == posting_expected(posting, Send(ORDERS, streak), answer, fate), answer
        assert settlement == settlements[fate], answer


def test_no_answer_at_all_ever_parks_a_message_but_400_and_413() -> None:
    parked = {
        status
        for status in EVERY_STATUS
        if isinstance(after_post(Send(ORDERS), Reply(status), PARK, NO_ATTEMPTS)[1], Parked)
    }
    assert parked == {400, 413}


def test_only_a_delivery_resets_the_failures() -> None:
    for answer, _, _, fate in everything():
        state, _ = after_post(Send(ORDERS, Streak(5, 2)), answer, PARK, NO_ATTEMPTS)
        streak = state.then.streak if isinstance(state, Pause) else state.streak
        assert (streak.failures == 0) == (fate == "delivered")
        assert (streak.rejected == 0) == (fate == "delivered")


def test_ping_fine_and_post_503_is_never_a_hot_loop() -> None:
    state: State = Send(ORDERS)
    for failures in range(1, 30):
        assert isinstance(state, Send)
        state, _ = after_post(state, Reply(503), PARK, NO_ATTEMPTS)
        assert isinstance(state, Pause)
        assert isinstance(state.then, Ping)
        assert state.then.streak.failures == failures
        state = after_ping(state.then, Versions(("v3",)))


@pytest.mark.parametrize(("status", "step"), [(401, Ping), (412, Initialise)])
def test_the_first_401_and_412_since_a_delivery_continue_at_once_and_later_ones_pause(
    status: int, step: type[Ping | Initialise]
) -> None:
    state: State = Send(ORDERS)
    assert isinstance(state, Send)
    state, _ = after_post(state, Reply(status, retry_after=9.0), PARK, NO_ATTEMPTS)
    assert isinstance(state, step)
    state = Send(ORDERS, state.streak)
    state, _ = after_post(state, Reply(status, retry_after=9.0), PARK, NO_ATTEMPTS)
    assert isinstance(state, Pause)
    assert isinstance(state.then, step)
    assert (state.then.streak.failures, state.at_least) == (2, 9.0)
    state, _ = after_post(Send(ORDERS, state.then.streak), Reply(202), PARK, NO_ATTEMPTS)
    assert isinstance(state, Send)
    state, _ = after_post(state, Reply(status), PARK, NO_ATTEMPTS)
    assert isinstance(state, step)


def test_a_403_pauses_already_the_first_time() -> None:
    state, _ = after_post(Send(ORDERS), Reply(403), PARK, NO_ATTEMPTS)
    assert state == Pause(Ping(ORDERS, Streak(1)), "forbidden", "HTTP 403", 0.0, False)


# --- policies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("park_nothing", [False, True])
def test_on_rejected_stop_halts_at_a_400_until_a_person_resumes_and_keeps_the_message(
    park_nothing: bool,
) -> None:
    policy = replace(STOP, park_nothing=park_nothing)
    state, settlement = after_post(Send(ORDERS, Streak(2, 3)), Reply(400), policy, NO_ATTEMPTS)
    reason = "a message was refused and on_rejected is stop: HTTP 400"
    assert state == Halt("invalid", reason, Streak(3, 3), True)
    assert settlement == Released("HTTP 400", False)


def test_on_rejected_stop_changes_nothing_else() -> None:
    for answer, _, posting, _ in everything():
        if posting != "policy":
            sent = Send(ORDERS, Streak(1, 1))
            assert after_post(sent, answer, STOP, NO_ATTEMPTS) == after_post(sent, answer, PARK, NO_ATTEMPTS)


@pytest.mark.parametrize(("status", "kind"), [(400, "invalid"), (413, "too-large")])
def test_park_nothing_turns_a_park_into_a_wait_and_no_hot_loop(status: int, kind: str) -> None:
    state, settlement = after_post(Send(ORDERS, Streak(1, 9)), Reply(status), PARK_NOTHING, NO_ATTEMPTS)
    assert state == Pause(Ping(ORDERS, Streak(2, 9)), kind, f"HTTP {status}")
    assert settlement == Released(f"HTTP {status}", True)


def test_what_failed_last_is_kept_until_a_delivery() -> None:
    state, _ = after_post(Send(ORDERS, Streak(1, 0, "cut", "reset")), Reply(503), PARK, NO_ATTEMPTS)
    assert isinstance(state, Pause)
    assert (state.then.streak.kind, state.then.streak.reason) == ("busy", "HTTP 503")


def test_park_nothing_changes_nothing_else() -> None:
    for answer, _, _, fate in everything():
        if fate not in ("parked", "policy"):
            sent = Send(ORDERS, Streak(1, 1))
            assert after_post(sent, answer, PARK_NOTHING, NO_ATTEMPTS) == after_post(
                sent, answer, PARK, NO_ATTEMPTS
            )


def test_ten_refused_messages_in_a_row_without_a_delivery_halt_the_tenant_until_resumed() -> None:
    state: State = Send(ORDERS)
    for turn in range(1, 10):
        assert isinstance(state, Send)
        state, settlement = after_post(state, Reply(413 if turn % 2 else 400), PARK, NO_ATTEMPTS)
        assert state == Send(ORDERS, Streak(0, turn))
        assert isinstance(settlement, Parked)
    assert isinstance(state, Send)
    state, settlement = after_post(state, Reply(400, "no item"), PARK, NO_ATTEMPTS)
    reason = "10 messages in a row were refused, the last: HTTP 400: no item"
    assert state == Halt("invalid", reason, Streak(0, 10), True)
    assert isinstance(settlement, Parked)


def test_refused_messages_beyond_ten_in_flight_together_halt_too() -> None:
    state, _ = after_post(Send(ORDERS, Streak(0, 14)), Reply(413), PARK, NO_ATTEMPTS)
    assert state == Halt(
        "too-large", "15 messages in a row were refused, the last: HTTP 413", Streak(0, 15), True
    )


def test_a_delivery_starts_the_count_of_refused_messages_anew() -> None:
    state, _ = after_post(Send(ORDERS, Streak(0, 9)), Reply(202), PARK, NO_ATTEMPTS)
    assert state == Send(ORDERS, Streak(0, 0))


# --- a message that may be poison -----------------------------------------------------------------


@pytest.mark.parametrize("answer", [Reply(500), NoReply("HTTP 500")], ids=["broken", "silent"])
@pytest.mark.parametrize(
    ("known", "parked"),
    [
        (CountedAttempts(9, 99999.0), False),  # nothing else got through: not this message's doing
        (CountedAttempts(500, 99999.0), False),
        (CountedAttempts(9, 1799.9, alone=True), False),  # alone: only time tells
        (CountedAttempts(9, 1800.0, alone=True), True),
        (CountedAttempts(8, 1800.0, alone=True), False),
        (CountedAttempts(9, 86400.0, alone=True), True),
    ],
    ids=str,
)
def test_where_no_other_is_delivered_a_message_is_parked_only_if_there_is_none_and_after_half_an_hour(
    answer: Answer, known: CountedAttempts, parked: bool
) -> None:
    state, settlement = after_post(Send(ORDERS, Streak(3, 2)), answer, PARK, known)
    expected = Parked(f"{known.attempts + 1} attempts, the last: HTTP 500")
    assert settlement == (expected if parked else Released("HTTP 500", True))
    assert state == Pause(Ping(ORDERS, Streak(4, 2)), row_of(answer).name, "HTTP 500", 0.0, False)


OWN = CountedAttempts(0, 5.0, delivered_elsewhere=True, again=True)
"""What is known of a message that fails again after others were delivered."""
ONLY_THIS = "; only this message, others are delivered"


def may_be_its_own() -> Iterator[Answer]:
    """Answers that may be about one message, though they would be the tenant's without others."""
    for answer, _, posting, _ in everything():
        if posting in ("ping", "ping soon", "start over") and not isinstance(answer, TokenUnavailable):
            yield answer


def test_an_answer_that_only_this_message_meets_leaves_the_tenant_as_it_was() -> None:
    asked = list(may_be_its_own())
    assert {getattr(answer, "status", 0) for answer in asked} >= {
        0,
        302,
        401,
        403,
        404,
        412,
        415,
        422,
        500,
        503,
    }
    for answer in asked:
        outcome = protocol.after_post(Send(ORDERS, Streak(3, 2)), answer, PARK, lambda _: OWN)
        assert outcome == protocol.after_post(Send(ORDERS, Streak(3, 2)), answer, STOP, lambda _: OWN)
        assert outcome.only_this
        assert (outcome.row, outcome.detail) == (row_of(answer), text_of(answer))
        assert outcome.state == Send(ORDERS, Streak(3, 2))
        assert outcome.settlement == Released(text_of(answer) + ONLY_THIS, True)


def test_its_own_answer_lets_the_message_wait_as_long_as_the_server_asks() -> None:
    _, settlement = after_post(Send(ORDERS), Reply(503, retry_after=90.0), PARK, OWN)
    assert settlement == Released("HTTP 503" + ONLY_THIS, True, 90.0)


@pytest.mark.parametrize(("attempts", "parked"), [(8, False), (9, True), (25, True)])
def test_a_message_that_alone_is_refused_is_parked_after_its_attempts(attempts: int, parked: bool) -> None:
    state, settlement = after_post(
        Send(ORDERS, Streak(0, 9)), Reply(403, "no"), PARK, replace(OWN, attempts=attempts)
    )
    reason = "HTTP 403: no" + ONLY_THIS
    expected = Parked(f"{attempts + 1} attempts, the last: {reason}") if parked else Released(reason, True)
    assert settlement == expected
    assert state == Send(ORDERS, Streak(0, 9))  # it does not count among those that are refused in a row


def test_a_busy_server_means_all_messages_unless_no_other_meets_it() -> None:
    for status, is_own in ((429, False), (503, False), (403, True), (500, True)):
        known = replace(OWN, failed_elsewhere=True)
        outcome = protocol.after_post(Send(ORDERS), Reply(status), PARK, always(known))
        assert outcome.only_this == is_own
        assert isinstance(outcome.state, Send) == is_own


def test_nothing_is_a_messages_own_before_another_one_is_delivered() -> None:
    for answer, *_ in everything():
        for known in (NO_ATTEMPTS, replace(OWN, delivered_elsewhere=False), CountedAttempts(3, again=True)):
            outcome = protocol.after_post(Send(ORDERS), answer, PARK, always(known))
            assert not outcome.only_this


def test_what_is_parked_or_stops_the_tenant_at_once_needs_no_proof() -> None:
    for answer, _, posting, _ in everything():
        if posting in ("next", "policy", "halt", "never") or isinstance(answer, TokenUnavailable):
            for policy in (PARK, STOP):
                known = after_post(Send(ORDERS), answer, policy, OWN)
                assert known == after_post(Send(ORDERS), answer, policy, NO_ATTEMPTS)
                assert not protocol.after_post(Send(ORDERS), answer, policy, lambda _: OWN).only_this


@pytest.mark.parametrize("status", [400, 413])
def test_park_nothing_lets_a_refused_message_wait_alone(status: int) -> None:
    outcome = protocol.after_post(Send(ORDERS, Streak(1, 1)), Reply(status), PARK_NOTHING, lambda _: OWN)
    assert outcome.only_this
    assert outcome.state == Send(ORDERS, Streak(1, 1))
    assert outcome.settlement == Released(f"HTTP {status}{ONLY_THIS}", True)
    stop = replace(PARK_NOTHING, on_rejected="stop")
    stopped = protocol.after_post(Send(ORDERS), Reply(status), stop, lambda _: OWN)
    assert isinstance(stopped.state, Halt) == (status == 400)


HOLDS = "; pings succeed, and message m-1 is refused again: all others wait behind it, park it if only this one is refused"


@pytest.mark.parametrize(
    ("answer", "says_so"),
    [(Reply(403), True), (Reply(404), True), (Reply(412), True), (Reply(401), True), (Reply(503), False),
     (Reply(500), False), (NoReply("cut"), False), (Reply(400), False)],
)  # fmt: skip
def test_a_message_that_holds_all_others_is_named(answer: Answer, says_so: bool) -> None:
    for again, alone in ((True, True), (True, False), (False, True)):
        known = CountedAttempts(alone=alone, again=again, message_id=MessageId("m-1"))
        outcome = protocol.after_post(Send(ORDERS, Streak(1)), answer, PARK, always(known))
        assert outcome.detail == text_of(answer) + (HOLDS if says_so and again and alone else "")
        if not isinstance(outcome.state, Send):
            assert getattr(outcome.state, "reason", outcome.detail) == outcome.detail
        assert HOLDS not in str(getattr(outcome.settlement, "reason", ""))


def test_the_limit_of_attempts_is_the_policys() -> None:
    for attempts in range(6):
        known = replace(OWN, attempts=attempts)
        _, settlement = after_post(Send(ORDERS), Reply(500), replace(PARK, max_attempts=4), known)
        assert isinstance(settlement, Parked) == (attempts >= 3)


def test_park_nothing_keeps_even_an_exhausted_message() -> None:
    known = CountedAttempts(99, 99999.0, True, True)
    _, settlement = after_post(Send(ORDERS), Reply(500), PARK_NOTHING, known)
    assert settlement == Released("HTTP 500" + ONLY_THIS, True)


def test_without_a_delivery_of_others_only_counted_answers_use_up_attempts() -> None:
    exhausted = CountedAttempts(99, 99999.0, alone=True)
    for answer, _, _, fate in everything():
        if fate != "counted":
            assert after_post(Send(ORDERS), answer, PARK, exhausted) == after_post(
                Send(ORDERS), answer, PARK, NO_ATTEMPTS
            )


# --- outcomes -------------------------------------------------------------------------------------


def test_an_outcome_names_the_row_and_the_answer_in_words() -> None:
    for answer, *_ in everything():
        expected = (row_of(answer), text_of(answer))
        for get in (
            protocol.after_initialise(Initialise(), answer),
            protocol.after_ping(Ping(ORDERS), answer),
            protocol.after_accepted(Send(ORDERS), answer),
        ):
            assert (get.row, get.detail) == (row_of_get(answer), text_of(answer))
        post = protocol.after_post(Send(ORDERS), answer, PARK, lambda _: NO_ATTEMPTS)
        assert (post.row, post.detail) == expected
    for get in (
        protocol.after_initialise(Initialise(), Accepted(ORDERS)),
        protocol.after_accepted(Send(ORDERS), Accepted(OTHERS)),
    ):
        assert get.row.name == "ok"
        assert get.detail.endswith(" documents accepted")


def test_what_is_known_of_a_message_is_asked_with_the_row_unless_it_was_delivered() -> None:
    for answer, _, _, fate in everything():
        asked: list[object] = []

        def known(row: answers.Row, asked: list[object] = asked) -> CountedAttempts:
            asked.append(row)
            return NO_ATTEMPTS

        protocol.after_post(Send(ORDERS), answer, PARK, known)
        assert asked == [row_of(answer)] * (fate != "delivered")


# --- Retry-After ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "at_least"),
    [
        (None, 0.0),
        (0.0, 0.0),
        (0.5, 0.5),
        (30, 30.0),
        (120.0, 120.0),
        (3600.0, 3600.0),
        (3600.5, 3600.0),
        (1e12, 3600.0),
        (math.inf, 3600.0),
        (-1.0, 0.0),
        (-math.inf, 0.0),
        (math.nan, 0.0),
    ],
)
def test_retry_after_lengthens_the_pause_up_to_an_hour_and_never_shortens_it(
    hint: float | None, at_least: float
) -> None:
    for status in (503, 429, 500, 404):
        reply = Reply(status, retry_after=hint)
        kind, reason = row_of(reply).name, f"HTTP {status}"
        expected = Pause(Ping(ORDERS, Streak(1)), kind, reason, at_least, False)
        assert after_post(Send(ORDERS), reply, PARK, NO_ATTEMPTS)[0] == expected
        assert after_ping(Ping(ORDERS), reply) == expected
        assert after_initialise(Initialise(), reply) == Pause(
            Initialise(Streak(1)), kind, reason, at_least, False
        )
    assert after_ping(Ping(ORDERS), Reply(412, retry_after=hint)) == Pause(
        Initialise(Streak(1)), "not-ready", "HTTP 412", at_least, False
    )
    down = TokenUnavailable("down", hint)
    assert after_ping(Ping(ORDERS), down) == Pause(
        Ping(ORDERS, Streak(1)),
        "token-unavailable",
        "the token service is not available: down",
        at_least,
        False,
    )


# --- several answers in flight --------------------------------------------------------------------


def test_failures_in_flight_together_count_once() -> None:
    sent = Send(ORDERS, Streak(2, 1))
    answers: list[Answer] = [Reply(503), Reply(500), NoReply("cut"), Reply(412)]
    joined = worst(after_post(sent, answer, PARK, NO_ATTEMPTS)[0] for answer in answers)
    assert joined == Pause(Initialise(Streak(3, 1)), "not-ready", "HTTP 412", 0.0, False)


# --- the values themselves ------------------------------------------------------------------------


def test_policies_rows_and_outcomes_are_values_that_nothing_can_change() -> None:
    values = (
        PARK,
        answers.ROWS[0], protocol.after_ping(Ping(ORDERS), Reply(200)),
        protocol.after_post(Send(ORDERS), Reply(202), PARK, lambda _: NO_ATTEMPTS),
    )  # fmt: skip
    for value in values:
        assert not hasattr(value, "__dict__"), type(value)
        assert hash(value) == hash(dataclasses.replace(value))
        field = dataclasses.fields(value)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, "changed")
