"""The peak of a real relay's resident memory is below the documented formula, whatever the messages."""

import argparse
from pathlib import Path

import pytest

from tests.conftest import LONG
from tools.bench_memory import BASE_MIB, peak_mib
from tools.stores import running

SHORT = [("sqlite", 4, 64, 6)]
CASES = (
    [(store, tenants, 192, 24) for store in ("sqlite", "postgres") for tenants in (1, 4, 10)]
    if LONG
    else SHORT
)


@pytest.mark.parametrize(("store", "tenants", "budget", "each"), CASES)
def test_large_messages_of_several_tenants_stay_below_the_formula(
    tmp_path: Path, store: str, tenants: int, budget: int, each: int
) -> None:
    """Payloads of 5 MB that do not compress: together far more than the limit."""
    options = argparse.Namespace(server_ms=50, in_flight=8, each=each, budget_mib=budget)
    with running(store) as outbox:
        peak = peak_mib(outbox, tmp_path / "relay", options, tenants, 5_000_000)
    assert peak <= BASE_MIB + budget


def test_the_documented_formula_is_the_one_that_is_measured() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    assert f"**{BASE_MIB} MiB + `RELAY_MAX_BYTES_IN_MEMORY`**" in page
