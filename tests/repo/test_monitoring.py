"""Alerts and dashboard fit what is exported, and each alert leads to its page of the run book."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.observability import error_codes
from relay.observability.metrics import Meters
from relay.observability.prometheus_text import Histogram

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
ALERTS_TEST = ALERTS.with_name("alerts_test.yml")
DASHBOARD = ROOT / "deploy" / "grafana" / "relay.json"
PROMTOOL = shutil.which("promtool", path=f"{os.environ.get('PATH', '')}:{ROOT}/.venv/prometheus/usr/bin")

BY_PROMETHEUS = {"instance", "job"}
PROCESS = {"process_resident_memory_bytes", "up"}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def targets() -> Iterator[dict[str, Any]]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        assert panel["targets"], panel["title"]
        yield from panel["targets"]


QUERIES = [rule["expr"] for rule in rules()] + [target["expr"] for target in targets()]


def exported() -> dict[str, set[str]]:
    """Each series' name, and its labels."""
    found: dict[str, set[str]] = {}
    for family in Meters().families:
        labels = set(family.labels)
        if isinstance(family, Histogram):
            found |= {f"{family.name}_sum": labels, f"{family.name}_count": labels}
            found[f"{family.name}_bucket"] = labels | {"le"}
        else:
            found[family.name] = labels
    return found


def names_in(query: str) -> set[str]:
    """The names of metrics; what stands in braces, in brackets or behind `by` and `on` is none."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on)\s*\([^)]*\)", " ", query)
    return {name for name in re.findall(r"[a-z_]{2,}(?![a-z_]*\s*\()", bare) if "_" in name or name == "up"}


def labels_in(query: str) -> set[str]:
    """The labels that are matched, and those behind `by` and `on`."""
    inside = " , ".join(re.findall(r"\{([^}]*)\}", query))
    grouped = ",".join(found[1] for found in re.findall(r"\b(by|on)\s*\(([^)]*)\)", query))
    matched = re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", inside)
    return {*matched, *filter(None, map(str.strip, grouped.split(",")))}


def strangers(query: str, shown: str = "") -> set[str]:
    """Names and labels of the query, and labels of its legend, that nothing exports."""
    known = exported()
    names = names_in(query)
    labels = labels_in(query) | set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", shown))
    allowed = BY_PROMETHEUS.union(*(known.get(name, set()) for name in names))
    return {name for name in names if name not in known and name not in PROCESS} | (labels - allowed)


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_asks_for_what_is_exported(query: str) -> None:
    assert names_in(query), "a query asks for something"
    assert strangers(query) == set()


def test_the_dashboards_legends_name_labels_of_their_query() -> None:
    assert [target for target in targets() if strangers(target["expr"], target["legendFormat"])] == []


@pytest.mark.parametrize(
    "query",
    [
        "relay_gone_total",
        'relay_messages_delivered_total{colour="red"}',
        "sum by (colour) (relay_relays)",
        "rate(relay_request_duration_seconds[5m])",
        'max(relay_relays) unless on (tenant) relay_messages_lost{state="x"}',
    ],
)
def test_the_check_notices_what_is_not_exported(query: str) -> None:
    assert strangers(query)


def test_every_metric_of_ours_is_on_the_dashboard_or_in_an_alert() -> None:
    asked = set().union(*map(names_in, QUERIES))
    unasked = {
        family.name
        for family in Meters().families
        if not {family.name, f"{family.name}_bucket", f"{family.name}_count"} & asked
    }
    assert unasked == set()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_leads_to_its_page(rule: dict[str, Any]) -> None:
    code = rule["labels"]["code"]
    assert error_codes.find(code) is not None
    assert rule["annotations"]["runbook_url"] == f"https://runbooks.example.com/{code}.md"
    assert (ROOT / "relay" / "observability" / "runbook" / f"{code}.md").is_file()
    assert rule["labels"]["severity"] in ("critical", "warning")


def test_every_alert_is_tested_in_both_directions() -> None:
    tests = yaml.safe_load(ALERTS_TEST.read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert fired == silent == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("arguments", [("check", "rules", ALERTS), ("test", "rules", ALERTS_TEST)])
def test_promtool_agrees(arguments: tuple[str | Path, ...]) -> None:
    if PROMTOOL is None:
        pytest.skip("promtool is not here, and no apt-get that brings it; install prometheus")
    done = subprocess.run([PROMTOOL, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
