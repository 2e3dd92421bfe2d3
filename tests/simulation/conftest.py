"""Simulation tests write no log: their assertions are their only output."""

import io

import pytest

from relay.observability import logs


@pytest.fixture(autouse=True)
def quiet():
    """Keep the relay's log out of the tests' output."""
    logs.configure("error", "json", io.StringIO())
