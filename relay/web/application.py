"""Composition of the web side from the settings: the ports, what each serves, and for whom."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from relay.config import problems
from relay.config.sections import InboundSettings, WebSettings
from relay.config.settings import Settings, SettingsError
from relay.core.ports import Store
from relay.core.validation import Problem
from relay.ion.inbound_auth import InboundVerifier
from relay.ion.oauth import Secret
from relay.observability import logs
from relay.observability.incidents import Incidents
from relay.observability.metrics import Meters
from relay.observability.regular_file import read_regular_text
from relay.outbox import open_outbox
from relay.web import health, inbound, metrics_endpoint, routes
from relay.web.access_control import Access, AccessTokens, add_headers
from relay.web.activity_views import ActivityViews
from relay.web.health import Health, HealthSources
from relay.web.inbound_keys import InboundKeys
from relay.web.metrics_endpoint import MetricsEndpoint, OutboxGauges, OwnedTenants
from relay.web.overview_cache import OverviewCache
from relay.web.pages import Library
from relay.web.relay_bridge import RelayBridge
from relay.web.store_access import StoreAccess
from relay.web.thread import Port, WebThread

_OFF = "off"
_MAX_FORM_BYTES = 64 * 1024
_MIN_TOKEN_LENGTH = 16


def web_thread(
    now: Callable[[], Settings],
    bridge: RelayBridge,
    sources: HealthSources,
    meters: Meters,
    owned: OwnedTenants,
) -> WebThread | None:
    """The web thread that the settings ask for; None: nothing is served. `now()`: the settings in effect.

    Raises SettingsError.
    """
    settings = now()
    ports: list[Port] = []
    if settings.web.listen != _OFF:
        access = Access(access_tokens(settings.web), local=problems.is_loopback(settings.web.listen))
        ports.append(
            Port("RELAY_WEB__LISTEN", settings.web.listen, _application(access, sources, meters, owned))
        )
    if settings.inbound.listen != _OFF:
        keys = InboundKeys(now)
        build = _inbound(settings.inbound, settings.log.summary_seconds, keys, sources)
        ports.append(Port("RELAY_INBOUND__LISTEN", settings.inbound.listen, build))
    return WebThread(ports, _opener(settings), bridge) if ports else None


def _application(
    access: Access, sources: HealthSources, meters: Meters, owned: OwnedTenants
) -> Callable[[StoreAccess], web.Application]:
    def build(store_access: StoreAccess) -> web.Application:
        """Every component adds its routes."""
        app = web.Application(client_max_size=_MAX_FORM_BYTES)
        app.on_response_prepare.append(add_headers)
        health.routes(app, Health(store_access, sources), access)
        overviews = OverviewCache(store_access, sources.configured)
        gauges = OutboxGauges(overviews.overview, store_access.store, meters, owned)
        metrics_endpoint.routes(app, gauges, MetricsEndpoint(meters), access)
        activity = ActivityViews(store_access)
        library = Library(
            store_access, sources.configured, sources.accepted, overviews, activity, logs.recent_lines
        )
        routes.routes(app, library, access)
        return app

    return build


def _inbound(
    settings: InboundSettings, summary_seconds: float, keys: InboundKeys, sources: HealthSources
) -> Callable[[StoreAccess], web.Application]:
    def build(store_access: StoreAccess) -> web.Application:
        loop = asyncio.get_running_loop()
        incidents = Incidents(logs.logger(), None, loop.time, summary_seconds, loop.call_later)
        verifier = InboundVerifier(keys.current, settings.window_seconds)
        context = inbound.InboundContext(
            verifier, settings.base_url, Health(store_access, sources).hindrance, incidents, time.time
        )
        return inbound.application(context)

    return build


def _opener(settings: Settings) -> Callable[[], Awaitable[Store]]:
    at = settings.outbox

    async def open_store() -> Store:
        return await open_outbox(at.location, create=False, notify=False)

    return open_store


def access_tokens(settings: WebSettings) -> AccessTokens:
    """Those of the files that the settings name. Raises SettingsError."""
    return AccessTokens(
        _token(settings.token_file, "TOKEN_FILE"), _token(settings.read_token_file, "READ_TOKEN_FILE")
    )


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
    if len(text) < _MIN_TOKEN_LENGTH or not text.isprintable():
        what = f"{file} does not contain a line of {_MIN_TOKEN_LENGTH} characters or more"
        raise SettingsError(
            [Problem(setting, what, "write a long random text into it: openssl rand -hex 32")]
        )
    return Secret(text)
