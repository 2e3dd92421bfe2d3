from collections.abc import AsyncIterator

import pytest

from relay.sandbox import Sandbox, SandboxTenant
from tests.sandbox.client import IonClient


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    tenants = [
        SandboxTenant("ACME_PRD", "lid://acme.orders.1", ["Sync.SalesOrder", "Sync.Shipment"]),
        SandboxTenant("GLOBEX_TST", "lid://globex.orders.1", ["Sync.SalesOrder"], auth="oauth1"),
    ]
    async with Sandbox(tenants) as running:
        yield running


@pytest.fixture
async def acme(sandbox: Sandbox) -> AsyncIterator[IonClient]:
    async with IonClient(sandbox, "ACME_PRD") as client:
        yield client


@pytest.fixture
async def globex(sandbox: Sandbox) -> AsyncIterator[IonClient]:
    async with IonClient(sandbox, "GLOBEX_TST", "oauth1") as client:
        yield client
