"""Meters: counted by tenant within a limit, removed with the tenant, readable by Prometheus' own parsers."""

import asyncio

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from relay.core.model import TenantId
from relay.observability.metrics import OTHER, Meters
from tests.support import virtual

ACME, GLOBEX = TenantId("ACME_PRD"), TenantId("GLOBEX_TST")


def read(meters: Meters) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values."""
    families = read_text(meters.text(openmetrics=False))
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_a_tenants_counts_have_its_id_as_label() -> None:
    meters = Meters()
    meter = meters.of(ACME)
    meter.delivered(0.2)
    meter.delivered(3)
    meter.parked("invalid")
    meter.released("silent", counted=True)
    meter.released("busy", counted=False)
    meter.sent_again()
    found = read(meters)
    assert found["relay_messages_delivered_total", ACME] == 2
    assert found["relay_messages_parked_total", ACME, "invalid"] == 1
    assert found["relay_messages_released_total", ACME, "silent", "yes"] == 1
    assert found["relay_messages_released_total", ACME, "busy", "no"] == 1
    assert found["relay_messages_sent_again_total", ACME] == 1
    assert found[("relay_delivery_duration_seconds_count",)] == 2
    assert found[("relay_delivery_duration_seconds_sum",)] == 3.2


@pytest.mark.parametrize(
    ("status", "shown"),
    [(200, "2xx"), (202, "2xx"), (302, "3xx"), (404, "4xx"), (503, "5xx"), (None, "none"), (999, "none")],
)
def test_requests_are_counted_by_call_and_status_class(status: int | None, shown: str) -> None:
    meters = Meters()
    meters.of(ACME).called("ping", status, 0.01)
    assert read(meters)["relay_requests_total", ACME, "ping", shown] == 1
    assert read(meters)["relay_request_duration_seconds_count", "ping"] == 1


def test_a_token_quota_shrinks_by_the_requests_of_the_last_day() -> None:
    now = 0.0
    meters = Meters(clock=lambda: now)
    meter = meters.of(ACME, tokens_a_day=3)
    for status in (200, 401):
        meter.called("token", status, 0.1)
        meter.called("post", 202, 0.1)
    assert read(meters)["relay_token_quota", ACME] == 3
    assert read(meters)["relay_token_quota_left", ACME] == 1
    now = 50_000.0
    for _ in range(5):
        meter.called("token", None, 0.1)
    assert read(meters)["relay_token_quota_left", ACME] == 0
    now = 86_400.0 + 50_000.0
    meter.called("token", 200, 0.1)
    assert read(meters)["relay_token_quota_left", ACME] == 2


def test_a_quota_that_changes_keeps_the_requests() -> None:
    meters = Meters(clock=lambda: 0.0)
    meters.of(ACME, tokens_a_day=3).called("token", 200, 0.1)
    meters.of(ACME, tokens_a_day=100)
    assert read(meters)["relay_token_quota_left", ACME] == 99
    meters.of(ACME).called("token", 200, 0.1)
    assert ("relay_token_quota_left", ACME) not in read(meters)
    assert ("relay_token_quota", ACME) not in read(meters)


def test_tenants_beyond_the_limit_have_no_common_quota() -> None:
    meters = Meters(bound=1, clock=lambda: 0.0)
    for tenant in (ACME, GLOBEX):
        meters.of(tenant, tokens_a_day=3).called("token", 200, 0.1)
    found = read(meters)
    assert found["relay_token_quota_left", ACME] == 2
    assert ("relay_token_quota_left", OTHER) not in found
    meters.forget(ACME)
    assert ("relay_token_quota_left", ACME) not in read(meters)


def test_requests_of_a_day_ago_expire_without_another_request() -> None:
    async def scene() -> float:
        meters = Meters(clock=asyncio.get_running_loop().time)
        meters.of(ACME, tokens_a_day=3).called("token", 200, 0.1)
        watching = asyncio.create_task(meters.watch_loop(lambda: 7))
        await asyncio.sleep(86_400.0 + 70.0)
        watching.cancel()
        return read(meters)["relay_token_quota_left", ACME]

    assert virtual.run(scene()) == 3


def test_tenants_beyond_the_limit_are_other_until_one_is_forgotten() -> None:
    meters = Meters(bound=1)
    meters.of(ACME).delivered(1)
    meters.of(GLOBEX).delivered(1)
    assert read(meters)["relay_messages_delivered_total", OTHER] == 1
    meters.forget(ACME)
    meters.of(GLOBEX).delivered(1)
    assert read(meters)["relay_messages_delivered_total", GLOBEX] == 1


def test_forgetting_a_tenant_removes_its_series_and_no_others() -> None:
    meters = Meters()
    for tenant in (ACME, GLOBEX):
        meter = meters.of(tenant)
        meter.delivered(1)
        meter.parked("invalid")
        meter.called("post", 202, 0.1)
        meters.state.add((tenant, "sending"))
    meters.forget(ACME)
    left = read(meters)
    assert not [sample for sample in left if ACME in sample]
    assert len([sample for sample in left if GLOBEX in sample]) == 4


def _filled() -> Meters:
    meters, odd = Meters(), 'a"b\\c\nd'
    meter = meters.of(TenantId(odd))
    meter.delivered(0.1)
    meter.called("post", 202, 0.1)
    meters.settlement_seconds.observe(0.1)
    meters.group_messages.observe(3)
    meters.bytes.replace({(): 4096})
    return meters


def test_prometheus_own_parsers_read_the_same_in_both_formats() -> None:
    meters = _filled()
    plain = list(read_text(meters.text(openmetrics=False)))
    strict = list(read_openmetrics(meters.text(openmetrics=True) + "# EOF\n"))
    assert _samples(plain) == _samples(strict)
    assert {family.name: family.type for family in plain} == {family.name: family.type for family in strict}
    assert ("relay_messages_delivered_total", ('a"b\\c\nd',), 1.0) in _samples(plain)


def _samples(families: list[Metric]) -> set[tuple[str, tuple[str, ...], float]]:
    return {(s.name, tuple(s.labels.values()), s.value) for family in families for s in family.samples}


def test_names_follow_prometheus_conventions() -> None:
    for family in Meters().families:
        assert family.name.startswith("relay_")
        assert (family.kind == "counter") == family.name.endswith("_total"), family.name
        assert family.meaning.endswith(".")
        assert "_milli" not in family.name


def test_the_loops_lag_is_measured_once_a_second() -> None:
    async def observed() -> float:
        meters = Meters()
        watch = asyncio.create_task(meters.watch_loop(lambda: 7))
        await asyncio.sleep(3.5)
        watch.cancel()
        return read(meters)[("relay_loop_lag_seconds_count",)]

    assert virtual.run(observed()) == 3
