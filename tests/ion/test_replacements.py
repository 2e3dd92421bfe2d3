"""A refused token is replaced where a new one may help, and within the quota."""

import pytest

from relay.ion.replacements import Replacements

DAY = 86400


def test_the_first_refusal_replaces_the_token_and_the_next_in_vain_does_not() -> None:
    one = Replacements(None)
    assert not one.is_suspect
    assert one.may_replace("post", 0.0)
    assert one.is_suspect
    assert not one.may_replace("post", 1.0)
    assert not one.may_replace("ping", 2.0)


def test_a_new_token_that_the_same_call_took_may_be_replaced_again() -> None:
    one = Replacements(None)
    assert one.may_replace("post", 0.0)
    one.succeeded("ping")  # which does not check tokens, as far as is known
    assert not one.may_replace("post", 1.0)
    one.succeeded("post")
    assert not one.is_suspect
    assert one.may_replace("post", 2.0)


def test_a_token_that_stays_refused_is_replaced_half_an_hour_later() -> None:
    one = Replacements(None)
    assert one.may_replace("post", 0.0)
    assert not one.may_replace("post", 1727.0)
    assert one.may_replace("post", 1728.0)
    assert not one.may_replace("post", 1729.0)


def test_a_suspect_is_cleared_by_the_call_that_was_refused() -> None:
    one = Replacements(None)
    one.suspect("post")
    assert one.is_suspect
    one.succeeded("ping")
    assert one.is_suspect
    one.succeeded("post")
    assert not one.is_suspect


@pytest.mark.parametrize(("a_day", "bound"), [(None, 60), (100, 60), (1000, 600), (10, 8), (1, 3)])
def test_one_message_that_is_refused_while_others_are_delivered_does_not_use_up_the_quota(
    a_day: int | None, bound: int
) -> None:
    """A firewall refuses its content with a 401, whatever the token."""
    one, replaced = Replacements(a_day), 0
    for second in range(DAY):
        one.succeeded("post")
        replaced += one.may_replace("post", float(second))
    assert 0 < replaced <= bound


def test_operators_have_replacements_where_posts_have_used_up_theirs() -> None:
    one = Replacements(100)
    for _ in range(20):
        one.may_replace("post", 0.0)
        one.succeeded("post")
    assert [one.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert one.take(1728.0)
    assert not one.take(1728.0)


def test_gets_replace_whatever_expired_as_long_as_the_new_token_helps() -> None:
    """A gateway that ends tokens after a minute, whatever it said."""
    one = Replacements(100)
    for minute in range(1000):
        assert one.may_replace("ping", 60.0 * minute)
        one.succeeded("ping")
