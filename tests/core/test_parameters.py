"""Parameters as applications stored them: whatever JSON allows is read, or named; reading never raises."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.parameters import portable_parameters, read_parameters, shown_parameters
from relay.core.validation import MAX_NESTING, MAX_PARAMETERS, Problem

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
)


def nested(levels: int) -> str:
    return '{"source": ' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


def test_no_parameters_are_an_empty_object() -> None:
    assert read_parameters("{}") == read_parameters(" { } ") == {}


def test_a_json_object_is_read_as_it_is() -> None:
    assert read_parameters(
        '{"variationId": 3, "custom_A": "Gr\\u00fc\\u00dfe", "instances": [1, {"a": null}]}'
    ) == {
        "variationId": 3,
        "custom_A": "Grüße",
        "instances": [1, {"a": None}],
    }
    deepest = read_parameters(nested(MAX_NESTING))
    assert isinstance(deepest, dict)
    assert list(deepest) == ["source"]


def test_brackets_in_strings_nest_nothing() -> None:
    text = json.dumps({"custom_A": "[{" * MAX_NESTING + '\\"[', "custom_B": "]" * 300})
    assert read_parameters(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "are not JSON"),
        ("{", "are not JSON"),
        ('{"custom_A": "x"}\x00zz', "are not JSON"),
        ("[]", "are not a JSON object"),
        ("null", "are not a JSON object"),
        ('{"source": 1e999}', "contain a value that JSON cannot hold"),
        ('{"source": [-1e999]}', "contain a value that JSON cannot hold"),
        ('{"source": NaN}', "contain a value that JSON cannot hold"),
        ('{"variationId": ' + "9" * 5000 + "}", "contain a number of thousands of digits"),
        ('{"custom_A": "\\ud800"}', "contain half of a surrogate pair, which is no character"),
        ('{"\\udfff": 1}', "contain half of a surrogate pair, which is no character"),
        (nested(MAX_NESTING + 1), f"are nested more than {MAX_NESTING} levels deep"),
        (nested(990), f"are nested more than {MAX_NESTING} levels deep"),
        (nested(3000), f"are nested more than {MAX_NESTING} levels deep"),
        ('{"source": ' + "[" * 30_000, f"are nested more than {MAX_NESTING} levels deep"),
        ('{"source": "' + '\\"[' * 200 + "[" * 200, "are not JSON"),
        ('{"custom_A": "' + "x" * MAX_PARAMETERS + '"}', f"have more than {MAX_PARAMETERS} characters"),
    ],
    ids=lambda value: value[:40],
)
def test_what_not_every_program_can_read_is_named(text: str, what: str) -> None:
    found = read_parameters(text)
    assert isinstance(found, Problem)
    assert (found.field, found.what) == ("parameters", what)
    assert str(found).isprintable()
    shown = shown_parameters(text)
    assert shown == {"unreadable": str(found), "text": text[:500]}


@pytest.mark.parametrize("text", [nested(990), '{"custom_A": "x"}\x00zz'])
def test_what_a_store_may_refuse_becomes_a_text_in_json(text: str) -> None:
    portable = portable_parameters(text)
    assert read_parameters(portable) == {"unreadable": str(read_parameters(text)), "text": text}
    assert portable_parameters(portable) == portable


@pytest.mark.parametrize("text", ['{"custom_A": "x"}', '{"source": 1e999}', '{"custom_A": "\\ud800"}'])
def test_what_each_store_takes_stays_as_it_is(text: str) -> None:
    assert portable_parameters(text) == text


def test_what_can_be_read_is_shown_as_it_is() -> None:
    assert shown_parameters('{"variationId": 3}') == {"variationId": 3}


@given(st.one_of(st.text(st.characters()), st.dictionaries(st.text(st.characters()), JSON).map(json.dumps)))
def test_reading_never_raises_and_what_was_read_can_be_written(text: str) -> None:
    """Also near the end of the interpreter's stack."""
    found = read_parameters(text)
    if isinstance(found, Problem):
        str(found).encode()
    else:
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()


def test_the_bound_lies_below_what_the_interpreter_can_nest() -> None:
    assert sys.getrecursionlimit() > MAX_NESTING * 4
