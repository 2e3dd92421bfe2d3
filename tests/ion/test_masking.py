"""Secrets in the texts of servers: masked, however they are written, and wherever the text ends."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from relay.ion import oauth, response_bodies
from relay.ion.masking import LONGEST_TEXT, MASK, SecretMask

Encoding = Callable[[str], str]

ENCODINGS: dict[str, Encoding] = {
    "as it is": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "percent": lambda text: quote(text, safe=""),
    "percent, lower case": lambda text: quote(text, safe="").lower(),
    "every byte percent": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "form": quote_plus,
    "html": html.escape,
    "html twice": lambda text: html.escape(html.escape(text)),
    "decimal entities": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "hexadecimal entities": lambda text: "".join(f"&#x{ord(c):X};" for c in text),
    "json": lambda text: json.dumps(text)[1:-1],
    "json twice": lambda text: json.dumps(json.dumps(text))[3:-3],
    "json with slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "json escapes": lambda text: "".join(f"\\u{ord(c):04X}" for c in text),
}
SECRETS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=["Cc", "Cs", "Zs"]),
    min_size=6,
    max_size=60,
).filter(lambda text: text.upper().lower() == text.lower() and text == text.strip("\\"))
AROUND = st.text(st.sampled_from("xyz =&<>:"), max_size=30)


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@given(secret=SECRETS, before=AROUND, after=AROUND)
@example(secret="a+b/c=d&e%41", before="client_secret=", after="&x=y")
@example(secret='p"q\\n<r>', before="", after="")
@example(secret="Käse-und-Brot", before="(", after=")")
def test_a_secret_is_masked_however_it_is_written(
    encoding: Encoding, secret: str, before: str, after: str
) -> None:
    assume(secret.lower() not in f"{before} {after}")
    text = f"{before}|{encoding(secret)}|{after}"
    assert SecretMask([secret]).apply(text) == f"{before}|{MASK}|{after}"


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@given(
    secret=st.text(st.sampled_from("ABCDEFGHabcdefgh0123456789/+="), min_size=20, max_size=60), data=st.data()
)
def test_a_secret_at_which_the_text_ends_is_masked(
    encoding: Encoding, secret: str, data: st.DataObject
) -> None:
    """The server cuts its own text: what is left of a secret is not shown, from six characters on."""
    kept = secret[: data.draw(st.integers(6, len(secret) - 1))]
    masked = SecretMask([secret]).apply(f"the form was |{encoding(kept)}")
    assert masked == f"the form was |{MASK}"


@given(secrets=st.lists(SECRETS, min_size=1, max_size=4), texts=st.lists(AROUND, min_size=1, max_size=5))
def test_several_secrets_one_of_which_may_be_part_of_another(secrets: list[str], texts: list[str]) -> None:
    secrets = [*secrets, secrets[0] + "tail"]
    text = "|".join(f"{around}{secret}" for around in texts for secret in secrets)
    masked = SecretMask(secrets).apply(text).lower()
    assert not any(secret.lower() in masked for secret in secrets)


@given(text=st.text(max_size=200))
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert SecretMask([]).apply(text) == text
    assert SecretMask(["abc"]).apply(text) == text, "too short to mask"


def test_a_text_is_masked_before_it_is_cut() -> None:
    secret = "S3cr3t/" * 20
    mask = SecretMask([secret, base64.b64encode(b"id:secret").decode()]).apply
    for start in range(0, 1400, 7):
        body = json.dumps(
            {"error": "a" * start + quote(secret, safe=""), "error_description": html.escape(secret)}
        )
        shown = oauth.read_token_error(body.encode(), mask).text
        assert "S3cr3t" not in shown
        assert (
            "S3cr3t"
            not in response_bodies.read_answer(
                json.dumps({"errors": ["a" * start + secret]}).encode(), "", mask
            ).detail
        )
        page = f"<html><title>{'a' * (start % 150)}{html.escape(secret)}</title>".encode()
        assert "S3cr3t" not in response_bodies.read_answer(page, "", mask).detail
    assert len(mask("b" * 10 * LONGEST_TEXT)) == LONGEST_TEXT
