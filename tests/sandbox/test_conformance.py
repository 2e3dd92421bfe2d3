"""Conformance checker: each rule reports violations, and only those. The tests set the time."""

from typing import Any

import pytest

from relay.sandbox.conformance import ConformanceChecker, Outcome, Step


class Client:
    """A client that reports its requests to the checker, at times of its own."""

    def __init__(self, tolerance: float = 0.25, hot_loop: int = 10) -> None:
        self.checker, self.now, self.number = ConformanceChecker(tolerance, hot_loop), 100.0, 0

    def step(self, call: str, began: float | None = None, **more: Any) -> Step:
        self.number += 1
        return Step("T", call, self.number, self.now if began is None else began, 0.0, **more)

    def get(self, call: str, outcome: Outcome = "fine", listed: tuple[str, ...] = ("D",)) -> None:
        status = 200 if outcome == "fine" else 503
        self.now += 0.001
        step = self.step(call)
        self.now += 0.001
        self.checker.call_ended(
            step, outcome, status, self.now, listed if call == "acceptedDocuments" and status == 200 else None
        )

    def initialise(self) -> None:
        for call in ("ping", "versions", "acceptedDocuments"):
            self.get(call)

    def begin(self, message: str, peer: int = 1, document: str = "D") -> Step:
        self.now += 0.001
        step = self.step("post", message_id=message, peer=peer, document=document)
        self.checker.post_began(step)
        return step

    def end(self, step: Step, status: int = 202, outcome: Outcome | None = None) -> None:
        self.now += 0.001
        self.checker.call_ended(
            step, outcome or ("fine" if 200 <= status < 300 else "failed"), status, self.now
        )

    def post(self, message: str, status: int = 202, **more: Any) -> None:
        self.end(self.begin(message, **more), status)

    @property
    def kinds(self) -> list[str]:
        return [violation.kind for violation in self.checker.violations]


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def ready() -> Client:
    client = Client()
    client.initialise()
    return client


# --- before the initialisation --------------------------------------------------------------------


def test_a_post_at_once_is_before_the_initialisation(client: Client) -> None:
    client.post("m1")
    assert client.kinds == ["post-before-initialisation"]
    assert client.checker.violations[0].message_id == "m1"


@pytest.mark.parametrize(
    "calls",
    [
        ["ping"],
        ["ping", "versions"],
        ["ping", "acceptedDocuments"],
        ["versions", "acceptedDocuments"],
        ["acceptedDocuments", "versions", "ping"],
        ["versions", "ping", "acceptedDocuments"],
    ],
)
def test_an_incomplete_or_unordered_initialisation_does_not_count(client: Client, calls: list[str]) -> None:
    for call in calls:
        client.get(call)
    client.post("m1")
    assert client.kinds == ["post-before-initialisation"]


def test_a_step_that_failed_does_not_count(client: Client) -> None:
    client.get("ping")
    client.get("versions", "unsure")
    client.get("acceptedDocuments")
    client.post("m1")
    assert client.kinds == ["post-before-initialisation"]


def test_after_a_complete_initialisation_posts_need_no_ping_each(ready: Client) -> None:
    for number in range(100):
        ready.post(f"m{number}")
    assert ready.kinds == []


def test_repeated_steps_in_order_count(client: Client) -> None:
    for call in ("ping", "ping", "versions", "ping", "versions", "acceptedDocuments"):
        client.get(call)
    client.post("m1")
    assert client.kinds == []


def test_each_tenant_is_checked_separately(ready: Client) -> None:
    ready.checker.post_began(Step("OTHER", "post", 1, ready.now, 0.0, 1, "m1", "D"))
    ready.post("m1")
    assert [violation.tenant_id for violation in ready.checker.violations] == ["OTHER"]


# --- straight after a failure ---------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 302, 401, 403, 404, 405, 406, 408, 415, 429, 500, 502, 503, 504])
def test_a_client_that_posts_one_at_a_time_must_ping_after_any_such_failure(
    ready: Client, status: int
) -> None:
    ready.post("m1", status)
    ready.post("m2")
    assert ready.kinds == ["post-without-ping"]


@pytest.mark.parametrize("status", [400, 413])
def test_after_a_400_or_413_the_next_post_needs_no_ping(ready: Client, status: int) -> None:
    ready.post("m1", status)
    ready.post("m2")
    assert ready.kinds == []


def test_a_successful_ping_allows_the_next_post(ready: Client) -> None:
    ready.post("m1", 503)
    ready.get("ping", "failed")
    ready.get("ping")
    ready.post("m1")
    assert ready.kinds == []


def test_a_failed_ping_does_not_allow_the_next_post(ready: Client) -> None:
    ready.post("m1", 503)
    ready.get("ping", "failed")
    ready.post("m1")
    assert ready.kinds == ["post-without-ping"]


def test_a_ping_that_began_long_before_the_failure_does_not_count(ready: Client) -> None:
    ping = ready.step("ping")
    ready.now += 1
    ready.post("m1", 503)
    ready.checker.call_ended(ping, "fine", 200, ready.now)
    ready.post("m1")
    assert ready.kinds == ["post-without-ping"]


def test_versions_does_not_replace_a_ping(ready: Client) -> None:
    ready.post("m1", 503)
    ready.get("versions")
    ready.post("m2")
    assert ready.kinds == ["post-without-ping"]


def test_posts_in_flight_when_the_failure_was_answered_are_allowed(ready: Client) -> None:
    flight = [ready.begin(f"m{number}", peer=number) for number in range(8)]
    ready.end(flight[0], 503)
    ready.now += 5
    for step in flight[1:]:
        ready.end(step, 503)
    ready.get("ping")
    ready.post("m0")
    assert ready.kinds == []


def test_posts_sent_before_the_answer_was_read_are_allowed(ready: Client) -> None:
    """Many began at once, and the first was answered before the others arrived."""
    ready.post("m0", 503, peer=0)
    for number in range(1, 8):
        ready.post(f"m{number}", 503, peer=number)
    ready.get("ping")
    ready.post("m0")
    assert ready.kinds == []


def test_a_post_that_begins_before_the_client_reads_of_the_failure_is_allowed(ready: Client) -> None:
    second = ready.begin("m2", peer=2)
    ready.post("m1", 503, peer=1)
    ready.end(second)
    ready.post("m3", peer=2)
    assert ready.kinds == []


def test_the_same_message_again_is_a_violation_however_soon(ready: Client) -> None:
    """As an HTTP library does that repeats posts automatically."""
    second = ready.begin("m2", peer=2)
    ready.post("m1", 0, peer=1)
    ready.post("m1", peer=3)
    ready.end(second)
    assert ready.kinds == ["post-without-ping"]


def test_further_posts_are_violations_after_the_tolerance(ready: Client) -> None:
    second = ready.begin("m2", peer=2)
    ready.post("m1", 503, peer=1)
    ready.now += ready.checker.tolerance
    ready.post("m3", peer=1)
    ready.end(second)
    assert ready.kinds == ["post-without-ping"]


def test_further_posts_are_violations_beyond_two_for_each_connection(ready: Client) -> None:
    second = ready.begin("m2", peer=2)
    ready.post("m1", 503, peer=1)
    for number in range(3, 7):
        ready.post(f"m{number}", peer=2)
    ready.end(second)
    assert ready.kinds == ["post-without-ping"] * 2, "two were on the wire at most"


def test_connections_from_before_the_last_good_ping_allow_no_posts(ready: Client) -> None:
    for peer in range(8):
        ready.post(f"m{peer}", peer=peer)
    ready.post("m8", 503, peer=0)
    ready.get("ping")
    ready.post("m8", 503, peer=0)
    ready.post("m9", peer=0)
    assert ready.kinds == ["post-without-ping"]


def test_a_client_that_gave_up_and_pinged_before_the_break_was_noticed_is_fine(ready: Client) -> None:
    step = ready.begin("m1")
    ready.now += 30
    ready.get("ping")
    ready.end(step, 0)
    ready.post("m1")
    assert ready.kinds == []


def test_after_a_spoilt_answer_another_message_may_follow(ready: Client) -> None:
    ready.end(ready.begin("m1"), 202, "unsure")
    ready.post("m2")
    assert ready.kinds == []


def test_after_a_spoilt_answer_the_same_message_needs_a_ping(ready: Client) -> None:
    ready.end(ready.begin("m1"), 202, "unsure")
    ready.post("m1")
    assert ready.kinds == ["post-without-ping"]
    ready.end(ready.begin("m2"), 202, "unsure")
    ready.get("ping")
    ready.post("m2")
    assert len(ready.kinds) == 1


# --- after a 412 ----------------------------------------------------------------------------------


def test_after_a_412_a_ping_is_not_enough(ready: Client) -> None:
    ready.post("m1", 412)
    ready.get("ping")
    ready.get("versions")
    ready.post("m1")
    assert ready.kinds == ["post-without-initialisation"]


def test_after_a_412_a_new_initialisation_allows_posts(ready: Client) -> None:
    ready.post("m1", 412)
    ready.initialise()
    ready.post("m1")
    assert ready.kinds == []


def test_a_412_and_a_503_together_require_an_initialisation_whichever_is_first(ready: Client) -> None:
    for statuses in ((503, 412), (412, 503)):
        flight = [ready.begin(f"m{statuses[0]}-{number}", peer=number) for number in range(2)]
        for step, status in zip(flight, statuses, strict=True):
            ready.end(step, status)
        ready.get("ping")
        ready.post("m9")
        ready.initialise()
    assert ready.kinds == ["post-without-initialisation"] * 2


def test_a_client_that_pinged_knows_of_the_failure_however_soon_it_posts(ready: Client) -> None:
    second = ready.begin("m2", peer=2)
    ready.post("m1", 503, peer=1)
    ready.get("ping", "failed")
    ready.post("m3", peer=2)
    ready.end(second)
    assert ready.kinds == ["post-without-ping"]


def test_a_message_that_fails_again_after_others_were_taken_requires_nothing(ready: Client) -> None:
    """It is the message's own fault; a client need not start over for it."""
    for status in (403, 503, 412):
        bad = f"bad-{status}"
        ready.post(bad, status)
        ready.initialise()
        ready.post(f"good-{status}")
        ready.post(bad, status)
        ready.post(f"better-{status}")
    assert ready.kinds == []


def test_a_message_that_fails_again_before_another_is_taken_requires_a_ping(ready: Client) -> None:
    ready.post("bad", 503)
    ready.get("ping")
    ready.post("bad", 503)
    ready.post("good")
    assert ready.kinds == ["post-without-ping"]


# --- documents and ids ----------------------------------------------------------------------------


def test_a_document_that_was_not_listed_is_a_violation(ready: Client) -> None:
    ready.post("m1", document="Other")
    assert ready.kinds == ["document-not-listed"]


def test_a_document_that_was_listed_and_withdrawn_since_is_allowed(ready: Client) -> None:
    ready.post("m1", document="D")
    assert ready.kinds == []


def test_a_new_list_applies_from_its_answer_except_to_posts_in_flight(ready: Client) -> None:
    ready.get("acceptedDocuments", listed=("E",))
    ready.post("m1", document="D")
    ready.post("m2", document="E")
    assert ready.kinds == []
    ready.now += ready.checker.tolerance
    ready.post("m3", document="D")
    assert ready.kinds == ["document-not-listed"]


def test_a_message_id_with_another_content_is_a_violation(ready: Client) -> None:
    ready.checker.message_id_reused(ready.step("post", message_id="m1"))
    assert ready.kinds == ["message-id-reused"]


# --- hot loops ------------------------------------------------------------------------------------


def test_pings_that_fail_without_a_pause_are_one_hot_loop(client: Client) -> None:
    for _ in range(50):
        client.get("ping", "failed")
    assert client.kinds == ["hot-loop"]


def test_ten_failures_a_second_are_no_hot_loop(client: Client) -> None:
    for _ in range(50):
        client.get("ping", "failed")
        client.now += 0.1
    assert client.kinds == []


def test_token_requests_that_fail_are_counted_too(client: Client) -> None:
    for _ in range(11):
        client.get("token", "failed")
    assert client.kinds == ["hot-loop"]


def test_successful_pings_and_failed_posts_in_turns_are_a_hot_loop(ready: Client) -> None:
    for _ in range(11):
        ready.post("m1", 503)
        ready.get("ping")
    assert ready.kinds == ["hot-loop"]


def test_many_posts_in_flight_that_fail_together_are_one_round(ready: Client) -> None:
    flight = [ready.begin(f"m{number}", peer=number) for number in range(64)]
    for step in flight:
        ready.end(step, 503)
    assert ready.kinds == []


def test_failures_with_deliveries_between_are_no_hot_loop(ready: Client) -> None:
    """A message that always fails while the others pass."""
    for number in range(50):
        ready.post("bad", 500)
        ready.get("ping")
        ready.post(f"m{number}")
    assert ready.kinds == []


def test_a_hot_loop_after_a_delivery_is_another_one(ready: Client) -> None:
    for _ in range(2):
        for _ in range(11):
            ready.get("ping", "failed")
        ready.get("ping")
        ready.post("m1")
    assert ready.kinds == ["hot-loop"] * 2


def test_messages_refused_one_after_the_other_are_no_hot_loop(ready: Client) -> None:
    for number in range(50):
        ready.post(f"m{number}", 400)
    assert ready.kinds == []


def test_a_second_hot_loop_is_reported_again(client: Client) -> None:
    for _ in range(2):
        for _ in range(20):
            client.get("ping", "failed")
        client.now += 10
    assert client.kinds == ["hot-loop"] * 2


def test_the_hot_loop_limit_can_be_configured() -> None:
    client = Client(hot_loop=1000)
    for _ in range(400):
        client.get("ping", "failed")
    assert client.kinds == []


# --- the list of violations --------------------------------------------------------------------------------------


def test_violations_are_counted_beyond_those_that_are_kept(client: Client) -> None:
    for number in range(1200):
        client.post(f"m{number}")
    assert (len(client.kinds), client.checker.count) == (1000, 1200)


def test_clear_empties_the_list_and_keeps_what_is_known_of_the_client(client: Client) -> None:
    client.post("m1")
    client.checker.clear()
    assert (client.kinds, client.checker.count) == ([], 0)
    client.post("m2")
    assert client.kinds == ["post-before-initialisation"]
