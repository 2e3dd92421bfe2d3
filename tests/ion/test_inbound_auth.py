"""A caller that says it is ION: who is let in, and who is not."""

from typing import Literal

import pytest
from oauthlib.oauth1 import Client

from relay.core.model import TenantId
from relay.ion import inbound_auth
from relay.ion.inbound_auth import Call, InboundVerifier, Key, Refused
from relay.ion.oauth import OAuth1Keys, Secret, Signer

ACME, GLOBEX = TenantId("ACME_PRD"), TenantId("GLOBEX_TST")
URL = "https://relay.example.com/ACME_PRD/service/ping"
NOW = 1_780_000_000.0
WINDOW = 300.0


@pytest.fixture
def doorman() -> InboundVerifier:
    keys = {"acme-key": Key(ACME, Secret("acme & secret")), "globex-key": Key(GLOBEX, Secret("other"))}
    return InboundVerifier(lambda: keys, WINDOW)


def signed(
    url: str = URL,
    *,
    key: str = "acme-key",
    secret: str = "acme & secret",
    nonce: str = "n0nce",
    at: float = NOW,
    method: str = "HMAC-SHA256",
    verb: Literal["GET", "POST"] = "GET",
) -> Call:
    client = Client(key, secret, signature_method=method, nonce=nonce, timestamp=str(int(at)))
    _, headers, _ = client.sign(url, verb)
    return Call("GET", url, headers["Authorization"])


def why(outcome: Refused | None) -> str:
    assert outcome is not None
    return outcome.why


@pytest.mark.parametrize("method", ["HMAC-SHA256", "HMAC-SHA1"])
def test_a_call_that_oauthlib_signs_is_let_in(doorman, method):
    assert doorman.admit(signed(method=method), ACME, NOW) is None


def test_a_call_that_the_relay_itself_would_sign_is_let_in(doorman):
    """Two implementations of the signing side agree with the checking side."""
    header = Signer(OAuth1Keys("acme-key", Secret("acme & secret")), "GET", URL).header("abc", int(NOW))
    assert doorman.admit(Call("GET", URL, header), ACME, NOW) is None


def test_the_query_is_signed_too(doorman):
    call = signed(URL + "?a=1&b=%20x")
    assert doorman.admit(call, ACME, NOW) is None
    assert why(doorman.admit(Call("GET", URL + "?a=2", call.authorization), ACME, NOW)) == "nobody"


@pytest.mark.parametrize(
    "call",
    [
        signed(key="unknown"),
        signed(secret="guessed"),
        signed(verb="POST"),
        Call("GET", URL.replace("ping", "versions"), signed().authorization),
        Call("GET", URL.replace("relay.", "other."), signed().authorization),
    ],
    ids=["key", "secret", "method", "path", "host"],
)
def test_whoever_cannot_sign_this_very_call_is_nobody(doorman, call):
    assert why(doorman.admit(call, ACME, NOW)) == "nobody"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic YTpi",
        "Bearer token",
        "OAuth",
        "OAuth nonsense",
        'OAuth oauth_consumer_key="acme-key"',
        'OAuth a="b"',
    ],
)
def test_a_header_without_a_whole_signature_is_refused(doorman, header):
    assert why(doorman.admit(Call("GET", URL, header), ACME, NOW)) == "nobody"


def test_a_parameter_that_is_in_the_header_and_in_the_query_is_refused(doorman):
    outcome = doorman.admit(Call("GET", URL + "?oauth_nonce=b", signed().authorization), ACME, NOW)
    assert outcome is not None
    assert "twice" in outcome.detail


def test_a_query_that_cannot_be_read_is_refused(doorman):
    call = Call("GET", URL + "?a=%zz", signed().authorization)
    outcome = doorman.admit(call, ACME, NOW)
    assert outcome is not None
    assert "cannot be read" in outcome.detail


@pytest.mark.parametrize("away", [WINDOW, -WINDOW])
def test_clocks_may_differ_by_the_window(doorman, away):
    assert doorman.admit(signed(at=NOW + away), ACME, NOW) is None


@pytest.mark.parametrize(("away", "said"), [(WINDOW + 1, "301 s ahead"), (-WINDOW - 1, "301 s old")])
def test_beyond_it_a_call_is_refused_and_told_by_how_much(doorman, away, said):
    outcome = doorman.admit(signed(at=NOW + away), ACME, NOW)
    assert outcome is not None
    assert said in outcome.detail


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('oauth_version="1.0"', 'oauth_version="2.0"'),
        ('oauth_version="1.0"', 'oauth_version="1.0", oauth_token="t"'),
        ('oauth_signature_method="HMAC-SHA256"', 'oauth_signature_method="PLAINTEXT"'),
        ('oauth_nonce="n0nce"', 'oauth_nonce=""'),
        ('oauth_nonce="n0nce"', f'oauth_nonce="{"n" * 251}"'),
        (f'oauth_timestamp="{int(NOW)}"', 'oauth_timestamp="-5"'),
        (f'oauth_timestamp="{int(NOW)}"', 'oauth_timestamp="1e9"'),
        (f'oauth_timestamp="{int(NOW)}"', f'oauth_timestamp="{"9" * 13}"'),
    ],
)
def test_what_is_odd_about_a_signature_is_refused_before_it_is_checked(doorman, before, after):
    header = signed().authorization
    assert before in header
    outcome = doorman.admit(Call("GET", URL, header.replace(before, after)), ACME, NOW)
    assert outcome is not None
    assert "oauth_" in outcome.detail


def test_a_call_is_let_in_once(doorman):
    assert doorman.admit(signed(), ACME, NOW) is None
    assert why(doorman.admit(signed(), ACME, NOW + 1)) == "nobody"
    assert doorman.admit(signed(nonce="another"), ACME, NOW + 1) is None
    assert doorman.admit(signed(at=NOW + 1), ACME, NOW + 1) is None


def test_a_forged_call_does_not_use_up_the_nonce(doorman):
    assert why(doorman.admit(signed(secret="guessed"), ACME, NOW)) == "nobody"
    assert doorman.admit(signed(), ACME, NOW) is None


def test_the_key_of_another_tenant_is_foreign_and_no_more_than_that(doorman):
    call = signed(key="globex-key", secret="other")
    outcome = doorman.admit(call, ACME, NOW)
    assert outcome == Refused("foreign", "the consumer key is not that of tenant ACME_PRD")


def test_more_calls_than_can_be_remembered_are_refused_until_the_first_are_too_old(doorman, monkeypatch):
    monkeypatch.setattr(inbound_auth, "MOST_NONCES", 3)
    for nonce in "abc":
        assert doorman.admit(signed(nonce=nonce), ACME, NOW) is None
    assert why(doorman.admit(signed(nonce="d"), ACME, NOW)) == "crowd"
    later = NOW + WINDOW + 1
    assert doorman.admit(signed(nonce="d", at=later), ACME, later) is None
    assert why(doorman.admit(signed(nonce="a"), ACME, later)) == "nobody"


def test_a_key_is_never_shown():
    assert "acme & secret" not in repr(Key(ACME, Secret("acme & secret")))
