"""The documents that the demo enqueues, made from the templates in `documents/`.

The templates are documents as an application sends them. The demo replaces their order number, variation and
times, and repeats their lines, so that every message is different and some are large.
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
REFUSED = "PO-299999"
"""The number of the one order that ION refuses."""
AFTER_WITHDRAWAL = "SO-199999"
"""The number of the order whose shipment is enqueued just after shipments were withdrawn."""
LATE, WITHDRAWN = "Sync.Invoice", "Sync.Shipment"
"""ACME's documents that are not always accepted: one is added later, one is withdrawn for a while."""

ACCEPTED = (
    "Sync.SalesOrder", WITHDRAWN, "Process.PurchaseOrder", "Sync.ReceiveDelivery", "My_PurchaseOrder_JSON",
)  # fmt: skip
"""What ION accepts from the beginning."""

_DOCUMENTS_OF_AN_ORDER = {
    ACME: (("Sync.SalesOrder", 1), ("Sync.SalesOrder", 2), (WITHDRAWN, 1), (LATE, 1)),
    GLOBEX: (
        ("Process.PurchaseOrder", 1),
        ("My_PurchaseOrder_JSON", 1),
        ("Process.PurchaseOrder", 2),
        ("Sync.ReceiveDelivery", 1),
    ),
}
"""The documents of one order in their order, with their variation."""

_ORDER_NUMBERS = {ACME: ("SO-{:06}", 100_001), GLOBEX: ("PO-{:06}", 200_001)}
_OPEN_ORDERS = 6
_NUMBER = re.compile(r"\b[SP]O-\d{6}\b")
_VARIATION = re.compile(r'(?<=variationID=")\d+(?=")')
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_LINE = re.compile(r"^ *<(\w+Line)>\n.*?</\1>\n", re.DOTALL | re.MULTILINE)
_LINES_PER_DOCUMENT = (1, 1, 2, 2, 3, 4, 6, 9, 14, 30)


@dataclass(frozen=True, slots=True)
class Document:
    """A document to enqueue. `key`: the order it belongs to; `parameters`: IMS parameters."""

    tenant: str
    name: str
    key: str
    payload: bytes
    parameters: Mapping[str, object] = field(default_factory=dict[str, object])


def make_documents(tenant: str, orders: int, seed: int) -> list[Document]:
    """The documents of a number of orders, several open at a time, each order's in sequence."""
    chance = random.Random(seed)  # noqa: S311 - variety, the same in every run
    return [
        make_document(tenant, name, number, variation, chance.choice(_LINES_PER_DOCUMENT))
        for number, name, variation in _interleave(tenant, orders, chance)
    ]


def _interleave(tenant: str, orders: int, chance: random.Random) -> Iterator[tuple[str, str, int]]:
    form, first = _ORDER_NUMBERS[tenant]
    numbers = iter(range(first, first + orders))
    started: list[tuple[str, Iterator[tuple[str, int]]]] = []
    while True:
        while len(started) < _OPEN_ORDERS and (number := next(numbers, None)) is not None:
            started.append((form.format(number), iter(_DOCUMENTS_OF_AN_ORDER[tenant])))
        if not started:
            return
        order, documents = chosen = chance.choice(started)
        if (document := next(documents, None)) is None:
            started.remove(chosen)
        else:
            yield order, *document


def make_document(tenant: str, name: str, number: str, variation: int = 1, lines: int = 1) -> Document:
    """One document of an order, with a number of lines."""
    template = read_template(name)
    fill = _fill_json if template.startswith("{") else _fill_xml
    payload = fill(template, number, variation, lines).encode()
    return Document(tenant, name, number, payload, {"documentId": number, "variationId": variation})


def _fill_xml(text: str, number: str, variation: int, lines: int) -> str:
    now = datetime.now(UTC)
    text = _VARIATION.sub(str(variation), _NUMBER.sub(number, text))
    text = _LINE.sub(
        lambda found: "".join(
            found[0].replace("<LineNumber>10<", f"<LineNumber>{10 * place}<") for place in range(1, lines + 1)
        ),
        text,
    )
    # the first two are in the header, the others in the lines
    times = chain(repeat(_format(now), 2), repeat(_format(now + timedelta(days=3))))
    return _INSTANT.sub(lambda _: next(times), text)


def _fill_json(text: str, number: str, variation: int, lines: int) -> str:
    content = json.loads(text)
    content |= {"orderNumber": number, "variation": variation, "confirmedAt": _format(datetime.now(UTC))}
    content["lines"] = [content["lines"][0] | {"line": 10 * place} for place in range(1, lines + 1)]
    return json.dumps(content, ensure_ascii=False)


def _format(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def read_template(name: str) -> str:
    """The template of a document."""
    folder = resources.files(__package__) / "documents"
    files = (folder / f"{name}.{ending}" for ending in ("xml", "json"))
    return next(file for file in files if file.is_file()).read_text("utf-8")
