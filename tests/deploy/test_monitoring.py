"""Prometheus' configuration and rules, and Grafana's dashboard."""

import json
import re

import pytest
import yaml
from conftest import DEPLOY, ROOT, run, tool

PROMETHEUS = DEPLOY / "prometheus"
RULES = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
DASHBOARD = json.loads((DEPLOY / "grafana/chatledger.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
METRICS = ROOT / "docs/metrics.md"
OPERATIONS = ROOT / "docs/operations.md"


def expressions():
    """Every expression of the dashboard, with Grafana's variables filled in."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*")


def metrics(expression):
    return set(re.findall(r"\b(?:chatledger|grpc_server|process)_\w+", expression))


def test_promtool_check():
    promtool = tool("promtool")
    run(promtool, "check", "config", PROMETHEUS / "prometheus.yml")
    run(promtool, "check", "rules", PROMETHEUS / "rules.yaml")


def test_promtool_test_rules():
    assert "SUCCESS" in run(tool("promtool"), "test", "rules", PROMETHEUS / "rules.test.yaml")


def test_every_alert_is_tried():
    """It fires in some test."""
    fired = set()
    for test in yaml.safe_load((PROMETHEUS / "rules.test.yaml").read_text())["tests"]:
        for case in test.get("promql_expr_test", []):
            for sample in case["exp_samples"]:
                fired |= set(re.findall(r'alertname="(\w+)"', sample["labels"]))
        fired |= {case["alertname"] for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
    assert fired == set(ALERTS)


def test_every_alert_has_a_runbook():
    if "## Alerts" not in OPERATIONS.read_text():
        pytest.skip("skipped: docs/operations.md has no section of alerts yet")
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    assert set(re.findall(r"^### (Chatledger\w+)$", OPERATIONS.read_text(), re.M)) == set(ALERTS)


def test_metrics_are_documented():
    """Each name that the rules and the dashboard use is in docs/metrics.md; a histogram's by its name without the ending."""
    if not METRICS.exists():
        pytest.skip("skipped: there is no docs/metrics.md yet")
    known = set(re.findall(r"`((?:chatledger|grpc_server|process)_\w+)", METRICS.read_text()))
    used = set().union(*(metrics(expression) for expression in expressions()), *(metrics(rule["expr"]) for rule in ALERTS.values()))
    unknown = {name for name in used if name not in known and re.sub(r"_(bucket|count|sum)$", "", name) not in known}
    assert len(used) > 40 and not unknown


def test_the_expressions_of_the_dashboard(tmp_path):
    """Prometheus reads them."""
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions())]
    assert len(rules) > 50
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run(tool("promtool"), "check", "rules", tmp_path / "rules.yaml")


def test_the_dashboard_is_whole():
    """Ids are its own, panels don't overlap, and each asks the data source that is chosen at the top."""
    assert DASHBOARD["schemaVersion"] >= 39 and DASHBOARD["uid"] == "chatledger" and DASHBOARD["id"] is None
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["title"] and panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert "$job" in target["expr"] and "$instance" in target["expr"]


def test_what_grafana_is_provisioned_with():
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    (provider,) = yaml.safe_load((provisioning / "dashboards/chatledger.yaml").read_text())["providers"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    (mounted,) = (v for v in compose["services"]["grafana"]["volumes"] if v.startswith("./grafana/chatledger.json:"))
    assert mounted.split(":")[1].startswith(provider["options"]["path"])
