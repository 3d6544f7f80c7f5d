"""The manifests for Kubernetes: kubectl's kustomize builds them, and they agree with the service.

They are validated by the API's schemas. There is no cluster here: what admission, a controller or
the network does with them is not tried.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.answers import EVERYTHING, Answers
from tests.projects import REPOSITORY, Project, Projects, run, succeed
from tests.test_container import USER, instructions

ANSWERS: dict[str, Answers] = {
    "defaults": {"deploy": "kubernetes"},
    "everything": EVERYTHING,
    # Words that YAML takes for something else, and quotes that kustomize takes away.
    "awkward": {
        "deploy": "kubernetes",
        "project_slug": "null",
        "sso_audience": "'quoted'",
        "sso_client_id": '"',
    },
}
# The oldest release that is still maintained, and the newest.
VERSIONS = ("1.34", "1.37")
COMPONENTS = ("prometheus", "scale-by-requests")
# What the service takes from the environment beside its settings.
UVICORN = {"FORWARDED_ALLOW_IPS", "WEB_CONCURRENCY"}
# PostgreSQL's default, without what is reserved for superusers.
CONNECTIONS = 100 - 3
PAGE = REPOSITORY / "docs" / "kubernetes.md"

type Manifest = dict[str, Any]

_SETTINGS = """
import json
from app.core.settings import MigrationSettings, ServerSettings
from app.settings import Settings
kinds = (Settings, ServerSettings, MigrationSettings)
names = sorted({name.upper() for kind in kinds for name in kind.model_fields})
settings, server = Settings.model_fields, ServerSettings()
from app.server import _GRACEFUL_SECONDS
print(json.dumps({
    "names": names,
    "pool": settings["database_pool_size"].default,
    "seconds": server.drain_seconds + _GRACEFUL_SECONDS,
}))
"""
_STARTS = """
from app.core.settings import MigrationSettings, ServerSettings, load_settings
from app.settings import Settings
print([repr(load_settings(kind)) for kind in ({kinds})])
"""


def build(folder: Path) -> list[Manifest]:
    """Return what ``kubectl apply -k FOLDER`` would apply."""
    kubectl = Path(sys.executable).with_name("kubectl")
    return [*yaml.safe_load_all(succeed(kubectl, "kustomize", folder, cwd=folder))]


def one(manifests: list[Manifest], kind: str, suffix: str = "") -> Manifest:
    """Return the manifest of a kind whose name ends so."""
    [found] = [
        it for it in manifests if it["kind"] == kind and it["metadata"]["name"].endswith(suffix)
    ]
    return found


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    """Return the template of each pod."""
    for it in manifests:
        if it["kind"] in {"Deployment", "Job"}:
            yield it["spec"]["template"]


def selectors(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, str]]]:
    """Return the labels by which each manifest chooses pods."""
    for it in manifests:
        spec = it.get("spec", {})
        if it["kind"] == "Service":
            yield it["kind"], spec["selector"]
        if it["kind"] in {"Deployment", "PodDisruptionBudget", "PodMonitor"}:
            yield it["kind"], spec["selector"]["matchLabels"]
        if it["kind"] == "NetworkPolicy":
            yield it["metadata"]["name"], spec["podSelector"]["matchLabels"]
    for pod in pods(manifests):
        for spread in pod["spec"].get("topologySpreadConstraints", []):
            yield "topology spread", spread["labelSelector"]["matchLabels"]


@pytest.fixture(scope="module", params=ANSWERS)
def project(
    request: pytest.FixtureRequest, projects: Projects, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    target = tmp_path_factory.mktemp("kubernetes") / "service"
    return projects.copy(ANSWERS[request.param], target)


@pytest.fixture(scope="module")
def folder(project: Project) -> Path:
    """The folder of the manifests, with every component in a further environment."""
    folder = project.folder / "deploy" / "kubernetes"
    shutil.copytree(folder / "production", folder / "everything")
    file = folder / "everything" / "kustomization.yaml"
    text = re.sub(r"(?m)^# (?=components:|  - \.\./components/)", "", file.read_text())
    file.write_text(text)
    assert yaml.safe_load(text)["components"] == [f"../components/{it}" for it in COMPONENTS]
    return folder


@pytest.fixture(scope="module")
def manifests(folder: Path) -> list[Manifest]:
    return build(folder / "everything")


@pytest.fixture(scope="module")
def service(project: Project) -> dict[str, Any]:
    """What the service's own code says: its settings' names, and some of their defaults."""
    return dict(json.loads(python(project, _SETTINGS)))


def python(project: Project, program: str, **variables: str) -> str:
    """Run a program in the project, in no environment but the variables."""
    command = (project.program("python"), "-c", program)
    (project.folder / ".env").unlink(missing_ok=True)
    return succeed(*command, cwd=project.folder, env=variables)


@pytest.mark.parametrize(
    ("environment", "version"),
    [("base", VERSIONS[0]), ("production", VERSIONS[0]), *(("everything", it) for it in VERSIONS)],
)
def test_the_api_takes_them(folder: Path, tmp_path: Path, environment: str, version: str) -> None:
    known = [it for it in build(folder / environment) if it["kind"] != "PodMonitor"]
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(known))
    validate = Path(sys.executable).with_name("kubernetes-validate")
    said = run(validate, "--strict", "-k", version, file, cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    assert (said.stdout + said.stderr).count(" passed ") == len(known)


def test_each_file_belongs_to_one_kustomization(folder: Path) -> None:
    for file in folder.rglob("kustomization.yaml"):
        listed = [
            it for it in yaml.safe_load(file.read_text()).get("resources", []) if "/" not in it
        ]
        there = [it.name for it in file.parent.iterdir() if it != file]
        assert sorted(listed) == sorted(there)


def test_pods_fulfil_the_restricted_standard_and_write_only_to_tmp(
    manifests: list[Manifest],
) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""
    for pod in pods(manifests):
        spec, [container] = pod["spec"], pod["spec"]["containers"]
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert {it["mountPath"] for it in container["volumeMounts"]} == {"/tmp"}  # noqa: S108
        [volume] = spec["volumes"]
        assert volume == {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]


def test_the_user_is_that_of_the_image(project: Project) -> None:
    assert ("USER", f"{USER}:{USER}") in instructions(project.folder)


def test_each_selector_chooses_the_pods_of_one_kind(manifests: list[Manifest]) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods(manifests)]
    found = [*selectors(manifests)]
    assert {"Service", "Deployment", "PodDisruptionBudget", "PodMonitor"} <= {it for it, _ in found}
    for who, wanted in found:
        assert len([it for it in labels if wanted.items() <= it.items()]) == 1, who
    # A policy that applies to no pod would leave it open.
    policies = [it["spec"]["podSelector"] for it in manifests if it["kind"] == "NetworkPolicy"]
    assert all({"matchLabels": it} in policies for it in labels)


def test_names_and_ports_that_are_referred_to_are_there(manifests: list[Manifest]) -> None:
    deployment = one(manifests, "Deployment")
    name, spec = deployment["metadata"]["name"], deployment["spec"]["template"]["spec"]
    [container] = spec["containers"]
    ports = {it["name"]: it["containerPort"] for it in container["ports"]}
    assert ports == {"http": 8000, "metrics": 9464}
    assert one(manifests, "ConfigMap")["data"]["METRICS_PORT"] == str(ports["metrics"])

    used = {
        container[f"{it}Probe"]["httpGet"]["port"] for it in ("startup", "liveness", "readiness")
    }
    used |= {it["targetPort"] for it in one(manifests, "Service")["spec"]["ports"]}
    used |= {it["port"] for it in one(manifests, "PodMonitor")["spec"]["podMetricsEndpoints"]}
    for policy in [it for it in manifests if it["kind"] == "NetworkPolicy"]:
        for rule in policy["spec"].get("ingress", []):
            used |= {it["port"] for it in rule["ports"]}
    assert used == ports.keys()

    assert one(manifests, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == name
    assert one(manifests, "ServiceAccount")["metadata"]["name"] == spec["serviceAccountName"]
    assert container["envFrom"] == [
        {"configMapRef": {"name": one(manifests, "ConfigMap")["metadata"]["name"]}},
        {"secretRef": {"name": name}},
    ]
    images = {pod["spec"]["containers"][0]["image"] for pod in pods(manifests)}
    assert images == {f"registry.example.com/{name}:0.1.0"}
    assert not [it for it in manifests if it["kind"] == "Secret"]


def test_probes_ask_for_what_they_are_for(manifests: list[Manifest]) -> None:
    [container] = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert {it: container[f"{it}Probe"]["httpGet"]["path"] for it in ("startup", "liveness")} == {
        "startup": "/livez",
        "liveness": "/livez",
    }
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_a_stop_is_waited_for(manifests: list[Manifest], service: dict[str, Any]) -> None:
    spec = one(manifests, "Deployment")["spec"]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > service["seconds"]
    assert spec["minReadySeconds"] >= service["seconds"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_database_has_connections_for_all_of_them(
    manifests: list[Manifest], service: dict[str, Any]
) -> None:
    """In a rollout too: one more starts, another one stops, and the migration runs."""
    settings = one(manifests, "ConfigMap")["data"]
    workers = int(settings.get("WEB_CONCURRENCY", "1"))
    pool = int(settings.get("DATABASE_POOL_SIZE", service["pool"]))
    replicas = one(manifests, "HorizontalPodAutoscaler")["spec"]["maxReplicas"]
    assert (replicas + 2) * workers * pool + 1 <= CONNECTIONS
    sums = f"({replicas} + 2) * {workers} * {pool} + 1 = {(replicas + 2) * workers * pool + 1}"
    assert sums in PAGE.read_text("utf-8").replace("\u00d7", "*")


def test_what_is_set_are_settings_and_the_answers_arrive_exactly(
    project: Project, folder: Path, manifests: list[Manifest], service: dict[str, Any]
) -> None:
    settings = one(manifests, "ConfigMap")["data"]
    assert settings.keys() <= {*service["names"]} | UVICORN
    answers = yaml.safe_load((project.folder / ".copier-answers.yml").read_text("utf-8"))
    given = one(build(folder / "base"), "ConfigMap")["data"]
    assert given == {
        "SSO_ISSUER": answers["sso_issuer"] or "https://sso.example.com/realms/main",
        "SSO_AUDIENCE": answers["sso_audience"],
        "CLIENT_ID": answers["sso_client_id"],
    }


def secrets() -> dict[str, dict[str, str]]:
    """Return the keys and values of each secret that the page creates, by the end of its name."""
    blocks = re.findall(
        r"kubectl create secret generic my-service(\S*) ((?:.*\\\n)*.*)", PAGE.read_text("utf-8")
    )
    return {
        name: dict(re.findall(r"--from-literal='?(\w+)=([^'\s]+)", words)) for name, words in blocks
    }


def test_the_service_and_the_migration_start_with_what_they_are_given(
    project: Project, manifests: list[Manifest]
) -> None:
    assert secrets().keys() == {"", "-migration"}
    settings = {
        name: value
        for name, value in one(manifests, "ConfigMap")["data"].items()
        # Quotes around a value are refused, because `docker run --env-file` adds them.
        if value not in {"'quoted'", '"'}
    }
    settings = {"SSO_AUDIENCE": "a", "CLIENT_ID": "a"} | settings
    python(
        project, _STARTS.replace("{kinds}", "Settings, ServerSettings"), **settings, **secrets()[""]
    )
    said = python(
        project, _STARTS.replace("{kinds}", "MigrationSettings,"), **secrets()["-migration"]
    )
    assert "migrator" in said


def test_the_migration_runs_in_the_image_s_entry_point(manifests: list[Manifest]) -> None:
    [container] = one(manifests, "Job")["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["alembic", "upgrade", "head"]
    assert "command" not in container
    assert container["envFrom"] == [
        {"secretRef": {"name": one(manifests, "Job")["metadata"]["name"]}}
    ]


def test_rules_become_a_resource_by_the_command_of_the_page(project: Project) -> None:
    alerts = project.folder / "deploy/monitoring/alerts.yaml"
    [command] = re.findall(r"^(\{ printf .+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    succeed("sh", "-euc", command, cwd=project.folder)
    target = project.folder / "deploy/kubernetes/production/alerts.yaml"
    made = yaml.safe_load(target.read_text("utf-8"))
    target.unlink()
    assert made["kind"] == "PrometheusRule"
    assert made["spec"] == yaml.safe_load(alerts.read_text("utf-8"))
    assert made["metadata"]["name"] == "my-service"


def test_the_alert_of_a_failed_migration_is_about_its_job(
    project: Project, manifests: list[Manifest]
) -> None:
    rules = (project.folder / "deploy/monitoring/alerts.yaml").read_text("utf-8")
    [pattern] = re.findall(r'kube_job_failed\{job_name=~"([^"]+)"', rules)
    assert re.fullmatch(pattern, one(manifests, "Job")["metadata"]["name"])


def test_only_who_asks_for_them_gets_them(projects: Projects) -> None:
    for answer in ("docker", "none"):
        assert not (projects.rendered({"deploy": answer}) / "deploy" / "kubernetes").exists()
