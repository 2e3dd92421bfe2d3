"""A folder of tenants while the relay runs: what changes there is applied, and a bad file stops nobody."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from relay.sandbox import Sandbox
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import OutboxRow
from tests.support.process import Station


@pytest.fixture
def station(tmp_path: Path) -> Station:
    """A station whose tenants are in a folder, which is still empty."""
    (tmp_path / "tenants").mkdir()
    return Station(tmp_path, {"RELAY_TENANTS_DIR": "tenants"})


def put(station: Station, sandbox: Sandbox, *tenants: str) -> None:
    """A file for each of these tenants."""
    variables = sandbox.environment(station.folder)
    for tenant in tenants:
        write(station.folder / "tenants" / f"{tenant}.toml", _toml(tenant, variables))


def write(file: Path, text: str) -> None:
    """Write it under a hidden name and rename it, so that the relay never reads half of it."""
    hidden = file.with_name(f".{file.name}")
    hidden.write_text(text)
    hidden.rename(file)


def _toml(tenant: str, variables: Mapping[str, str]) -> str:
    """TOML's texts are JSON's; `oauth1.consumer_key = "…"` needs no table."""
    prefix = f"RELAY_TENANTS__{tenant}__"
    mine = {name.removeprefix(prefix): text for name, text in variables.items() if name.startswith(prefix)}
    return "".join(f"{name.lower().replace('__', '.')} = {json.dumps(text)}\n" for name, text in mine.items())


async def test_a_tenant_added_to_the_folder_is_delivered_without_a_restart_or_signal(
    sandbox: Sandbox, station: Station
) -> None:
    station.application.insert_all([OutboxRow(ACME, b"1"), OutboxRow(GLOBEX, b"2")])
    async with station.relay() as relay:
        put(station, sandbox, GLOBEX)
        await station.until_delivered(GLOBEX)
        put(station, sandbox, ACME)
        await station.until_delivered(ACME)
        await station.event(relay, "settings.reloaded", changed=[ACME], removed=[])
        (station.folder / "tenants" / f"{ACME}.toml").unlink()
        await station.event(relay, "settings.reloaded", removed=[ACME])
        assert not relay.said("settings.refused")
    assert sandbox.record.sent_twice() == []


async def test_an_invalid_file_is_reported_and_its_tenant_keeps_its_settings(
    sandbox: Sandbox, station: Station
) -> None:
    put(station, sandbox, ACME, GLOBEX)
    file = station.folder / "tenants" / f"{ACME}.toml"
    async with station.relay() as relay:
        write(file, "half a fi")
        refused = await station.event(relay, "settings.refused")
        assert (refused["level"], refused["setting"]) == ("error", str(file))
        await station.event(relay, "settings.reloaded", changed=[], removed=[])
        station.application.insert_all([OutboxRow(ACME, b"1"), OutboxRow(GLOBEX, b"2")])
        await station.until_delivered()


async def test_a_file_that_is_bad_at_the_start_keeps_its_tenant_waiting_and_no_other(
    sandbox: Sandbox, station: Station
) -> None:
    put(station, sandbox, GLOBEX)
    (station.folder / "tenants" / f"{ACME}.toml").write_text('logical_id = "lid://acme.orders.1"\n')
    station.application.insert_all([OutboxRow(ACME, b"1"), OutboxRow(GLOBEX, b"2")])
    async with station.relay() as relay:
        refused = await station.event(relay, "settings.refused")
        assert "has no credentials" in refused["reason"]
        await station.until_delivered(GLOBEX)
        assert station.application.states(ACME) == {"pending": 1}
        assert not relay.said("tenant.missed")  # it is told once: that its file is bad
        put(station, sandbox, ACME)
        await station.until_delivered(ACME)


async def test_a_folder_that_is_gone_takes_no_tenant_with_it(sandbox: Sandbox, station: Station) -> None:
    put(station, sandbox, GLOBEX)
    folder, away = station.folder / "tenants", station.folder / "away"
    async with station.relay() as relay:
        folder.rename(away)
        await station.event(relay, "settings.refused", setting="RELAY_TENANTS_DIR")
        station.application.insert(GLOBEX)
        await station.until_delivered(GLOBEX)
        away.rename(folder)
        put(station, sandbox, ACME)
        station.application.insert(ACME)
        await station.until_delivered(ACME)


async def test_a_relay_owns_the_tenants_of_its_patterns_alone(sandbox: Sandbox, station: Station) -> None:
    """`--until-empty` ends though the other's message waits: it belongs to another relay."""
    put(station, sandbox, ACME, GLOBEX)
    station.application.insert_all([OutboxRow(ACME, b"1"), OutboxRow(GLOBEX, b"2")])
    station.environment["RELAY_NOT_TENANTS"] = "acme_*"
    relay = station.start("--until-empty")
    assert await station.ended(relay) == 0
    assert station.application.states(ACME) == {"pending": 1}
    assert station.application.states(GLOBEX) == {"delivered": 1}
    assert not relay.said("tenant.missed")
    station.environment["RELAY_ONLY_TENANTS"], station.environment["RELAY_NOT_TENANTS"] = "acme_*", ""
    assert await station.ended(station.start("--until-empty")) == 0
    assert station.application.states(ACME) == {"delivered": 1}
