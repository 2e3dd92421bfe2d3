"""Documents indented for the eye: not a character of a value changes, and no document costs much."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.web.indented import MOST_CHARACTERS, indented

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "pretty"),
    [
        ('{"a":[1,{"b":"ü, {"}],"c":{ },"d":[]}',
         '{\n  "a": [\n    1,\n    {\n      "b": "ü, {"\n    }\n  ],\n  "c": {},\n  "d": []\n}'),
        ('[1.10,100000000000000000.05,1E400,"\\u202e\\/"]',
         '[\n  1.10,\n  100000000000000000.05,\n  1E400,\n  "\\u202e\\/"\n]'),
        ('{"twice":1,"twice":2}', '{\n  "twice": 1,\n  "twice": 2\n}'),
        ("[" + "9" * 6000 + "]", "[\n  " + "9" * 6000 + "\n]"),
        ("\ufeff[]", "[]"),
    ],
)  # fmt: skip
def test_json_is_indented_as_it_is_written(text: str, pretty: str) -> None:
    assert indented(text) == pretty


@given(JSON, st.booleans())
def test_any_json_stays_the_same_value(value: Any, ascii_only: bool) -> None:
    text = json.dumps([value], ensure_ascii=ascii_only, separators=(",", ":"))
    pretty = indented(text)
    assert pretty is not None
    assert json.loads(pretty) == [value]


@pytest.mark.parametrize(
    ("text", "pretty"),
    [
        ("<a><b>x</b><c/><d></d></a>", "<a>\n  <b>x</b>\n  <c/>\n  <d></d>\n</a>"),
        ("<a>\r\n <b/>\r\n</a>", "<a>\n  <b/>\n</a>"),
        ("<a> x &lt;&#160; <b>y</b>\n<c/></a>", "<a> x &lt;&#160; <b>y</b>\n<c/></a>"),
        ("<a><p><![CDATA[ <x> ]]></p><!-- c --><?do it?></a>",
         "<a>\n  <p><![CDATA[ <x> ]]></p>\n  <!-- c -->\n  <?do it?>\n</a>"),
        ("<a><l>DE99 </l><l k='v\" &amp;'\n  m=\"ü\"/></a>",
         "<a>\n  <l>DE99 </l>\n  <l k='v\" &amp;'\n  m=\"ü\"/>\n</a>"),
        ('<?xml version="1.0" encoding="UTF-8"?>\n<n:a xmlns:n="u"><n:b/></n:a>\n<!-- end -->',
         '<?xml version="1.0" encoding="UTF-8"?>\n<n:a xmlns:n="u">\n  <n:b/>\n</n:a>\n<!-- end -->'),
    ],
)  # fmt: skip
def test_xml_is_indented_as_it_is_written(text: str, pretty: str) -> None:
    assert indented(text) == pretty


XML = st.recursive(
    st.sampled_from(["<b/>", "<b></b>", "text &amp; more", " ", "\n", "<!-- - -->", "<![CDATA[<>]]>", "ü"]),
    lambda inner: st.lists(inner, max_size=4).map(lambda parts: f"<e k='v'>{''.join(parts)}</e>"),
    max_leaves=12,
)


@given(XML)
def test_of_any_xml_only_spaces_between_elements_change(inner: str) -> None:
    text = f"<r>{inner}</r>"
    pretty = indented(text)
    assert pretty is not None
    assert "".join(pretty.split()) == "".join(text.split())


@given(st.text(max_size=300), st.sampled_from(["", "[", "{", "<a>", "<"]))
def test_any_text_is_survived(text: str, begin: str) -> None:
    indented(begin + text)


BILLION = (
    '<!DOCTYPE a [<!ENTITY b "xxxxxxxxxx">'
    + "".join(f'<!ENTITY b{n} "{f"&b{n - 1 if n else str()};" * 10}">' for n in range(9))
    + "]><a>&b8;</a>"
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "<a",
        "{",
        "[1,]",
        "[" * 100_000,
        "<a>" * 50_000,
        BILLION,
        '<!doctype a SYSTEM "file:///etc/passwd"><a>&x;</a>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a>&x;</a>',
        "<!DOCTYPE a><a/>",
        "<a>&nbsp;</a>",
        "<a>\x00</a>",
        "<a/><b/>",
    ],
)
def test_what_is_no_document_or_declares_its_type_is_left_alone(text: str) -> None:
    assert indented(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "<a>" * 40_000 + "</a>" * 40_000,
        "<a>" * 900 + "<a/>" * 60_000 + "</a>" * 900,
        "[" * 300 + ",".join("0" * 120_000) + "]" * 300,
        "<a>" + "\n" * 256_000 + "</a>",
        "[" + '""' + ',""' * 80_000 + "]",
    ],
)
def test_a_document_made_to_grow_stays_bounded(text: str) -> None:
    """256 KiB that deep nesting would make 100 MB."""
    assert len(indented(text) or "") <= MOST_CHARACTERS
