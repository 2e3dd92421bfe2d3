"""What ION can answer, and the text for each answer."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.model import DocumentName
from relay.core.replies import (
    Accepted,
    Answer,
    NoReply,
    Reply,
    TokenRefused,
    TokenUnavailable,
    Versions,
    describe,
)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Reply(202), "HTTP 202"),
        (Reply(400, "no documentName"), "HTTP 400: no documentName"),
        (Reply(400, code=419), "HTTP 400 (IMS code 419)"),
        (Reply(400, "sender missing", 419), "HTTP 400 (IMS code 419): sender missing"),
        (Reply(200, code=0), "HTTP 200 (IMS code 0)"),
        (Reply(503, "busy", None, 30.0), "HTTP 503: busy"),
        (Versions(("v1", "v2", "v3")), "v3 or later is needed, ION supports v1, v2, v3"),
        (Versions(("v2",)), "v3 or later is needed, ION supports v2"),
        (Versions(()), "v3 or later is needed, ION supports none"),
        (Accepted(frozenset()), "0 documents accepted"),
        (Accepted(frozenset({DocumentName("A.B"), DocumentName("C.D")})), "2 documents accepted"),
        (Accepted(frozenset(), 2), "0 documents accepted, 2 invalid names ignored"),
        (NoReply("connection refused"), "connection refused"),
        (TokenRefused("HTTP 401"), "cannot authenticate: HTTP 401"),
        (TokenUnavailable("HTTP 503"), "the token service is not available: HTTP 503"),
        (TokenUnavailable("HTTP 503", 5.0), "the token service is not available: HTTP 503"),
    ],
    ids=repr,
)
def test_each_answer_is_described_for_a_log_line(answer: Answer, text: str) -> None:
    assert describe(answer) == text


def test_a_reply_needs_only_its_status() -> None:
    assert Reply(200) == Reply(200, detail="", code=None, retry_after=None)
    assert TokenUnavailable("down") == TokenUnavailable("down", retry_after=None)


details = st.text(max_size=40)
answers = st.one_of(
    st.builds(
        Reply, st.integers(100, 599), details, st.none() | st.integers(0, 999), st.none() | st.floats(0, 1e6)
    ),
    st.builds(Versions, st.lists(details, max_size=4).map(tuple)),
    st.builds(Accepted, st.frozensets(details.map(DocumentName), max_size=4)),
    st.builds(NoReply, details),
    st.builds(TokenRefused, details),
    st.builds(TokenUnavailable, details, st.none() | st.floats(0, 1e6)),
)


@given(answers)
def test_answers_are_immutable_values_and_their_detail_is_kept(answer: Answer) -> None:
    assert answer == dataclasses.replace(answer)
    assert hash(answer) == hash(dataclasses.replace(answer))
    field = dataclasses.fields(answer)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(answer, field, None)
    if isinstance(answer, Reply | NoReply | TokenRefused | TokenUnavailable):
        assert describe(answer).endswith(answer.detail)
