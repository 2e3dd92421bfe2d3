"""What holds for all tests: no relay of the caller's own leaks in, and how far properties are tried.

Short, the default: the same examples each time, so that a red run is red again. Long (`RELAY_TEST_LONG=1`): new
examples each time, many more; a failure prints how to see it again. No deadlines: machines differ.
"""

import os
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest

from tests.support.postgres import Cluster, running_cluster

LONG = bool(os.environ.get("RELAY_TEST_LONG"))

hypothesis.settings.register_profile(
    "short", deadline=None, derandomize=True, max_examples=100, database=None
)
hypothesis.settings.register_profile("long", deadline=None, max_examples=3000, print_blob=True)
hypothesis.settings.load_profile("long" if LONG else "short")


def pytest_configure() -> None:
    """Settings of a relay that the caller runs are not the tests'; the tests' own are named `RELAY_TEST_…`."""
    for name in [name for name in os.environ if name.startswith("RELAY_")]:
        if not name.startswith("RELAY_TEST_"):
            del os.environ[name]


def pytest_report_header() -> str:
    """Say which form runs."""
    return f"relay: {'long' if LONG else 'short'} form of the tests"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A running PostgreSQL, one for the whole session, started when the first test wants it."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
async def database(postgres: Cluster) -> AsyncIterator[str]:
    """The name of an empty database of this test's own; `postgres.url_of(database)` is its URL."""
    name = await postgres.create()
    yield name
    await postgres.drop(name)
