from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.sandbox import Sandbox, SandboxTenant
from tests.support.application import ORDER, SHIPMENT
from tests.support.process import Station

ACME = "ACME_PRD"
GLOBEX = "GLOBEX_TST"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """An ION simulator for two tenants, one for each authentication; no violation may be reported."""
    tenants = [
        SandboxTenant(ACME, "lid://acme.orders.1", [ORDER, SHIPMENT], auth="oauth2"),
        SandboxTenant(GLOBEX, "lid://globex.orders.1", [ORDER, SHIPMENT], auth="oauth1"),
    ]
    async with Sandbox(tenants) as started:
        yield started
        assert started.violations == []


@pytest.fixture
def station(sandbox: Sandbox, tmp_path: Path) -> Station:
    """A folder with an outbox, where a relay is configured to deliver both tenants' messages to the simulator."""
    built = Station(tmp_path)
    built.environment |= sandbox.environment(tmp_path)
    return built
