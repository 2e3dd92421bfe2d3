"""This file is what is served, put together from the settings: which doors, what is behind them, for whom."""

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
from relay.outbox import open_outbox
from relay.web import health, inbound, metrics_endpoint, routes
from relay.web.access_control import Access, Tokens, add_headers
from relay.web.delivery_rates import DeliveryRates
from relay.web.health import Health, HealthSources
from relay.web.inbound_keys import InboundKeys
from relay.web.metrics_endpoint import Look, MetricsEndpoint, OwnedTenants
from relay.web.overview_cache import OverviewCache
from relay.web.pages import Library
from relay.web.relay_bridge import RelayBridge
from relay.web.store_access import StoreAccess
from relay.web.thread import Door, WebThread

_OFF = "off"
_LARGEST_FORM = 64 * 1024
_SHORTEST_TOKEN = 16


def web_thread(
    now: Callable[[], Settings],
    inside: RelayBridge,
    vitals: HealthSources,
    meters: Meters,
    owned: OwnedTenants,
) -> WebThread | None:
    """What the settings want to be served; None: nothing. `now()`: those that hold. Raises SettingsError."""
    settings = now()
    doors: list[Door] = []
    if settings.web.listen != _OFF:
        access = Access(_tokens(settings.web), local=problems.is_loopback(settings.web.listen))
        doors.append(
            Door("RELAY_WEB__LISTEN", settings.web.listen, _application(access, vitals, meters, owned))
        )
    if settings.inbound.listen != _OFF:
        keys = InboundKeys(now)
        build = _inbound(settings.inbound, settings.log.summary_seconds, keys, vitals)
        doors.append(Door("RELAY_INBOUND__LISTEN", settings.inbound.listen, build))
    return WebThread(doors, _reach(settings), inside) if doors else None


def _application(
    access: Access, vitals: HealthSources, meters: Meters, owned: OwnedTenants
) -> Callable[[StoreAccess], web.Application]:
    def build(hall: StoreAccess) -> web.Application:
        """Each part adds its routes here."""
        app = web.Application(client_max_size=_LARGEST_FORM)
        app.on_response_prepare.append(add_headers)
        health.routes(app, Health(hall, vitals), access)
        rates = DeliveryRates(time.monotonic)
        glance = OverviewCache(hall, vitals.configured, rates)
        look = Look(glance.seen, hall.store, meters, owned)
        metrics_endpoint.routes(app, look, MetricsEndpoint(meters), access)
        library = Library(hall, vitals.configured, vitals.accepted, glance, rates, logs.recent_lines)
        routes.routes(app, library, access)
        return app

    return build


def _inbound(
    settings: InboundSettings, summary_seconds: float, keys: InboundKeys, vitals: HealthSources
) -> Callable[[StoreAccess], web.Application]:
    def build(hall: StoreAccess) -> web.Application:
        loop = asyncio.get_running_loop()
        incidents = Incidents(logs.logger(), None, loop.time, summary_seconds, loop.call_later)
        doorman = InboundVerifier(keys.current, settings.window_seconds)
        reception = inbound.Reception(
            doorman, settings.base_url, Health(hall, vitals).hindrance, incidents, time.time
        )
        return inbound.application(reception)

    return build


def _reach(settings: Settings) -> Callable[[], Awaitable[Store]]:
    at = settings.outbox

    async def reach() -> Store:
        return await open_outbox(at.location, notify=False)

    return reach


def _tokens(settings: WebSettings) -> Tokens:
    return Tokens(
        _token(settings.token_file, "TOKEN_FILE"), _token(settings.read_token_file, "READ_TOKEN_FILE")
    )


def _token(file: Path | None, name: str) -> Secret | None:
    if file is None:
        return None
    setting = f"RELAY_WEB__{name}"
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        what = f"{file} cannot be read: {reason}"
        raise SettingsError([Problem(setting, what, "correct the path, or make it readable")]) from None
    if len(text) < _SHORTEST_TOKEN or not text.isprintable():
        what = f"{file} holds no line of {_SHORTEST_TOKEN} characters or more"
        raise SettingsError(
            [Problem(setting, what, "write a long random text into it: openssl rand -hex 32")]
        )
    return Secret(text)
