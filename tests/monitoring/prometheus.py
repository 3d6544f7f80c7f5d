"""The files of a rendered project for Prometheus and Grafana, and promtool, which reads them."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.debian import Program
from tests.projects import run

ALERTS = "deploy/monitoring/alerts.yaml"
DASHBOARD = "deploy/monitoring/dashboard.json"

# A selector always has braces in these files, so that what stands before them is a metric.
_METRIC = re.compile(r"\b([a-z_]+)\{")
_DURATION = re.compile(r"\b(\d+)([smh])\b")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Alert:
    """A rule of the file of alerts."""

    name: str
    expression: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def alerts(project: Path) -> list[Alert]:
    """Return the alerts of a rendered project."""
    document = yaml.safe_load((project / ALERTS).read_text("utf-8"))
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"], rule["annotations"])
        for group in document["groups"]
        for rule in group["rules"]
    ]


def panels(project: Path) -> list[dict[str, Any]]:
    """Return the panels of a rendered project's dashboard that show something."""
    document = json.loads((project / DASHBOARD).read_text("utf-8"))
    return [it for it in document["panels"] if it["type"] != "row"]


def queries(project: Path, interval: str) -> dict[str, str]:
    """Return the dashboard's queries by panel, as Grafana sends them for the service's own job."""
    values = {"$job": "my-service", "$namespace": ".*", "$__rate_interval": interval}
    found = {}
    for panel in panels(project):
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in values.items():
                query = query.replace(name, value)
            found[f"{panel['title']} {target['refId']}"] = query
    return found


def metrics(expression: str) -> set[str]:
    """Return the names of the metrics in an expression."""
    return set(_METRIC.findall(expression))


def shortened(text: str, factor: int) -> str:
    """Return rules in which every duration is a ``factor``-th, so that a test takes seconds."""

    def shorten(match: re.Match[str]) -> str:
        return f"{int(match[1]) * _SECONDS[match[2]] * 1000 // factor}ms"

    lines = text.splitlines()
    # Prose speaks of other times.
    prose = re.compile(r"^\s*(#|summary:|description:)")
    return "\n".join(it if prose.match(it) else _DURATION.sub(shorten, it) for it in lines)


def promtool(program: Program, *arguments: str, cwd: Path) -> str:
    """Run promtool, which must be content, and return what it printed."""
    done = run(
        program.path.with_name("promtool"), *arguments, cwd=cwd, env=os.environ | program.env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
