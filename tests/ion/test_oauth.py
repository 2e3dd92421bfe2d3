"""Signatures against published test vectors; token requests and responses, hostile ones included."""

import base64
import hashlib
import hmac
import json
import pickle
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oauthlib.oauth1 import Client

from relay.ion import oauth
from relay.ion.oauth import CredentialError, OAuth1Keys, Secret, SignatureMethod, Signer

# --- a secret -------------------------------------------------------------------------------------


def test_a_secret_cannot_be_printed() -> None:
    secret = Secret("canary-7")
    keys = OAuth1Keys("key", secret, "HMAC-SHA256")
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret:>30}",
        f"{secret!r}",
        "%s" % secret,  # noqa: UP031
        repr(keys),
        str([secret]),
    ]
    assert not [text for text in shown if "canary" in text]
    assert str(secret) == repr(secret) == f"{secret:>30}" == "***"
    assert secret.reveal() == "canary-7"


def test_a_secret_is_neither_pickled_nor_serialised() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("canary-7"))
    with pytest.raises(TypeError):
        json.dumps(Secret("canary-7"))


def test_secrets_are_compared_by_their_text() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("ä") == Secret("ä")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a")
    assert not Secret("")


# --- OAuth 1.0a -----------------------------------------------------------------------------------


def test_hmac_sha1_as_in_rfc_5849() -> None:
    """Section 1.2, the first request, two-legged.

    With `oauth_version`, as the tests of several OAuth libraries publish it (the RFC prints it without).
    Where a parameter stands does not matter for the base string, so the callback is in the query here.
    """
    keys = OAuth1Keys("dpf43f3p2l4k3l03", Secret("kd94hf93k423kf44"), "HMAC-SHA1")
    url = "https://photos.example.net/initiate?oauth_callback=http%3A%2F%2Fprinter.example.com%2Fready"
    assert Signer(keys, "POST", url).signature("wIjqoS", 137131200) == "msrTmwtDEKqeVXeJaufuiXOpbJI="


def test_hmac_sha256_as_published_for_the_same_request() -> None:
    """The same request in the HMAC-SHA256 tests of those libraries."""
    keys = OAuth1Keys("dpf43f3p2l4k3l03", Secret("kd94hf93k423kf44"), "HMAC-SHA256")
    url = "https://photos.example.net/initiate?oauth_callback=http%3A%2F%2Fprinter.example.com%2Fready"
    signature = Signer(keys, "POST", url).signature("wIjqoS", 137131200)
    assert signature == "WRDBO0foVD0tBkZ2wz6TzQJ5c0/KFGz6dfY2eXCcJoA="


def test_hmac_sha256_as_documented_by_a_vendor() -> None:
    """The request of NetSuite's help (two-legged), with the signature in the tests of a client of theirs."""
    both = "60712990bc09623786e7047c226bcb3f86d49dca0b04efc21001dc76d97a81f5"
    keys = OAuth1Keys(both, Secret(both), "HMAC-SHA256")
    url = (
        "https://1234567.restlets.api.netsuite.com/rest/requesttoken"
        "?oauth_callback=https%3A%2F%2Fmy.example.com%2FTBA%2F%3FcallbackRequest"
    )
    signature = Signer(keys, "POST", url).signature("bUvpxBX93OWo0FLswq5M", 1575998103)
    assert signature == "KPBoxLKj2sTc+7dmTT9K2dsVnK5r7n5/RopNeuZrn70="


def fields(header: str) -> dict[str, str]:
    scheme, _, rest = header.partition(" ")
    assert scheme == "OAuth"
    pairs = (entry.split("=", 1) for entry in rest.split(", "))
    return {name: unquote(value.strip('"')) for name, value in pairs}


SEGMENT = st.text("abcXYZ019-._~", min_size=1, max_size=8) | st.sampled_from(
    ["lid%3a%2f%2fa.b.c", "%E4", "a+b"]
)


@given(
    method=st.sampled_from(["HMAC-SHA256", "HMAC-SHA1"]),
    http_method=st.sampled_from(["GET", "POST"]),
    origin=st.sampled_from(
        ["https://ion.example", "https://ION.example:443", "http://127.0.0.1:28090", "https://[::1]:8443"]
    ),
    path=st.lists(SEGMENT, max_size=4).map("/".join),
    query=st.sampled_from(["", "?b=2&a=1&a=0", "?x=%20y&oauth_q=1"]),
    key=st.text("abc #/+%~ä", min_size=1, max_size=10),
    secret=st.text("abc #/+%~ä&=", max_size=10),
    nonce=st.text("0123456789abcdef", min_size=1, max_size=32),
    timestamp=st.integers(min_value=0, max_value=2**40),
)
def test_signatures_equal_those_of_oauthlib(
    method: SignatureMethod,
    http_method: Literal["GET", "POST"],
    origin: str,
    path: str,
    query: str,
    key: str,
    secret: str,
    nonce: str,
    timestamp: int,
) -> None:
    """Every parameter of the header equals that of oauthlib's own client, for any request."""
    url = f"{origin}/{path}{query}"
    signer = Signer(OAuth1Keys(key, Secret(secret), method), http_method, url)
    client = Client(key, secret, signature_method=method, nonce=nonce, timestamp=str(timestamp))
    _, headers, _ = client.sign(url, http_method)
    assert fields(signer.header(nonce, timestamp)) == fields(headers["Authorization"])
    assert fields(signer.header("another", 1))["oauth_signature"] != signer.signature(nonce, timestamp)


def test_the_path_is_signed_as_it_is_sent() -> None:
    """Computed by hand: the escapes of the path are escaped once more, in the case they have."""
    keys = OAuth1Keys("key", Secret("secret"), "HMAC-SHA256")
    url = "https://ion.example:28090/service/v3/lid%3a%2f%2facme.orders.1/acceptedDocuments"
    base = (
        "GET&https%3A%2F%2Fion.example%3A28090%2Fservice%2Fv3%2Flid%253a%252f%252facme.orders.1"
        "%2FacceptedDocuments&oauth_consumer_key%3Dkey%26oauth_nonce%3Dabc%26oauth_signature_method"
        "%3DHMAC-SHA256%26oauth_timestamp%3D1700000000%26oauth_version%3D1.0"
    )
    expected = base64.b64encode(hmac.digest(b"secret&", base.encode(), hashlib.sha256)).decode()
    assert Signer(keys, "GET", url).signature("abc", 1700000000) == expected


# --- .ionapi --------------------------------------------------------------------------------------

FILE: dict[str, Any] = {
    "ti": "ACME_PRD",
    "cn": "orders",
    "dt": "12",
    "ci": "ACME_PRD~client",
    "cs": "canary-client-secret",
    "iu": "https://gateway.example",
    "pu": "https://login.example:443/ACME_PRD/as/",
    "oa": "authorization.oauth2",
    "ot": "token.oauth2",
    "or": "revoke_token.oauth2",
    "ev": "V1",
    "v": "1.0",
    "saak": "ACME_PRD#canary-account",
    "sask": "canary-account-secret",
}


def parsed(**changes: object) -> oauth.IonApi:
    return oauth.parse_ionapi(json.dumps({**FILE, **changes}))


def test_an_ionapi_file_has_the_urls_and_the_credentials() -> None:
    api = parsed()
    assert api.service_url == "https://gateway.example/ACME_PRD/IONSERVICES/api/ion/messaging/service"
    assert api.token_url == "https://login.example:443/ACME_PRD/as/token.oauth2"
    assert api.client_id == "ACME_PRD~client"
    assert api.client_secret.reveal() == "canary-client-secret"
    assert api.account_key is not None
    assert api.account_secret is not None
    assert api.account_key.reveal() == "ACME_PRD#canary-account"
    assert api.account_secret.reveal() == "canary-account-secret"
    assert "canary" not in repr(api)


def test_paths_are_joined_by_one_slash() -> None:
    assert parsed(pu="https://l.example/as", ot="/token").token_url == "https://l.example/as/token"
    assert parsed(iu="https://g.example/").service_url.startswith("https://g.example/ACME_PRD/")


def test_unknown_keys_are_ignored() -> None:
    assert parsed(zz={"deep": [1]}, v=None) == parsed()


@pytest.mark.parametrize("name", ["iu", "pu"])
@pytest.mark.parametrize("user", ["canary", "user:canary", "user:can@ary", ":canary"])
def test_a_url_with_a_user_is_refused_without_being_shown(name: str, user: str) -> None:
    with pytest.raises(CredentialError, match=f'"{name}" in the .ionapi file has a user') as caught:
        parsed(**{name: f"https://{user}@gateway.example/x"})
    assert "can" not in str(caught.value)


@pytest.mark.parametrize("name", ["ti", "ci", "cs", "iu", "pu", "ot"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_key_is_named_with_the_fix(name: str, value: object) -> None:
    with pytest.raises(CredentialError, match=rf'lacks "{name}"; download the \.ionapi file again'):
        parsed(**{name: value})


@pytest.mark.parametrize("name", ["ti", "ci", "cs", "iu", "pu", "ot", "saak", "sask"])
@pytest.mark.parametrize("value", [5, ["canary"], {"a": "canary"}, True])
def test_a_value_that_is_not_a_string_is_named_and_not_shown(name: str, value: object) -> None:
    with pytest.raises(CredentialError, match=f'"{name}" in the .ionapi file is not a string') as caught:
        parsed(**{name: value})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["ti", "ci", "cs", "iu", "pu", "ot", "saak", "sask"])
@pytest.mark.parametrize("blank", [" ", "\t", "\r\nX-Header: ", "\u00a0", "\u200b", "\x00"])
def test_a_blank_within_a_value_is_named_and_not_shown(name: str, blank: str) -> None:
    with pytest.raises(CredentialError, match=f'"{name}" in the .ionapi file has a blank') as caught:
        parsed(**{name: f"canary{blank}1"})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["ti", "ci", "cs", "iu", "pu", "ot", "saak", "sask"])
@pytest.mark.parametrize("blank", [" ", "\n", "\r\n", "\t", "\u00a0", "\u200b", "\ufeff"])
def test_blanks_around_a_value_are_no_part_of_it(name: str, blank: str) -> None:
    assert parsed(**{name: f"{blank}{FILE[name]}{blank}"}) == parsed()
    with pytest.raises(CredentialError, match="lacks"):
        parsed(**{name: blank})


def test_a_byte_order_mark_before_the_file_is_no_part_of_it() -> None:
    """As Windows' editors write it."""
    assert oauth.parse_ionapi("\ufeff" + json.dumps(FILE)) == parsed()


@pytest.mark.parametrize(("name", "other"), [("saak", "sask"), ("sask", "saak")])
def test_half_a_service_account_is_an_error(name: str, other: str) -> None:
    with pytest.raises(CredentialError, match=f'lacks "{name}" of its service account'):
        parsed(**{name: None})
    assert parsed(**{name: None, other: None}).account_key is None


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"canary"', "[" * 100_000, "\x00", "9" * 5000])
def test_a_file_that_is_not_a_json_object_is_an_error_that_quotes_nothing(text: str) -> None:
    with pytest.raises(CredentialError, match="is not") as caught:
        oauth.parse_ionapi(text)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["iu", "pu"])
@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://gateway.example", "is plain http; use https"),
        ("http://127.evil.example", "is plain http"),
        ("http://localhost.evil.example/", "is plain http"),
        ("ftp://127.0.0.1/", "is not a URL"),
        ("gateway.example", "is not a URL"),
        ("https://", "is not a URL"),
        ("https://h:port/", "has a port that is not a number"),
        ("https://[::1", "is not a URL"),
        ("file:///etc/passwd", "is not a URL"),
        ("https://gateway.example/?x=canary", "has a user, a query or a fragment"),
        ("https://b\u00fccher.example", r"has the character U\+00FC \(LATIN SMALL LETTER U WITH DIAERESIS\)"),
        ("https://gate\u2011way.example", r"has the character U\+2011 \(NON-BREAKING HYPHEN\) in its host"),
    ],
)
def test_the_urls_are_checked_like_that_of_ion(name: str, url: str, what: str) -> None:
    """Credentials are not sent unencrypted, except within this machine."""
    with pytest.raises(CredentialError, match=f'"{name}" in the .ionapi file {what}') as caught:
        parsed(**{name: url})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8481", "http://localhost:1/x", "http://[::1]:80", "https://h.example"]
)
def test_plain_http_is_allowed_to_this_machine_only(url: str) -> None:
    assert parsed(iu=url).gateway == url


# --- the token request ----------------------------------------------------------------------------


def form(request: oauth.TokenRequest) -> dict[str, str]:
    return {name: value[0] for name, value in parse_qs(request.form.decode(), strict_parsing=True).items()}


def test_a_service_account_uses_the_password_grant() -> None:
    request = oauth.token_request(parsed(), basic=False, scope=None)
    assert request.url == "https://login.example:443/ACME_PRD/as/token.oauth2"
    assert form(request) == {
        "grant_type": "password",
        "username": "ACME_PRD#canary-account",
        "password": "canary-account-secret",
        "client_id": "ACME_PRD~client",
        "client_secret": "canary-client-secret",
    }
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Authorization" not in request.headers


def test_without_an_account_the_grant_is_client_credentials() -> None:
    request = oauth.token_request(parsed(saak=None, sask=None), basic=False, scope="a b")
    assert form(request) == {
        "grant_type": "client_credentials",
        "client_id": "ACME_PRD~client",
        "client_secret": "canary-client-secret",
        "scope": "a b",
    }


@pytest.mark.parametrize("account", [{}, {"saak": None, "sask": None}])
def test_client_credentials_may_be_sent_as_http_basic(account: dict[str, None]) -> None:
    request = oauth.token_request(parsed(**account), basic=True, scope="s")
    pair = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
    assert pair == "ACME_PRD~client:canary-client-secret"
    assert not {"client_id", "client_secret"} & form(request).keys()
    assert form(request)["scope"] == "s"


def test_a_token_request_does_not_show_its_secrets() -> None:
    for basic in (True, False):
        assert "canary" not in repr(oauth.token_request(parsed(), basic=basic, scope=None))


# --- the token service's response -------------------------------------------------------------------


def answer(**fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (7200, 7200.0),
        ("7200", 7200.0),
        (0.5, 0.5),
        (" 60 ", 60.0),
        (10**400, oauth.ASSUMED_LIFETIME),
        ("1e999", 24 * 3600.0),
        (10**30, 24 * 3600.0),
        (0, oauth.ASSUMED_LIFETIME),
        (-1, oauth.ASSUMED_LIFETIME),
        ("nan", oauth.ASSUMED_LIFETIME),
        ("soon", oauth.ASSUMED_LIFETIME),
        (True, oauth.ASSUMED_LIFETIME),
        (None, oauth.ASSUMED_LIFETIME),
        ([7200], oauth.ASSUMED_LIFETIME),
    ],
)
def test_the_lifetime_of_a_token_is_read_or_assumed_with_caution(expires_in: object, lifetime: float) -> None:
    """A lifetime of 0 would fetch a token for every request, and the quota is 100 a day."""
    token = oauth.read_token(answer(access_token="t", token_type="Bearer", expires_in=expires_in))
    assert isinstance(token, oauth.Token)
    assert token.lifetime == lifetime


def test_a_token_is_read_and_not_shown() -> None:
    token = oauth.read_token(answer(access_token="canary.jwt-1_2~+/="))
    assert isinstance(token, oauth.Token)
    assert token.value.reveal() == "canary.jwt-1_2~+/="
    assert "canary" not in repr(token)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"<html>",
        b"\xff",
        b"null",
        b"[]",
        b"[" * 100_000,
        answer(),
        answer(access_token=""),
        answer(access_token=5),
        answer(access_token=["canary"]),
        answer(access_token="canary two"),
        answer(access_token="canary\r\nX: 1"),
        answer(access_token="cänary"),
        answer(access_token="canary" * 1001),
    ],
)
def test_a_response_without_a_usable_token_is_an_error_that_quotes_nothing(reply: bytes) -> None:
    """A token with a line break would inject headers."""
    found = oauth.read_token(reply)
    assert isinstance(found, str)
    assert "access_token" in found
    assert "canary" not in found


@given(st.binary(max_size=200))
def test_no_response_raises(reply: bytes) -> None:
    oauth.read_token(reply)
    oauth.read_token_error(reply)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (answer(error="invalid_client"), "invalid_client"),
        (answer(error="invalid_grant", error_description="locked"), "invalid_grant: locked"),
        (answer(error_description="only this"), "only this"),
        (answer(error=5, error_description=None), ""),
        (b"<html>", ""),
        (b"[]", ""),
    ],
)
def test_an_error_is_read(body: bytes, error: str) -> None:
    assert oauth.read_token_error(body).text == error


def test_the_code_of_an_error_is_read() -> None:
    assert (
        oauth.read_token_error(answer(error="invalid_grant", error_description="x")).code == "invalid_grant"
    )
    for body in (answer(error=5), answer(error_description="only this"), b"<html>", b"[]"):
        assert oauth.read_token_error(body).code == ""


def test_an_error_is_bounded() -> None:
    found = oauth.read_token_error(answer(error="x" * 10**5, error_description="y" * 10**5))
    assert len(found.text) <= 1202


def test_a_token_is_due_for_renewal_at_nine_tenths_of_its_lifetime() -> None:
    assert not oauth.is_due_for_renewal(1000.0, 7200.0, 1000.0 + 6479.9)
    assert oauth.is_due_for_renewal(1000.0, 7200.0, 1000.0 + 6480.0)
