"""New settings while the relay runs: at SIGHUP, and when the tenants directory changes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from relay.config.settings import Settings, SettingsError
from relay.core.model import TenantId
from relay.core.validation import Problem
from relay.daemon.signals import ProcessSignals
from relay.daemon.systemd import SystemdNotifier
from relay.observability import logs
from relay.observability.logs import Log

_POLL_SECONDS, _POLL_COST_FACTOR = 3.0, 100.0
"""The shortest interval between two polls of the tenants directory; at least 100 times as long as a poll."""

Load = Callable[[], Settings]
Apply = Callable[[Settings], Awaitable[tuple[list[TenantId], list[TenantId]]]]
"""Puts settings into effect: (tenants added or changed, removed)."""


class Reload:
    """The settings in effect, and how new ones replace them. `load` raises SettingsError."""

    def __init__(
        self, settings: Settings, load: Load, apply: Apply, signals: ProcessSignals, log: Log
    ) -> None:
        self.settings = settings
        self._load, self._apply, self._signals, self._log = load, apply, signals, log

    async def run(self, systemd: SystemdNotifier) -> None:
        """Reload at each SIGHUP, for ever."""
        while True:
            await self._signals.reload.wait()
            self._signals.reload.clear()
            systemd.reloading()
            try:
                await self._reload()
            finally:
                systemd.ready()

    async def watch_directory(self) -> None:
        """Treat a change in the tenants directory as a SIGHUP, for ever; it is polled in a thread."""
        tried, took = None, 0.0
        while True:
            await asyncio.sleep(max(_POLL_SECONDS, _POLL_COST_FACTOR * took))
            if self.settings.tenants_dir is None:
                continue
            began = time.monotonic()
            signature = await asyncio.to_thread(self.settings.directory_signature)
            took = time.monotonic() - began
            if signature not in (tried, self.settings.signature):
                tried = signature
                self._signals.reload.set()

    def refuse(self, problems: Iterable[Problem]) -> None:
        """Log what is wrong with settings."""
        for problem in problems:
            self._log.error("settings.refused", setting=problem.field, reason=problem.what, hint=problem.hint)

    async def _reload(self) -> None:
        try:
            settings = await asyncio.to_thread(self._load)
        except SettingsError as error:
            self.refuse(error.problems)
            return
        before = self.settings
        if (settings.outbox, settings.lease_seconds) != (before.outbox, before.lease_seconds):
            name = "RELAY_OUTBOX__URL" if settings.outbox.url != before.outbox.url else "RELAY_OUTBOX__…"
            hint = "restart the relay to use another outbox or lease; the old settings stay in effect"
            self.refuse([Problem(name, "it changed", hint)])
            return
        if (settings.web, settings.inbound) != (before.web, before.inbound):
            hint = "restart the relay to change them; the old ones stay in effect"
            self.refuse([Problem("RELAY_WEB__…, RELAY_INBOUND__…", "they changed", hint)])
        self.refuse(settings.broken)
        self.settings = settings.with_broken_as_before(before)
        logs.configure(settings.log.level, settings.log.format)
        changed, removed = await self._apply(self.settings)
        self._log.info("settings.reloaded", changed=changed, removed=removed)
