"""The alerts and the dashboard of a rendered project, read by Prometheus' own promtool."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.answers import DEFAULTS
from tests.debian import Program
from tests.monitoring.prometheus import ALERTS, alerts, panels, promtool, queries
from tests.projects import REPOSITORY, Projects

_CASES = Path(__file__).with_name("alerts.test.yaml")
_RUNBOOK = REPOSITORY / "docs/runbook.md"


@pytest.fixture(scope="module")
def rendered(projects: Projects) -> Path:
    return projects.rendered(DEFAULTS)


def cases() -> list[dict[str, Any]]:
    """Return what is asked about each alert, in all cases."""
    document = yaml.safe_load(_CASES.read_text("utf-8"))
    return [it for test in document["tests"] for it in test["alert_rule_test"]]


class TestAlerts:
    def test_prometheus_accepts_them(self, prometheus_package: Program, rendered: Path) -> None:
        promtool(prometheus_package, "check", "rules", ALERTS, cwd=rendered)

    def test_they_fire_when_they_should_and_not_otherwise(
        self, prometheus_package: Program, rendered: Path, tmp_path: Path
    ) -> None:
        document = yaml.safe_load((rendered / ALERTS).read_text("utf-8"))
        for rule in document["groups"][0]["rules"]:
            # promtool compares all of them, and the cases would repeat the others.
            rule["annotations"] = {"summary": rule["annotations"]["summary"]}
        (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(document), "utf-8")
        (tmp_path / _CASES.name).write_text(_CASES.read_text("utf-8"), "utf-8")
        promtool(prometheus_package, "test", "rules", _CASES.name, cwd=tmp_path)

    def test_each_is_tried_when_it_should_fire_and_when_it_should_not(self, rendered: Path) -> None:
        fire = {it["alertname"] for it in cases() if it.get("exp_alerts")}
        are_silent = {it["alertname"] for it in cases() if not it.get("exp_alerts")}
        assert fire == are_silent == {it.name for it in alerts(rendered)}

    def test_each_says_what_to_do_and_how_soon(self, rendered: Path) -> None:
        runbook = _RUNBOOK.read_text("utf-8")
        for alert in alerts(rendered):
            assert alert.labels["severity"] in {"critical", "warning"}, alert.name
            assert {*alert.annotations} == {"summary", "description", "runbook_url"}, alert.name
            url = alert.annotations["runbook_url"]
            assert url.endswith(f"/docs/runbook.md#{alert.name.lower()}"), alert.name
            assert f"\n### {alert.name}\n" in runbook, alert.name

    def test_the_runbook_has_no_other_alerts(self, rendered: Path) -> None:
        section = (
            _RUNBOOK.read_text("utf-8").partition("\n## The alerts\n")[2].partition("\n## ")[0]
        )
        names = re.findall(r"(?m)^### (\w+)$", section)
        assert names == [it.name for it in alerts(rendered)]

    def test_those_of_two_services_do_not_mix(self, projects: Projects) -> None:
        other = projects.rendered({"project_slug": "another-service"})
        for alert in alerts(other):
            assert 'job="another-service"' in alert.expression or "kube_job" in alert.expression
        text = (other / ALERTS).read_text("utf-8")
        assert "my-service" not in text
        assert "SERVICE" not in text


class TestDashboard:
    def test_prometheus_can_read_each_query(
        self, prometheus_package: Program, rendered: Path, tmp_path: Path
    ) -> None:
        rules = [
            {"record": f"panel:query{number}", "expr": query}
            for number, query in enumerate(queries(rendered, "1m").values())
        ]
        document = {"groups": [{"name": "dashboard", "rules": rules}]}
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump(document), "utf-8")
        promtool(prometheus_package, "check", "rules", "rules.yaml", cwd=tmp_path)

    def test_each_query_is_about_the_service_that_was_chosen(self, rendered: Path) -> None:
        for panel in panels(rendered):
            for target in panel["targets"]:
                selectors = re.findall(r"\w\{([^}]*)\}", target["expr"])
                assert selectors, panel["title"]
                for it in selectors:
                    assert it.startswith('job="$job", namespace=~"$namespace"'), panel["title"]

    def test_each_panel_is_one_that_grafana_knows(self, rendered: Path) -> None:
        found = panels(rendered)
        assert len({it["id"] for it in found}) == len(found)
        for panel in found:
            assert panel["type"] in {"stat", "state-timeline", "timeseries"}
            assert panel["title"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}

    def test_no_panel_covers_another(self, rendered: Path) -> None:
        for one, other in combinations([it["gridPos"] for it in panels(rendered)], 2):
            assert one["x"] + one["w"] <= 24
            are_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            are_above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert are_beside or are_above, (one, other)

    def test_it_is_one_of_its_own_for_each_service(self, projects: Projects) -> None:
        name = 'The "Orders" \\ of $HOME'
        answers = {"project_slug": "another-service", "project_name": name}
        document = json.loads(
            (projects.rendered(answers) / "deploy/monitoring/dashboard.json").read_text("utf-8")
        )
        assert document["title"] == name
        assert document["uid"] == "another-service"
