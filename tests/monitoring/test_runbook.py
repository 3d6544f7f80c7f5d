"""The runbook knows every problem, and what it quotes and asks for exists."""

import ast
import json
import re
import shutil
from functools import cache
from http.client import responses
from pathlib import Path

import pytest
import yaml

from tests.debian import Program
from tests.monitoring.prometheus import DASHBOARD, alerts, metrics, promtool
from tests.projects import REPOSITORY, TEMPLATE, Projects, succeed

RUNBOOK = (REPOSITORY / "docs/runbook.md").read_text("utf-8")
_REQUEST = RUNBOOK.partition("\n## Why was this request a 503")[2].partition("\n## ")[0]
_PLACEHOLDER = re.compile(r"%[-.\d]*[sdg%f]")
_BLANKS = re.compile(r"…(?: ?…)+")


def code() -> list[ast.Module]:
    """Return the Python of a rendered service and its migrations."""
    folders = (TEMPLATE / "app", TEMPLATE / "migrations")
    paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [ast.parse(path.read_text("utf-8")) for path in paths]


def problems() -> set[str]:
    """Return the last part of the type of every problem with 500 or more, as the log has it."""
    classes = {
        node.name: node
        for module in code()
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
    }

    def attribute(name: str, wanted: str) -> object:
        for statement in classes[name].body if name in classes else []:
            match statement:
                case ast.AnnAssign(target=ast.Name(id=it), value=ast.Constant(value=value)):
                    pass
                case ast.Assign(targets=[ast.Name(id=it)], value=ast.Constant(value=value)):
                    pass
                case _:
                    continue
            if it == wanted:
                return value
        for base in classes[name].bases if name in classes else []:
            if isinstance(base, ast.Name) and (found := attribute(base.id, wanted)) is not None:
                return found
        return None

    found = set()
    for name in classes:
        status, kind = attribute(name, "status"), attribute(name, "type")
        if isinstance(status, int) and isinstance(kind, str) and status >= 500:
            phrase = "bug" if status == 500 else responses[status].lower().replace(" ", "-")
            found.add(phrase if kind == "about:blank" else kind.rpartition(":")[2])
    return found


@cache
def texts() -> list[str]:
    """Return all texts of the code, with … where something is filled in."""
    found = []
    for module in code():
        for node in ast.walk(module):
            if isinstance(node, ast.JoinedStr):
                parts = [it.value if isinstance(it, ast.Constant) else "…" for it in node.values]
                found.append("".join(str(it) for it in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(_PLACEHOLDER.sub("…", node.value))
    # One that is all placeholders would be like any line.
    return [_BLANKS.sub("…", it) for it in found if len(it.replace("…", "")) > 9]


def is_written(line: str) -> bool:
    """Whether the code has a text like this line, of which … may stand for any part."""
    line = _BLANKS.sub("…", line)
    known = ".*".join(map(re.escape, line.split("…")))
    for text in texts():
        pattern = ".*".join(map(re.escape, text.split("…")))
        if re.search(known, text) or re.fullmatch(pattern, line):
            return True
    return False


def quoted() -> list[str]:
    """Return the lines of the log in the runbook: what is quoted as code and is a sentence."""
    without_blocks = re.sub(r"(?ms)^ *```.*?^ *```$", "", RUNBOOK)
    spans = re.findall(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", without_blocks)
    sentence = re.compile(r"(?:[A-Z][a-z]+|…) .*[a-z]{3}")
    return [text.strip() for _, text in spans if sentence.match(text.strip())]


def test_it_has_a_row_for_each_problem() -> None:
    assert set(re.findall(r"(?m)^\| `([a-z-]+)` \| 5\d\d \|", _REQUEST)) == problems()
    causes = RUNBOOK.partition("\n### RequestsFailing\n")[2].partition("\n### ")[0]
    rows = re.findall(r"(?m)^\| (`[a-z`, -]+`) \|", causes)
    assert {it for row in rows for it in re.findall("`([a-z-]+)`", row)} == problems()


@pytest.mark.parametrize("line", quoted())
def test_the_service_writes_the_line_that_it_quotes(line: str) -> None:
    assert is_written(line)


def test_a_line_that_nobody_writes_would_be_found() -> None:
    assert len(quoted()) > 20
    assert not is_written("The identity provider has gone fishing: …")
    assert not is_written("Cannot connect to the database of …")


def test_its_queries_are_about_metrics_of_the_dashboard_and_the_alerts(
    projects: Projects, prometheus_package: Program, tmp_path: Path
) -> None:
    blocks = re.findall(r"(?s)```promql\n(.*?)```", RUNBOOK)
    found = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    rules = [{"record": f"runbook:query{number}", "expr": it} for number, it in enumerate(found)]
    document = {"groups": [{"name": "runbook", "rules": rules}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(document), "utf-8")
    promtool(prometheus_package, "check", "rules", "rules.yaml", cwd=tmp_path)
    project = projects.rendered({})
    known = metrics((project / DASHBOARD).read_text("utf-8"))
    known |= {name for alert in alerts(project) for name in metrics(alert.expression)}
    for query in found:
        assert metrics(query) <= known, query
        assert 'job="my-service"' in query


def test_its_panels_are_those_of_the_dashboard(projects: Projects) -> None:
    document = json.loads((projects.rendered({}) / DASHBOARD).read_text("utf-8"))
    titles = {panel["title"] for panel in document["panels"]}
    named = re.findall(r"panels? \*([^*]+)\*(?: beside \*([^*]+)\*)?", RUNBOOK)
    assert {title for pair in named for title in pair if title} <= titles


def test_its_filters_of_the_log_can_be_run(tmp_path: Path) -> None:
    if not shutil.which("jq"):
        pytest.skip("jq is not in PATH")
    log = tmp_path / "log"
    line = {"level": "error", "logger": "app.x", "message": "…", "time": "2026", "status": 503}
    log.write_text("not JSON\n" + json.dumps(line) + "\n", "utf-8")
    filters = re.findall(r"lines \w+ '([^']+)'", RUNBOOK)
    assert len(filters) > 10
    for it in filters:
        succeed("jq", "-cR", f"fromjson? | {it}", log, cwd=tmp_path)
