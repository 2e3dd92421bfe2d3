"""Waiting messages by age: a row for each tenant or document, the longest queue first, nothing counted twice."""

from relay.core.admin import AGES, QueueAges
from relay.core.model import DocumentName, TenantId
from relay.reports.queue_ages import QueueRow, age_labels, group

ACME, GLOBEX = TenantId("ACME"), TenantId("GLOBEX")
ORDER, SHIPMENT = DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment")

FOUND = [
    QueueAges(ACME, ORDER, (1, 0, 0, 0, 0, 0, 2)),
    QueueAges(ACME, SHIPMENT, (0, 3, 0, 0, 0, 0, 0), more=True),
    QueueAges(GLOBEX, ORDER, (4, 0, 0, 0, 0, 4, 0)),
]


def test_a_row_for_each_tenant_the_longest_queue_first() -> None:
    assert group(FOUND, "tenant").rows == [
        QueueRow("GLOBEX", (4, 0, 0, 0, 0, 4, 0), more=False),
        QueueRow("ACME", (1, 3, 0, 0, 0, 0, 2), more=True),
    ]


def test_a_row_for_each_document_of_all_tenants() -> None:
    assert group(FOUND, "document").rows == [
        QueueRow("Sync.SalesOrder", (5, 0, 0, 0, 0, 4, 2), more=False),
        QueueRow("Sync.Shipment", (0, 3, 0, 0, 0, 0, 0), more=True),
    ]


def test_the_total_says_whether_there_is_more() -> None:
    total = group(FOUND, "tenant").total
    assert (total.total, total.counts, total.more) == (14, (5, 3, 0, 0, 0, 4, 2), True)
    assert group([], "tenant").as_json()["total"] == 0


def test_each_age_has_its_label() -> None:
    assert age_labels() == ["1 min", "5 min", "15 min", "1 h", "4 h", "1 day", "older"]
    assert len(age_labels()) == len(AGES) + 1
