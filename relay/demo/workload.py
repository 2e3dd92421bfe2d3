"""This file is the documents that the demo hands over, made out of those in `documents/`.

Those are documents as an application would send them. The demo exchanges their order number, variation and
times, and repeats their lines, so that each message is another and some are large.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from itertools import chain, repeat

ACME, GLOBEX = "ACME_PRD", "GLOBEX_TST"
SIGNS_IN = {ACME: "OAuth 2", GLOBEX: "OAuth 1.0a"}
REFUSED = "PO-299999"
"""The number of the one order that the ION simulator is told to refuse."""
AFTER_WITHDRAWAL = "SO-199999"
"""The number of the order whose shipment is handed over when shipments were just withdrawn."""
LATE, WITHDRAWN = "Sync.Invoice", "Sync.Shipment"
"""ACME's documents that are not accepted all the time: added later, and withdrawn for a while."""

ACCEPTED = (
    "Sync.SalesOrder", WITHDRAWN, "Process.PurchaseOrder", "Sync.ReceiveDelivery", "My_PurchaseOrder_JSON",
)  # fmt: skip
"""What the ION simulator accepts from the beginning."""

_LIFE = {
    ACME: (("Sync.SalesOrder", 1), ("Sync.SalesOrder", 2), (WITHDRAWN, 1), (LATE, 1)),
    GLOBEX: (
        ("Process.PurchaseOrder", 1),
        ("My_PurchaseOrder_JSON", 1),
        ("Process.PurchaseOrder", 2),
        ("Sync.ReceiveDelivery", 1),
    ),
}
"""What an order of each tenant sends, in this order: the document and its variation."""

_FIRST = {ACME: "SO-{:06}", GLOBEX: "PO-{:06}"}
_START = {ACME: 100_001, GLOBEX: 200_001}
_OPEN_ORDERS = 6
_NUMBER = re.compile(r"\b[SP]O-\d{6}\b")
_VARIATION = re.compile(r'(?<=variationID=")\d+(?=")')
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_LINE = re.compile(r"^ *<(\w+Line)>\n.*?</\1>\n", re.DOTALL | re.MULTILINE)
_SIZES = (1, 1, 2, 2, 3, 4, 6, 9, 14, 30)


@dataclass(frozen=True, slots=True)
class Paper:
    """A document ready to hand over. `key`: the order it belongs to; `parameters`: IMS properties."""

    tenant: str
    document: str
    key: str
    payload: bytes
    parameters: Mapping[str, object] = field(default_factory=dict[str, object])


def papers(tenant: str, orders: int, seed: int) -> list[Paper]:
    """All that so many orders of a tenant send, several orders open at a time, each in its own order."""
    chance = random.Random(seed)  # noqa: S311 - variety, and the same each time
    made = []
    for number, document, variation in _mixed(tenant, orders, chance):
        lines = chance.choice(_SIZES)
        made.append(paper(tenant, document, number, variation, lines))
    return made


def _mixed(tenant: str, orders: int, chance: random.Random) -> Iterator[tuple[str, str, int]]:
    numbers = iter(range(_START[tenant], _START[tenant] + orders))
    started: list[tuple[str, Iterator[tuple[str, int]]]] = []
    while True:
        while len(started) < _OPEN_ORDERS and (number := next(numbers, None)) is not None:
            started.append((_FIRST[tenant].format(number), iter(_LIFE[tenant])))
        if not started:
            return
        number_text, life = chosen = chance.choice(started)
        step = next(life, None)
        if step is None:
            started.remove(chosen)
        else:
            yield number_text, *step


def paper(tenant: str, document: str, number: str, variation: int = 1, lines: int = 1) -> Paper:
    """One document of an order, with so many lines."""
    text = template(document)
    made = (
        _json(text, number, variation, lines)
        if text.startswith("{")
        else _xml(text, number, variation, lines)
    )
    parameters = {"documentId": number, "variationId": variation}
    return Paper(tenant, document, number, made.encode(), parameters)


def _xml(text: str, number: str, variation: int, lines: int) -> str:
    now = datetime.now(UTC)
    text = _NUMBER.sub(number, text)
    text = _VARIATION.sub(str(variation), text)
    text = _LINE.sub(lambda found: "".join(_numbered(found[0], line) for line in range(1, lines + 1)), text)
    times = chain(repeat(_instant(now), 2), repeat(_instant(now + timedelta(days=3))))  # head, then lines
    return _INSTANT.sub(lambda _: next(times), text)


def _numbered(line: str, place: int) -> str:
    return line.replace("<LineNumber>10<", f"<LineNumber>{10 * place}<")


def _json(text: str, number: str, variation: int, lines: int) -> str:
    content = json.loads(text)
    content |= {"orderNumber": number, "variation": variation, "confirmedAt": _instant(datetime.now(UTC))}
    content["lines"] = [content["lines"][0] | {"line": 10 * place} for place in range(1, lines + 1)]
    return json.dumps(content, ensure_ascii=False)


def _instant(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def template(document: str) -> str:
    """The document as it stands in `documents/`."""
    folder = resources.files(__package__) / "documents"
    endings = ("xml", "json")
    files = (folder / f"{document}.{ending}" for ending in endings)
    return next(file for file in files if file.is_file()).read_text("utf-8")
