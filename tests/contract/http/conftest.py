"""What is sent and read over HTTP is tested on both event loops: the relay runs on uvloop where there is one."""

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """By the name that stands in each test's."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
