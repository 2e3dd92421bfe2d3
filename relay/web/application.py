"""Composition of the web side from the settings: the ports, what each serves, and for whom."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from relay.config import problems
from relay.config.sections import InboundSettings
from relay.config.settings import Settings
from relay.core.ports import Store
from relay.ion.inbound_auth import InboundVerifier
from relay.observability import logs
from relay.observability.incidents import Incidents
from relay.observability.metrics import Meters
from relay.outbox import open_outbox
from relay.web import health, inbound, metrics_endpoint, routes
from relay.web.access_control import Access, add_headers
from relay.web.activity_views import ActivityViews
from relay.web.health import Health, HealthSources
from relay.web.inbound_keys import InboundKeys
from relay.web.login_reports import LoginReports
from relay.web.metrics_endpoint import MetricsEndpoint, OutboxGauges, OwnedTenants
from relay.web.overview_cache import OverviewCache
from relay.web.pages import Library, with_own_errors
from relay.web.relay_bridge import RelayBridge
from relay.web.store_access import StoreAccess
from relay.web.thread import Port, WebThread
from relay.web.token_files import TokenFiles
from relay.web.well_formed import require_host

_OFF = "off"
_MAX_FORM_BYTES = 64 * 1024


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
        build = _application(settings, TokenFiles(settings.web), sources, meters, owned)
        ports.append(Port("RELAY_WEB__LISTEN", settings.web.listen, build))
    if settings.inbound.listen != _OFF:
        keys = InboundKeys(now)
        build = _inbound(settings.inbound, settings.log.summary_seconds, keys, sources)
        ports.append(Port("RELAY_INBOUND__LISTEN", settings.inbound.listen, build))
    return WebThread(ports, _opener(settings), bridge) if ports else None


def _application(
    settings: Settings, tokens: TokenFiles, sources: HealthSources, meters: Meters, owned: OwnedTenants
) -> Callable[[StoreAccess], web.Application]:
    def build(store_access: StoreAccess) -> web.Application:
        """Every component adds its routes."""
        reports = LoginReports(store_access.store, lambda: _incidents(settings.log.summary_seconds))
        access = Access(tokens.current, reports, local=problems.is_loopback(settings.web.listen))
        app = web.Application(client_max_size=_MAX_FORM_BYTES, middlewares=[require_host, with_own_errors])
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
        incidents = _incidents(summary_seconds)
        verifier = InboundVerifier(keys.current, settings.window_seconds)
        context = inbound.InboundContext(
            verifier, settings.base_url, Health(store_access, sources).hindrance, incidents, time.time
        )
        return inbound.application(context)

    return build


def _incidents(summary_seconds: float) -> Incidents:
    loop = asyncio.get_running_loop()
    return Incidents(logs.logger(), None, loop.time, summary_seconds, loop.call_later)


def _opener(settings: Settings) -> Callable[[], Awaitable[Store]]:
    at = settings.outbox

    async def open_store() -> Store:
        return await open_outbox(at.location, create=False, notify=False)

    return open_store
