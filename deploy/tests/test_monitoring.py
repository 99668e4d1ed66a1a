"""Alert rules and dashboards: by promtool, and against the list of metrics that the services have."""

import json
import re
import subprocess

import pytest
import yaml

from image import DEPLOY
from metrics import metrics

RULES = DEPLOY / "alerts/greffe.yaml"
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
TESTS = yaml.safe_load((DEPLOY / "alerts/tests.yaml").read_text())["tests"]
DASHBOARDS = sorted((DEPLOY / "dashboards").glob("*.json"))
NAME = re.compile(r"\bgreffe_[a-z0-9_]+")


def promtool(*arguments) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_rules():
    promtool("check", "rules", RULES)


def test_every_alert_fires_and_stays_quiet_as_it_should():
    promtool("test", "rules", DEPLOY / "alerts/tests.yaml")
    tested = {(test["alert_rule_test"][0]["alertname"], bool(test["alert_rule_test"][0]["exp_alerts"])) for test in TESTS}
    assert tested == {(alert["alert"], fires) for alert in ALERTS for fires in (True, False)}


def test_every_alert_reads_metrics_that_there_are():
    for alert in ALERTS:
        used = set(NAME.findall(alert["expr"]))
        assert used and used <= metrics(), (alert["alert"], used - metrics())
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert set(alert["annotations"]) == {"summary", "description"}


def test_every_runbook_that_an_alert_names_is_there():
    for alert in ALERTS:
        for name in re.findall(r"Runbook: ([a-z-]+)", alert["annotations"]["description"]):
            assert (DEPLOY / f"runbooks/{name}.md").exists(), name


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_reads_metrics_that_there_are(path):
    board = json.loads(path.read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(panels) > 10
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        for target in panel["targets"]:
            expression = target["expr"]
            used = set(NAME.findall(expression))
            assert used and used <= metrics(), (panel["title"], used - metrics())
            for name, value in (("$namespace", "x"), ("$__rate_interval", "5m")):
                expression = expression.replace(name, value)
            assert "$" not in expression
            parsed = yaml.safe_dump({"groups": [{"name": "x", "rules": [{"record": "x", "expr": expression}]}]})
            done = subprocess.run(["promtool", "check", "rules", "/dev/stdin"], input=parsed, capture_output=True, text=True)
            assert done.returncode == 0, (panel["title"], done.stderr)


def test_the_chart_has_the_same_rules_and_dashboards():
    files = DEPLOY.parent / "helm/greffe/files"
    assert RULES.resolve() == (files / "alerts.yaml").resolve()
    assert [path.resolve() for path in DASHBOARDS] == sorted((files / "dashboards").glob("*.json"))
