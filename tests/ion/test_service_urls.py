"""URLs that credentials and messages are sent to: https, in ASCII, and never shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ion.service_urls import is_loopback, url_problem

CANARY = "canary"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8481/service",
        "http://LOCALHOST/x",
        "http://[::1]:1/x",
        "https://h/x",
        "https://ion_acme.example.:7443/a%20b/~c",
        "https://[fe80::1]/x",
        "https://xn--bcher-kva.example",
    ],
)
def test_https_anywhere_and_http_to_loopback_are_allowed(url: str) -> None:
    assert url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://ion.example/service", "plain http"),
        ("http://127.0.0.1.example.com/x", "plain http"),
        ("http://10.0.0.1/x", "plain http"),
        (f"https://user:{CANARY}@h/x", "has a user"),
        ("https://h/x?y=1", "has a user, a query"),
        ("https://h/x#y", "a fragment"),
        ("ftp://h/x", "not a URL"),
        ("h/x", "not a URL"),
        ("", "not a URL"),
        ("https://", "not a URL"),
        ("https://h:99999/x", "has the port 99999"),
        ("https://h:0/x", "has the port 0"),
        (f"https://h:{CANARY}/x", "has a port that is not a number"),
        ("https://[::1/x", "not a URL"),
        ("https://h/a b", "has the character U+0020 (SPACE) in it"),
        (" https://h/a", "has the character U+0020 (SPACE) in it"),
        ("https://h/a\nb", "has the character U+000A (a control character) in it"),
        ("https://h/a\u200bb", "has the character U+200B (ZERO WIDTH SPACE) in it"),
        (
            "https://b\u00fccher.invalid",
            "has the character U+00FC (LATIN SMALL LETTER U WITH DIAERESIS) in its host",
        ),
        ("https://ion\u2011acme.invalid/s", "has the character U+2011 (NON-BREAKING HYPHEN) in its host"),
        ("https:\u2044/h/x", "has the character U+2044 (FRACTION SLASH) in its host"),
        ("https://h/ion\u2011acme", "has the character U+2011 (NON-BREAKING HYPHEN) in its path"),
        ("https://a..b/x", "has a host that no server can have"),
        (f"https://{'a' * 64}.example/x", "has a host that no server can have"),
        (f"https://{'a.' * 127}ab/x", "has a host that no server can have"),
        ("https://a^b/x", "has a host that no server can have"),
        ("https://a%41/x", "has a host that no server can have"),
    ],
)
def test_any_other_url_is_refused_without_being_shown(url: str, what: str) -> None:
    problem = url_problem(url)
    assert problem is not None
    assert what in problem.what
    assert problem.hint
    assert CANARY not in str(problem)


def test_a_character_of_the_path_is_refused_with_its_escape() -> None:
    problem = url_problem("https://h/\u00fc")
    assert problem is not None
    assert "%C3%BC" in problem.hint


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    url_problem(text)
    url_problem(f"https://{text}")


def test_loopback_is_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost")))
    assert not any(map(is_loopback, ("10.0.0.1", "localhost.example", "", "::2")))
