"""The run book on the page: what each code means, what the relay does, and what an operator can do."""

import re

from aiohttp import web
from markdown_it import MarkdownIt

from relay.observability import error_codes
from relay.web.pages import page

_MARKDOWN = MarkdownIt("commonmark", {"html": False})
_CODE = re.compile(r"`[^`]*`|(?<![\w/-])(RELAY-1\d\d)(?![\w-]|\.\w)")
"""Or a command, which may name a code and stays as it is."""
_TITLE = re.compile(r"\A# [^\n]*\n+")
_LINK = re.compile(r"\[([^\]]*)\]\((?!/)[^)]*\)")


async def index(request: web.Request) -> web.Response:
    """All codes."""
    return page(request, "run_book.html", codes=error_codes.CODES, code=None, text="")


async def entry(request: web.Request) -> web.Response:
    """One code's page."""
    code = error_codes.find(request.match_info["code"])
    if code is None:
        raise web.HTTPNotFound(text=f"there is no code {request.match_info['code']}; the run book lists all")
    return page(request, "run_book.html", codes=(), code=code, text=rendered(error_codes.page_of(code)))


def rendered(text: str) -> str:
    """A page as HTML. Links lead to the other pages of the run book; those to files stay text."""
    body = _LINK.sub(r"\1", _TITLE.sub("", text))
    return str(_MARKDOWN.render(_CODE.sub(_linked, body)))


def _linked(found: re.Match[str]) -> str:
    return f"[{found[1]}](/run-book/{found[1]})" if found[1] else found[0]
