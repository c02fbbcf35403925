"""The document, the code, the dashboard and the alert rules have the same metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from sidecar.observability.metric_families import FAMILIES, MetricType, Snapshot
from sidecar.operations.exposition import write_exposition
from tests.promtool import run_promtool

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.+?) \| (\w+) \| (.+?) \|$", re.M)
RULES = ROOT / "deploy" / "prometheus" / "auth-sidecar.rules.yaml"
RULE_TESTS = RULES.with_name("auth-sidecar.rules.test.yaml")
DASHBOARD = ROOT / "deploy" / "grafana" / "auth-sidecar.json"
NAME = re.compile(r"\b((?:sidecar|process)_[a-z_]+)\b")

ONE_OF_EACH: Snapshot = {
    family.name: {
        family.labels: [1.0] * (len(family.bounds) + 2)
        if family.type is MetricType.HISTOGRAM
        else 1.0
    }
    for family in FAMILIES
}
EXPOSED = {
    f"{family.name}{ending}"
    for family in FAMILIES
    for ending in (("_bucket", "_sum", "_count") if family.type is MetricType.HISTOGRAM else ("",))
}


def read_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_document_lists_exactly_the_metrics_of_the_code() -> None:
    documented = [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), how, says)
        for name, kind, labels, how, says in ROW.findall(PAGE)
    ]
    assert documented == [
        (family.name, family.type, family.labels, family.aggregation, family.help)
        for family in FAMILIES
    ]


def test_the_page_has_every_documented_metric_even_before_it_has_a_value() -> None:
    text, content_type = write_exposition({}, "")
    assert content_type.startswith("text/plain; version=0.0.4")
    told = re.findall(r"^# TYPE (\w+) (\w+)$", text.decode(), re.M)
    assert told == [(name, kind) for name, kind, *_ in ROW.findall(PAGE)]


@pytest.mark.parametrize(
    ("accept", "read"),
    [("", read_text), ("application/openmetrics-text; version=1.0.0", read_openmetrics)],
)
def test_the_page_can_be_read_in_either_format(accept: str, read: Any) -> None:
    text, content_type = write_exposition(ONE_OF_EACH, accept)
    assert content_type.split(";")[0] == (accept.split(";")[0] or "text/plain")
    samples = {sample.name for family in read(text.decode()) for sample in family.samples}
    assert samples == EXPOSED


def test_buckets_are_cumulative_and_the_last_one_counts_all() -> None:
    name = "sidecar_request_duration_seconds"
    counts = [*range(1, 18)]
    text = write_exposition({name: {("/x",): [*map(float, counts), 9.5]}}, "")[0].decode()
    (family,) = [family for family in read_text(text) if family.name == name]
    values = [s.value for s in family.samples if s.name.endswith("_bucket")]
    assert values == [sum(counts[: end + 1]) for end in range(17)]
    ends = {s.name: s.value for s in family.samples if not s.name.endswith("_bucket")}
    assert ends == {f"{name}_count": sum(counts), f"{name}_sum": 9.5}


def test_the_alert_rules_use_only_existing_metrics() -> None:
    rules = read_rules()
    assert {name for rule in rules for name in NAME.findall(rule["expr"])} <= EXPOSED
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "warn")
        assert {"summary", "description"} <= rule["annotations"].keys()


def test_the_dashboard_uses_only_existing_metrics() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert {name for text in expressions for name in NAME.findall(text)} <= EXPOSED
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_promtool_accepts_the_alert_rules() -> None:
    status, said = run_promtool("check", "rules", "--lint-fatal", str(RULES))
    assert status == 0, said


def test_every_alert_fires_only_when_it_should() -> None:
    status, said = run_promtool("test", "rules", str(RULE_TESTS))
    assert status == 0, said
    cases = [
        case
        for group in yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"]
        for case in group["alert_rule_test"]
    ]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    is_silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    alerts = {rule["alert"] for rule in read_rules()}
    assert (fires, is_silent) == (alerts, alerts)


def test_promtool_accepts_the_page() -> None:
    text = write_exposition(ONE_OF_EACH, "")[0]
    assert run_promtool("check", "metrics", stdin=text) == (0, "")


def test_promtool_can_evaluate_every_query_of_the_dashboard(tmp_path: Path) -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    filled = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}
    rules: list[dict[str, str]] = []
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for old, new in filled.items():
                expression = expression.replace(old, new)
            rules.append({"record": f"panel_{len(rules)}", "expr": expression})
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    status, said = run_promtool("check", "rules", "--lint=none", str(path))
    assert status == 0, said
