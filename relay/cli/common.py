"""What commands share: the settings of this process, its outbox, and the name of its user."""

import asyncio
import os
import pwd
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from relay.cli import output
from relay.config.settings import Settings, load
from relay.core.model import TenantId

if TYPE_CHECKING:
    from relay.config.sections import OutboxSettings
    from relay.core.ports import Store
    from relay.outbox import OutboxLocation
    from relay.reports.overview import Configured, Overview

T = TypeVar("T")
_UID_DIGITS = 10


def load_settings(*, warn: bool = True) -> Settings:
    """From this process' environment and working directory. Raises SettingsError.

    `warn`: name what is not a setting on stderr.
    """
    try:
        directory = Path.cwd()
    except OSError:  # it was deleted
        directory = Path()
    settings = load(os.environ, directory=directory)
    for problem in settings.unknown if warn else ():
        output.print_note(f"relay: warning: {problem}")
    return settings


def configured_tenants(settings: Settings) -> "Configured":
    """The tenants of these settings, as `relay.reports` expects them."""
    return {TenantId(name): tenant.ordering for name, tenant in settings.tenants.items()}


def read_overview(settings: Settings) -> "Overview":
    """The state of all tenants now."""
    from relay.reports import overview

    tenants = configured_tenants(settings)
    return with_outbox(
        settings.outbox, lambda outbox: overview.read_overview(outbox, tenants, datetime.now(UTC))
    )


def current_user() -> str:
    """The operator's name in the audit: user@host, as the system knows it, not as the environment says.

    Of root also who became it by sudo: only root could claim another one, and root can write anything.
    """
    user = _name_of(os.geteuid())
    by = os.environ.get("SUDO_UID", "")
    if os.geteuid() == 0 and by.isascii() and by.isdecimal() and len(by) <= _UID_DIGITS:
        user = f"{user} (sudo by {_name_of(int(by))})"
    return f"{user}@{socket.gethostname()}"


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):  # a user id without a name, as in containers
        return str(uid)


def name_outbox(at: "OutboxLocation", *, create: bool = False) -> None:
    """Say which outbox a command changes, loudly where it creates one. Raises StoreError.

    One that is missing and must not be created is an error, which names it, once it is opened.
    """
    if not at.is_missing:
        output.print_note(f"outbox: {at.place}")
    elif create:
        output.print_note(f"relay: creating a NEW outbox: {at.place}")


def with_outbox(at: "OutboxSettings", work: "Callable[[Store], Awaitable[T]]", *, create: bool = False) -> T:
    """Open the outbox, do the work, close it. Raises StoreError. `create`: create a missing outbox."""
    from relay.core.ports import StoreError
    from relay.outbox import open_outbox

    async def run() -> T:
        outbox = await open_outbox(at.location, create=create, notify=False)
        try:
            return await work(outbox)
        finally:
            with suppress(StoreError):  # what was done is stored
                await outbox.close()

    return asyncio.run(run())
