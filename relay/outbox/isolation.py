"""Isolates the rows that a store refuses, so that they do not fail what is written together with them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from relay.core.ports import RowRefusedError

T = TypeVar("T")
R = TypeVar("R")


async def isolate(
    items: Sequence[T], write: Callable[[Sequence[T]], Awaitable[R]], within: float
) -> tuple[list[R], list[tuple[T, str]]]:
    """Write all of them in one transaction; where the store refuses that, in halves, and halves of these.

    What `write` returned, and the items that were refused, each with the store's words. A transaction each,
    not savepoints: a constraint may be checked only at the commit, and a trigger may roll everything back.
    After `within` seconds what is left of a refused group counts as refused, and nothing more is tried. Any
    other error is raised; what was written until then stays.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + within
    written: list[R] = []
    refused: list[tuple[T, str]] = []
    groups = [(items, "")]
    while groups:
        group, words = groups.pop()
        if words and clock() >= end:
            refused += [(item, words) for item in group]
            continue
        try:
            written.append(await write(group))
        except RowRefusedError as error:
            words, half = str(error), len(group) // 2
            if half:
                groups += [(group[half:], words), (group[:half], words)]
            else:
                refused += [(item, words) for item in group]
    return written, refused
