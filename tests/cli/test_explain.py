"""`relay explain`: the run book, part of the installed package."""

import json

import pytest

from relay.cli import main
from relay.observability import error_codes


def explained(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["explain", *words])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.mark.parametrize("text", ["RELAY-101", "relay-101", "101"])
def test_a_code_prints_its_page(capsys: pytest.CaptureFixture[str], text: str) -> None:
    code, out, _ = explained(capsys, text)
    assert code == 0
    assert out.startswith("# RELAY-101: ION asks to wait\n")
    assert "## What you can do\n" in out


def test_without_a_code_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explained(capsys)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [one.code for one in error_codes.CODES]


@pytest.mark.parametrize(
    ("text", "says"),
    [("busy", "RELAY-101 (ION asks to wait)"), ("zzzzzz", "list all codes with: relay explain")],
)
def test_an_unknown_code_is_a_usage_error_with_the_nearest_code(
    capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    code, out, err = explained(capsys, text)
    assert (code, out) == (2, "")
    assert text in err
    assert says in err


def test_json_holds_the_page_and_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    one = json.loads(explained(capsys, "131", "--json")[1])
    assert one.pop("page").startswith("# RELAY-131: ")
    assert one == {
        "code": "RELAY-131",
        "title": "The outbox cannot be used",
        "kinds": ["outbox"],
        "events": ["audit.skipped"],
    }
    assert len(json.loads(explained(capsys, "--json")[1])) == len(error_codes.CODES)
