"""The files with the page's tokens: what is refused at the start, and what a change later does."""

import os
from pathlib import Path

import pytest

from relay.config.sections import WebSettings
from relay.config.settings import SettingsError
from relay.web.access_control import AccessTokens
from relay.web.token_files import MIN_LENGTH, TokenFiles, access_tokens

GOOD, OTHER = "operator-" + "o" * 24, "reader-" + "r" * 24


@pytest.fixture
def settings(tmp_path: Path) -> WebSettings:
    (tmp_path / "operator").write_text(f"{GOOD}\n")
    (tmp_path / "reader").write_text(OTHER)
    return WebSettings(token_file=tmp_path / "operator", read_token_file=tmp_path / "reader")


def refusal(settings: WebSettings) -> str:
    with pytest.raises(SettingsError) as caught:
        access_tokens(settings)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "short",
        "t" * (MIN_LENGTH - 1),
        "two words " * 4,
        "t\u00fc" * 20,
        f"{GOOD}\n{GOOD}",
        "\u202e" * 30,
    ],
)
def test_a_token_that_can_be_guessed_or_mistaken_is_refused(settings: WebSettings, text: str) -> None:
    assert settings.token_file is not None
    settings.token_file.write_text(text)
    said = refusal(settings)
    assert said.startswith(f"RELAY_WEB__TOKEN_FILE: {settings.token_file} does not contain one line of 20")
    assert "openssl rand -hex 32" in said
    assert "short" not in said.replace("short text", "")


def test_both_roles_with_one_token_are_refused(settings: WebSettings) -> None:
    assert settings.read_token_file is not None
    settings.read_token_file.write_text(GOOD)
    assert "RELAY_WEB__READ_TOKEN_FILE: has the token of RELAY_WEB__TOKEN_FILE" in refusal(settings)


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_no_file_is_refused_and_waited_for_by_nobody(settings: WebSettings, kind: str) -> None:
    path = settings.token_file
    assert path is not None
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    assert f"{path} cannot be read" in refusal(settings)


def test_the_role_is_that_of_the_token(settings: WebSettings) -> None:
    tokens = access_tokens(settings)
    assert [tokens.role_of(text) for text in (GOOD, OTHER, GOOD[:-1], "", "\udcff")] == [
        *("operator", "reader", None, None, None)
    ]
    assert AccessTokens().role_of("") is None


def test_a_changed_file_counts_and_an_unusable_one_leaves_the_token_before(
    settings: WebSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("relay.web.token_files.time.monotonic", lambda: clock[0])
    files = TokenFiles(settings)
    assert settings.token_file is not None
    new = "another-" + "n" * 30
    for text, role_of_new in ((new, "operator"), ("short", "operator"), (GOOD, None)):
        settings.token_file.write_text(text)
        clock[0] += 2
        assert files.current().role_of(new) == role_of_new
    settings.token_file.unlink()
    clock[0] += 2
    assert files.current().role_of(GOOD) == "operator"
