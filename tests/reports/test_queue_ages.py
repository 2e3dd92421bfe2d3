"""The shape of the queue: one line a tenant or document, the longest first, and nothing counted twice."""

from relay.core.admin import AGES, QueueAges
from relay.core.model import DocumentName, TenantId
from relay.reports.queue_ages import Line, ages, fold

ACME, GLOBEX = TenantId("ACME"), TenantId("GLOBEX")
ORDER, SHIPMENT = DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment")

SHAPES = [
    QueueAges(ACME, ORDER, (1, 0, 0, 0, 0, 0, 2)),
    QueueAges(ACME, SHIPMENT, (0, 3, 0, 0, 0, 0, 0), more=True),
    QueueAges(GLOBEX, ORDER, (4, 0, 0, 0, 0, 4, 0)),
]


def test_a_line_a_tenant_the_longest_queue_first() -> None:
    assert fold(SHAPES, "tenant").lines == [
        Line("GLOBEX", (4, 0, 0, 0, 0, 4, 0), more=False),
        Line("ACME", (1, 3, 0, 0, 0, 0, 2), more=True),
    ]


def test_a_line_a_document_of_whatever_tenant() -> None:
    assert fold(SHAPES, "document").lines == [
        Line("Sync.SalesOrder", (5, 0, 0, 0, 0, 4, 2), more=False),
        Line("Sync.Shipment", (0, 3, 0, 0, 0, 0, 0), more=True),
    ]


def test_all_of_it_is_told_and_whether_there_is_more() -> None:
    altogether = fold(SHAPES, "tenant").altogether
    assert (altogether.total, altogether.counts, altogether.more) == (14, (5, 3, 0, 0, 0, 4, 2), True)
    assert fold([], "tenant").as_json()["total"] == 0


def test_each_age_has_its_head() -> None:
    assert ages() == ["1 min", "5 min", "15 min", "1 h", "4 h", "1 day", "older"]
    assert len(ages()) == len(AGES) + 1
