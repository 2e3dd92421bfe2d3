"""Faults tests say nothing: what they tell is what they assert."""

import io

import pytest

from relay.observability import logs


@pytest.fixture(autouse=True)
def quiet():
    """Keep the relay's log out of the tests' output."""
    logs.configure("error", "json", io.StringIO())
