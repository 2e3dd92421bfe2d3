"""This file is what every command begins with: the settings as they are here, and the outbox they name."""

import asyncio
import getpass
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from relay.config.settings import Settings, load
from relay.core.model import TenantId

if TYPE_CHECKING:
    from relay.config.sections import OutboxSettings
    from relay.core.ports import Store
    from relay.reports.overview import Configured

T = TypeVar("T")


def settings() -> Settings:
    """From this process' environment and folder. Raises SettingsError."""
    return load(os.environ, directory=Path.cwd())


def configured(known: Settings) -> "Configured":
    """The tenants of these settings, as `relay.view` wants them."""
    return {TenantId(name): tenant.ordering for name, tenant in known.tenants.items()}


def who() -> str:
    """Who decides here, as the audit has it: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def at_outbox(at: "OutboxSettings", work: "Callable[[Store], Awaitable[T]]", *, create: bool = False) -> T:
    """Open the outbox, do the work, close it. Raises StoreError. `create`: where there is none yet."""
    from relay.outbox import open_outbox

    async def run() -> T:
        outbox = await open_outbox(at.location, create=create, notify=False)
        try:
            return await work(outbox)
        finally:
            await outbox.close()

    return asyncio.run(run())
