"""Counters, gauges and histograms, and their lines in Prometheus' text format."""

from relay.observability.prometheus_text import Family, Histogram

ACME, GLOBEX = "ACME_PRD", "GLOBEX_TST"


def test_a_value_on_a_bound_belongs_to_the_bucket_below_and_buckets_are_cumulative() -> None:
    histogram = Histogram("h", "meaning", (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert list(histogram.lines()) == [
        'h_bucket{le="1.0"} 2',
        'h_bucket{le="2.0"} 3',
        'h_bucket{le="+Inf"} 4',
        "h_sum 12.0",
        "h_count 4",
    ]


def test_lines_are_current_after_every_kind_of_change() -> None:
    counter = Family("counter", "c", "", ("tenant",))
    assert list(counter.lines()) == []
    counter.add(("A",))
    assert list(counter.lines()) == ['c{tenant="A"} 1']
    assert counter.lines() is counter.lines()
    counter.add(("A",))
    counter.add(("B",), 3)
    assert list(counter.lines()) == ['c{tenant="A"} 2', 'c{tenant="B"} 3']
    counter.forget("A")
    assert list(counter.lines()) == ['c{tenant="B"} 3']
    counter.replace({("B",): 3})
    assert list(counter.lines()) == ['c{tenant="B"} 3']
    counter.replace({("C",): 0})
    assert list(counter.lines()) == ['c{tenant="C"} 0']


def test_replacing_removes_the_series_of_before() -> None:
    gauge = Family("gauge", "g", "meaning", ("tenant",))
    gauge.replace({(ACME,): 1, (GLOBEX,): 2})
    assert list(gauge.lines()) == ['g{tenant="ACME_PRD"} 1', 'g{tenant="GLOBEX_TST"} 2']
    gauge.replace({(GLOBEX,): 3})
    assert list(gauge.lines()) == ['g{tenant="GLOBEX_TST"} 3']
    assert gauge.get((ACME,)) == 0
