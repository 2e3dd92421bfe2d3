"""Since when a tenant is as it is: a failure has one beginning, however often ION is tried meanwhile."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from relay.core.model import BACK_OFF, NOT_ACCEPTED, StateName, TenantId
from relay.daemon.tenant_states import TenantStates

ACME = TenantId("ACME_PRD")
START = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)


async def since(*reports: tuple[StateName, str]) -> int:
    """In which minute the last of these states began, where one is reported a minute."""
    clock = iter(START + timedelta(minutes=minute) for minute in range(len(reports)))
    states = TenantStates(lambda: next(clock))
    for state, kind in reports:
        states.report(ACME, state, "", asyncio.get_running_loop().time() + 9, kind=kind)
    return round((states.current()[ACME].since - START).total_seconds() / 60)


@pytest.mark.parametrize(
    ("reports", "began"),
    [
        ([("backing-off", "broken"), ("pinging", "broken"), ("backing-off", "broken")], 0),
        (
            [
                ("backing-off", "broken"),
                ("pinging", "broken"),
                ("sending", "broken"),
                ("backing-off", "broken"),
            ],
            0,
        ),
        ([("halted", "forbidden"), ("initialising", "forbidden"), ("halted", "forbidden")], 0),
        ([("backing-off", "broken"), ("initialising", "broken"), ("halted", "forbidden")], 2),
        ([("backing-off", "broken"), ("sending", "broken"), ("sending", "")], 2),
        ([("sending", ""), ("sending", NOT_ACCEPTED), ("sending", BACK_OFF)], 0),
        ([("sending", ""), ("sending", "broken")], 1),
        ([("backing-off", "broken"), ("idle", ""), ("backing-off", "broken")], 2),
        ([("paused", ""), ("initialising", "")], 1),
    ],
)
async def test_a_failure_lasts_until_something_is_delivered(
    reports: list[tuple[StateName, str]], began: int
) -> None:
    assert await since(*reports) == began
