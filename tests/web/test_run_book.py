"""The run book on the page: every code can be read there, and nothing of it leads elsewhere or becomes markup."""

import re

import pytest

from relay.observability import error_codes
from relay.web.run_book import rendered

HEADINGS = ["What happened", "What the relay does now", "What you can do", "How to see that it is over"]


@pytest.mark.parametrize("code", error_codes.CODES, ids=lambda code: code.code)
def test_every_code_is_rendered_with_its_headings_and_links_within_the_page(code: error_codes.Code) -> None:
    html = rendered(error_codes.page_of(code))
    assert re.findall(r"<h2>(.*?)</h2>", html) == HEADINGS
    assert "<h1>" not in html
    assert all(re.fullmatch(r"/run-book/RELAY-1\d\d", link) for link in re.findall(r'href="(.*?)"', html))
    assert set(re.findall(r"<[a-z0-9]+", html)) <= {
        "<h2", "<p", "<ul", "<ol", "<li", "<code", "<pre", "<a", "<strong", "<em", "<blockquote", "<br",
    }  # fmt: skip
    for linked in re.findall(r'href="/run-book/(.*?)"', html):
        assert error_codes.find(linked) is not None


def test_a_code_in_a_command_stays_text_and_markup_is_escaped() -> None:
    html = rendered("# Title\n\n<script>x</script> `relay explain RELAY-101` and RELAY-102.\n")
    assert "<script" not in html
    assert "<code>relay explain RELAY-101</code>" in html
    assert '<a href="/run-book/RELAY-102">RELAY-102</a>' in html
