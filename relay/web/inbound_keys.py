"""The consumer keys of ION's own calls, from the settings and from files that may change."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from relay.config.credentials import inbound_sources
from relay.config.settings import Settings
from relay.core.model import TenantId
from relay.ion.credentials import OAuth1Source, fingerprint
from relay.ion.inbound_auth import Key
from relay.ion.oauth import CredentialError
from relay.observability import logs

_CHECK_SECONDS = 1.0


class InboundKeys:
    """By consumer key; settings and files are checked at most once a second, on demand.

    `settings()`: those in effect; new settings are another object.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._current_settings = settings
        self._settings: Settings | None = None
        self._sources: Mapping[TenantId, OAuth1Source] = {}
        self._files: list[Path] = []
        self._log = logs.logger()
        self._fingerprint: object = None
        self._next_check = 0.0
        self._keys: Mapping[str, Key] = {}

    def current(self) -> Mapping[str, Key]:
        """The current keys; a tenant whose secret cannot be read has none."""
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            self._check()
        return self._keys

    def _check(self) -> None:
        settings = self._current_settings()
        is_new = settings is not self._settings
        if is_new:
            self._settings, self._sources = settings, inbound_sources(settings)
            self._files = [path for source in self._sources.values() for path in source.paths]
        seen = fingerprint(self._files)
        if is_new or seen != self._fingerprint:
            try:
                self._fingerprint, self._keys = seen, dict(self._read())
            except OSError:  # too many open files: the keys stay as they are until the next check
                self._fingerprint = None

    def _read(self) -> "list[tuple[str, Key]]":
        found = []
        for tenant, source in self._sources.items():
            try:
                keys = source.read()
            except CredentialError as error:
                setting = f"RELAY_TENANTS__{tenant}__INBOUND__CONSUMER_SECRET_FILE"
                hint = "fix the file; it is read again when it changes"
                self._log.error("settings.refused", setting=setting, reason=str(error), hint=hint)
                continue
            found.append((keys.consumer_key, Key(tenant, keys.consumer_secret)))
        return found
