"""Secrets that servers echo are masked in their texts, however they are written there, before a text is cut.

A token service may answer with the form that it was sent, a gateway with the headers: as they are, in upper
or lower case, percent-encoded (once or more often), with the entities of HTML, or with the escapes of JSON.
"""

import html
import re
from collections.abc import Iterable, Iterator

MIN_LENGTH = 4
"""Characters; masking shorter secrets would make every text unreadable."""

LONGEST_TEXT = 32_768
"""Characters of a text that are looked at, and kept."""

MASK = "***"
_MIN_BEGINNING = 6
_ROUNDS = 4
"""What is encoded more often is not recognised."""
_TOKEN = re.compile(
    r"%(?:25)*([0-9a-f]{2})"
    r"|&(?:amp;)*(#x[0-9a-f]{1,6};?|#[0-9]{1,7};?|[a-z]{2,8};)"
    r"|\\+u([0-9a-f]{4})|\\+([\\/\"'bfnrt])|(.)",
    re.IGNORECASE | re.DOTALL,
)


class SecretMask:
    """Masks these secrets; those that are too short are left out."""

    def __init__(self, secrets: Iterable[str]) -> None:
        given = [secret for secret in secrets if len(secret) >= MIN_LENGTH]
        found = {_decoded(case)[0] for secret in given for case in _cases(secret)}
        self._secrets = sorted(found, key=len, reverse=True)

    def apply(self, text: str) -> str:
        """The beginning of the text with every secret masked, also one in whose middle the text ends."""
        text = text[:LONGEST_TEXT]
        if not self._secrets:
            return text
        plain, ends = _decoded(text)
        spans = sorted(self._spans(plain))
        parts, at = [], 0
        for first, last in spans:
            begin, end = ends[first], ends[last]
            if begin < at:
                at = max(at, end)
                continue
            parts += [text[at:begin], MASK]
            at = end
        return "".join(parts) + text[at:]

    def _spans(self, plain: str) -> Iterator[tuple[int, int]]:
        for secret in self._secrets:
            at = plain.find(secret)
            while at >= 0:
                yield at, at + len(secret)
                at = plain.find(secret, at + len(secret))
            for length in range(len(secret) - 1, _MIN_BEGINNING - 1, -1):
                if plain.endswith(secret[:length]):
                    yield len(plain) - length, len(plain)
                    break


def _cases(secret: str) -> tuple[str, ...]:
    """Those of ASCII are one; of other letters the bytes differ."""
    return (secret,) if secret.isascii() else (secret, secret.lower(), secret.upper())


def _decoded(text: str) -> tuple[str, list[int]]:
    """The text without its encodings and its backslashes, in one case; where each character begins; the end.

    Its bytes stand as characters. A plus sign may be a blank in a form.
    """
    plain, begins = "", []
    for place, character in enumerate(text):
        encoded = _bytes(character)
        plain += encoded
        begins += [place] * len(encoded)
    begins.append(len(text))
    for _ in range(_ROUNDS):
        before = plain
        plain, places = _decoded_once(before)
        begins = [begins[place] for place in places]
        if plain == before:
            break
    return plain, begins


def _decoded_once(text: str) -> tuple[str, list[int]]:
    plain: list[str] = []
    begins: list[int] = []
    for token in _TOKEN.finditer(text):
        meant = _meaning(token).lower().replace("+", " ").replace("\\", "")
        plain.append(meant)
        begins += [token.start()] * len(meant)
    return "".join(plain), [*begins, len(text)]


def _meaning(token: "re.Match[str]") -> str:
    """What is written so, as bytes."""
    percent, entity, unicode, escaped, plain = token.groups()
    if percent is not None:
        return chr(int(percent, 16))
    if entity is not None:
        return _bytes(html.unescape(f"&{entity.rstrip(';')};"))
    if unicode is not None:
        return _bytes(chr(int(unicode, 16)))
    return str(escaped if escaped is not None else plain)


def _bytes(text: str) -> str:
    """Its bytes as characters."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")
