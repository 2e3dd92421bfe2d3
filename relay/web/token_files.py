"""The tokens of the page, from files that are read again when they change.

A file that cannot be used at the start ends it; one that becomes so later leaves the last tokens in effect.
"""

import time
from pathlib import Path

from relay.config.sections import WebSettings
from relay.config.settings import SettingsError
from relay.core.validation import Problem
from relay.ion.credentials import Fingerprint, fingerprint
from relay.ion.oauth import Secret
from relay.observability import logs
from relay.observability.regular_file import read_regular_text
from relay.web.access_control import AccessTokens

MIN_LENGTH = 20
"""Characters of a token: guessing one of so many is hopeless, whatever the pace."""

_CHECK_SECONDS = 1.0
_HINT = "write a long random text into it: openssl rand -hex 32"


class TokenFiles:
    """The files that the settings name, checked at most once a second, on demand. Raises SettingsError."""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._files = [path for path in (settings.token_file, settings.read_token_file) if path is not None]
        self._fingerprint: Fingerprint = fingerprint(self._files)
        self._tokens = access_tokens(settings)
        self._next_check = time.monotonic() + _CHECK_SECONDS

    def current(self) -> AccessTokens:
        """The tokens in effect."""
        now = time.monotonic()
        if self._files and now >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            self._check()
        return self._tokens

    def _check(self) -> None:
        seen = fingerprint(self._files)
        if seen == self._fingerprint:
            return
        self._fingerprint = seen
        try:
            self._tokens = access_tokens(self._settings)
        except SettingsError as error:
            for problem in error.problems:
                logs.logger().error(
                    "settings.refused",
                    setting=problem.field,
                    reason=f"{problem.what}; the token before stays in effect",
                    hint=problem.hint,
                )


def access_tokens(settings: WebSettings) -> AccessTokens:
    """Those of the files that the settings name. Raises SettingsError."""
    operator = _token(settings.token_file, "TOKEN_FILE")
    reader = _token(settings.read_token_file, "READ_TOKEN_FILE")
    if operator is not None and operator == reader:
        what = "has the token of RELAY_WEB__TOKEN_FILE, so that every reader would be an operator"
        raise SettingsError([Problem("RELAY_WEB__READ_TOKEN_FILE", what, f"use another token: {_HINT}")])
    return AccessTokens(operator, reader)


def _token(file: Path | None, name: str) -> Secret | None:
    if file is None:
        return None
    setting = f"RELAY_WEB__{name}"
    try:
        text = read_regular_text(file).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        what = f"{file} cannot be read: {reason}"
        raise SettingsError([Problem(setting, what, "correct the path, or make it readable")]) from None
    if len(text) < MIN_LENGTH or not text.isprintable() or not text.isascii() or " " in text:
        what = f"{file} does not contain one line of {MIN_LENGTH} or more ASCII characters without blanks"
        raise SettingsError([Problem(setting, what, _HINT)])
    return Secret(text)
