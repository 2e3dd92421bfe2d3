"""Calls that claim to be ION's: which are accepted, and which are refused."""

import re
from typing import Literal

import pytest
from oauthlib.oauth1 import Client

from relay.core.model import TenantId
from relay.ion import inbound_auth
from relay.ion.inbound_auth import InboundVerifier, Key, Refused, SignedRequest
from relay.ion.oauth import OAuth1Keys, Secret, Signer

ACME, GLOBEX = TenantId("ACME_PRD"), TenantId("GLOBEX_TST")
URL = "https://relay.example.com/ACME_PRD/service/ping"
NOW = 1_780_000_000.0
WINDOW = 300.0


@pytest.fixture
def verifier() -> InboundVerifier:
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
) -> SignedRequest:
    client = Client(key, secret, signature_method=method, nonce=nonce, timestamp=str(int(at)))
    _, headers, _ = client.sign(url, verb)
    return SignedRequest("GET", url, headers["Authorization"])


def why(outcome: Refused | None) -> str:
    assert outcome is not None
    return outcome.why


@pytest.mark.parametrize("method", ["HMAC-SHA256", "HMAC-SHA1"])
def test_a_call_signed_by_oauthlib_is_accepted(verifier, method):
    assert verifier.verify(signed(method=method), ACME, NOW) is None


def test_a_call_signed_by_the_relays_own_signer_is_accepted(verifier):
    """Two implementations of signing agree with the verification."""
    header = Signer(OAuth1Keys("acme-key", Secret("acme & secret"), "HMAC-SHA256"), "GET", URL).header(
        "abc", int(NOW)
    )
    assert verifier.verify(SignedRequest("GET", URL, header), ACME, NOW) is None


def test_the_query_is_signed_too(verifier):
    call = signed(URL + "?a=1&b=%20x")
    assert verifier.verify(call, ACME, NOW) is None
    assert (
        why(verifier.verify(SignedRequest("GET", URL + "?a=2", call.authorization), ACME, NOW))
        == "unauthenticated"
    )


@pytest.mark.parametrize(
    "call",
    [
        signed(key="unknown"),
        signed(secret="guessed"),
        signed(verb="POST"),
        SignedRequest("GET", URL.replace("ping", "versions"), signed().authorization),
        SignedRequest("GET", URL.replace("relay.", "other."), signed().authorization),
    ],
    ids=["key", "secret", "method", "path", "host"],
)
def test_a_call_that_is_not_signed_with_its_key_is_unauthenticated(verifier, call):
    assert why(verifier.verify(call, ACME, NOW)) == "unauthenticated"


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
def test_a_header_without_a_complete_signature_is_refused(verifier, header):
    assert why(verifier.verify(SignedRequest("GET", URL, header), ACME, NOW)) == "unauthenticated"


def test_a_parameter_that_is_in_the_header_and_in_the_query_is_refused(verifier):
    outcome = verifier.verify(SignedRequest("GET", URL + "?oauth_nonce=b", signed().authorization), ACME, NOW)
    assert outcome is not None
    assert "twice" in outcome.detail


@pytest.mark.parametrize("name", ["oauth_signature", "oauth_nonce", "oauth_consumer_key", "oauth_extra"])
@pytest.mark.parametrize("value", ["\udcff", "%FF", "\u0141"])
def test_bytes_that_are_no_text_are_refused(verifier, name, value):
    header = signed().authorization
    odd = (
        f'{header}, {name}="{value}"'
        if name not in header
        else re.sub(rf'{name}="[^"]*"', f'{name}="{value}"', header)
    )
    outcome = verifier.verify(SignedRequest("GET", URL, odd), ACME, NOW)
    assert why(outcome) == "unauthenticated"


def test_a_query_that_cannot_be_read_is_refused(verifier):
    call = SignedRequest("GET", URL + "?a=%zz", signed().authorization)
    outcome = verifier.verify(call, ACME, NOW)
    assert outcome is not None
    assert "cannot be read" in outcome.detail


@pytest.mark.parametrize("away", [WINDOW, -WINDOW])
def test_clocks_may_differ_by_the_window(verifier, away):
    assert verifier.verify(signed(at=NOW + away), ACME, NOW) is None


@pytest.mark.parametrize(
    ("away", "text"), [(WINDOW + 1, "301 s in the future"), (-WINDOW - 1, "301 s in the past")]
)
def test_beyond_the_window_a_call_is_refused_with_the_difference(verifier, away, text):
    outcome = verifier.verify(signed(at=NOW + away), ACME, NOW)
    assert outcome is not None
    assert text in outcome.detail


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
def test_an_invalid_parameter_is_refused_before_the_signature_is_checked(verifier, before, after):
    header = signed().authorization
    assert before in header
    outcome = verifier.verify(SignedRequest("GET", URL, header.replace(before, after)), ACME, NOW)
    assert outcome is not None
    assert "oauth_" in outcome.detail


def test_a_call_is_accepted_once(verifier):
    assert verifier.verify(signed(), ACME, NOW) is None
    assert why(verifier.verify(signed(), ACME, NOW + 1)) == "unauthenticated"
    assert verifier.verify(signed(nonce="another"), ACME, NOW + 1) is None
    assert verifier.verify(signed(at=NOW + 1), ACME, NOW + 1) is None


def test_a_forged_call_does_not_use_up_the_nonce(verifier):
    assert why(verifier.verify(signed(secret="guessed"), ACME, NOW)) == "unauthenticated"
    assert verifier.verify(signed(), ACME, NOW) is None


def test_the_key_of_another_tenant_is_refused_as_wrong_tenant(verifier):
    call = signed(key="globex-key", secret="other")
    outcome = verifier.verify(call, ACME, NOW)
    assert outcome == Refused("wrong-tenant", "the consumer key is not that of tenant ACME_PRD")


def test_more_calls_than_can_be_remembered_are_refused_until_the_oldest_expire(verifier, monkeypatch):
    monkeypatch.setattr(inbound_auth, "MAX_NONCES", 3)
    for nonce in "abc":
        assert verifier.verify(signed(nonce=nonce), ACME, NOW) is None
    assert why(verifier.verify(signed(nonce="d"), ACME, NOW)) == "too-many-calls"
    later = NOW + WINDOW + 1
    assert verifier.verify(signed(nonce="d", at=later), ACME, later) is None
    assert why(verifier.verify(signed(nonce="a"), ACME, later)) == "unauthenticated"


def test_a_key_is_never_shown():
    assert "acme & secret" not in repr(Key(ACME, Secret("acme & secret")))
