"""The routes of the operator's page, and its login."""

import math
from importlib import resources

from aiohttp import web

from relay.web import run_book
from relay.web.access_control import Access, local_path, read_form, require_own_site, set_session_cookie
from relay.web.actions import Actions
from relay.web.live_updates import LiveUpdates
from relay.web.pages import Library, Pages, add_templates, page, with_error_page

_TYPES = {
    "style.css": "text/css",
    "page.js": "text/javascript",
    "helpers.js": "text/javascript",
    "activity.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def routes(app: web.Application, library: Library, access: Access) -> None:
    """Add the routes; all but the login require a session."""
    add_templates(app)
    pages = Pages(library)
    actions, live, login = Actions(library, pages), LiveUpdates(library, access), _Login(access)
    app.on_shutdown.extend([live.stop, actions.stop])
    guarded = {
        ("GET", "/"): pages.overview,
        ("GET", "/tenants/{tenant:[A-Za-z0-9_]+}"): pages.tenant,
        ("GET", "/messages"): pages.messages,
        ("GET", "/message"): pages.message,
        ("GET", "/audit"): pages.audit,
        ("GET", "/audit/{id:-?[0-9]{1,19}}"): pages.entry,
        ("GET", "/activity"): pages.activity,
        ("GET", "/activity/{tenant:[A-Za-z0-9_]+}"): pages.activity,
        ("GET", "/events"): live.events,
        ("GET", "/run-book"): run_book.index,
        ("GET", "/run-book/{code:[A-Za-z0-9-]{1,20}}"): run_book.entry,
        ("POST", "/tenants/{tenant:[A-Za-z0-9_]+}/{what:pause|resume|ask}"): actions.on_tenant,
        ("POST", "/messages/preview"): actions.preview,
        ("POST", "/messages/decide"): actions.decide,
        ("POST", "/message/document"): actions.show_payload,
        ("POST", "/audit/{id:-?[0-9]{1,19}}/cancel"): actions.cancel,
        ("POST", "/audit/{id:-?[0-9]{1,19}}/go-on"): actions.advance,
    }
    for (method, path), handler in guarded.items():
        app.router.add_route(method, path, with_error_page(access.guarded(handler)))
    app.router.add_get("/static/{name}", _static)
    app.router.add_get("/login", with_error_page(login.show))
    app.router.add_post("/login", with_error_page(login.sign_in))
    app.router.add_post("/logout", with_error_page(access.guarded(login.sign_out, "reader")))


class _Login:
    """A token becomes a session."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def show(self, request: web.Request) -> web.Response:
        """The form."""
        return _form(request, "")

    async def sign_in(self, request: web.Request) -> web.Response:
        """A valid token begins a session and leads to the page."""
        self._access.require_own_host(request)
        require_own_site(request)
        form, caller = await read_form(request), request.remote or ""
        session = self._access.sign_in(str(form.get("token", "")).strip(), caller)
        if session is None:
            wait = self._access.wait(caller)
            if wait:
                answer = _form(request, f"Too many wrong tokens: wait {wait:.0f} s.", 429)
                answer.headers["Retry-After"] = str(math.ceil(wait))
                return answer
            return _form(request, "This is not a token of this relay.", 403)
        response = web.Response(status=303, headers={"Location": local_path(request.query.get("to", ""))})
        set_session_cookie(response, session, request)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session."""
        self._access.sign_out(request)
        return web.Response(status=303, headers={"Location": "/login"})


def _form(request: web.Request, error: str, status: int = 200) -> web.Response:
    to = local_path(request.query.get("to", ""))
    return page(request, "login.html", status, error=error, to="" if to == "/" else to)


async def _static(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in _TYPES:
        raise web.HTTPNotFound(text="no such file\n")
    body = resources.files("relay.web").joinpath("static", name).read_bytes()
    headers = {"Cache-Control": "max-age=300"}
    return web.Response(body=body, content_type=_TYPES[name], charset="utf-8", headers=headers)
