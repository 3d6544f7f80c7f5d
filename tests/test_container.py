"""The container: what its Dockerfile says, and what an image that is built from it does.

buildah builds it, as root and without Docker. No registry of images is asked: the base is made of
Debian's packages, and gets the name that the Dockerfile asks for. It runs in namespaces of its
own, with the image's configuration and a root file system that cannot be written; cgroups, seccomp
and a network of its own are what a real runtime adds.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.answers import EVERYTHING
from tests.debian import NotInstallable, bootstrap, find_program, with_libraries
from tests.processes import free_ports, wait_until
from tests.projects import TEMPLATE, Project, Projects, run, succeed, uv

BASE = "python:3.13-slim"
USER = 10001
_START_SECONDS = 60
_STOP_SECONDS = 20
# Where certificates are in the image, and what a build needs to reach a registry from here.
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_PASSED_ON = re.compile(r"(?i)PIP_(INDEX|DEFAULT_TIMEOUT|RETRIES).*|UV_(DEFAULT_|EXTRA_)?INDEX.*")
_SETTINGS = {
    "DATABASE_URL": "postgresql://app@127.0.0.1:1/app",
    "SSO_ISSUER": "https://sso.example.com",
    "SSO_AUDIENCE": "service",
    "CLIENT_ID": "service",
    "CLIENT_SECRET": "secret",
    "SERVER_DRAIN_SECONDS": "1",
}
# In namespaces of its own: the root becomes one that cannot be written, but for /tmp.
_MOUNT = """
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t tmpfs tmpfs "$1/tmp"
mount -t proc proc "$1/proc"
exec "$2" -c "$3" "$1" "$4"
"""
_ENTER = """
import json, os, sys, warnings
it = json.loads(sys.argv[2])
os.chroot(sys.argv[1])
os.chdir(it["folder"])
os.setgroups([])
os.setgid(it["group"])
os.setuid(it["user"])
os.execvpe(it["words"][0], it["words"], it["env"])
"""


def instructions(folder: Path) -> list[tuple[str, str]]:
    """Return each instruction of a project's Dockerfile, with what follows it."""
    text = (folder / "Dockerfile").read_text("utf-8")
    return [
        (name, rest)
        for line in text.splitlines()
        if line and not line.startswith("#")
        for name, _, rest in [line.partition(" ")]
    ]


@pytest.mark.parametrize("answers", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_hadolint_finds_nothing(projects: Projects, answers: dict[str, str]) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    succeed(hadolint, "--failure-threshold=style", "Dockerfile", cwd=projects.rendered(answers))


def test_uv_is_pinned_by_hash_to_a_version_that_ci_uses_too(projects: Projects) -> None:
    folder = projects.rendered({})
    [pin] = [rest for name, rest in instructions(folder) if name == "ARG"]
    found = re.fullmatch(r'UV="uv==(\d+)\.(\d+)\.(\d+)((?: --hash=sha256:[0-9a-f]{64}){2})"', pin)
    assert found, pin
    major, minor, patch = map(int, found.groups()[:3])
    for file in TEMPLATE.rglob("*.yml*"):
        for bound in re.findall(r"uv>=([\d.]+),<([\d.]+)", file.read_text("utf-8")):
            assert bound == (f"{major}.{minor}.{patch}", f"{major}.{minor + 1}"), file


def test_nothing_but_what_the_service_needs_is_copied(projects: Projects) -> None:
    copied = [rest for name, rest in instructions(projects.rendered({})) if name == "COPY"]
    assert copied == [
        "pyproject.toml uv.lock ./",
        "--from=build /service/.venv .venv",
        "pyproject.toml alembic.ini ./",
        "migrations migrations",
        "app app",
    ]


def test_a_project_that_is_not_deployed_has_nothing_of_it(projects: Projects) -> None:
    folder = projects.rendered({"deploy": "none"})
    names = {path.name for path in folder.iterdir()}
    assert names.isdisjoint({"Dockerfile", ".dockerignore", "compose.yaml"})
    readme = (folder / "README.md").read_text("utf-8")
    assert "docker" not in readme.lower()
    assert "python -m app.server" in readme


@dataclass(frozen=True)
class Image:
    """An image that was built: its file system, and how a container of it starts."""

    root: Path
    config: dict[str, Any]

    @contextmanager
    def start(self, log: Path, *command: str, **variables: str) -> Iterator["Container"]:
        """Start a container, with another command than the image's if there is one."""
        user, _, group = self.config["User"].partition(":")
        environment = dict(it.split("=", 1) for it in self.config["Env"])
        entry = {
            "folder": self.config["WorkingDir"],
            "user": int(user),
            "group": int(group),
            "words": [*self.config["Entrypoint"], *(command or self.config["Cmd"])],
            "env": environment | variables,
        }
        namespaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
        inside = ("sh", "-euc", _MOUNT, "sh", str(self.root), sys.executable, _ENTER)
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*namespaces, *inside, json.dumps(entry)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            yield Container(process, log)
        finally:
            process.kill()
            process.wait()

    def run(self, log: Path, *command: str, **variables: str) -> tuple[int, str]:
        """Run a command in a container to its end; return its exit code and what it printed."""
        with self.start(log, *command, **variables) as container:
            return container.process.wait(_START_SECONDS), container.text()


@dataclass(frozen=True)
class Container:
    """A running container, and what it has written."""

    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        """Return what it has written."""
        return self.log.read_text("utf-8", "replace")

    def first(self) -> int:
        """Return the number that its first process has on this machine."""
        [child] = children(self.process.pid)
        return child

    def stop(self) -> int:
        """Stop it as a platform does, and return its exit code."""
        os.kill(self.first(), signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)


def children(process: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(it) for it in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def status(process: int) -> dict[str, list[str]]:
    """Return what the kernel says of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}


def make_base(root: Path) -> None:
    """Make of Debian's packages what the Dockerfile expects of its base."""
    for name in ("python", "pip"):
        (root / "usr/local/bin").mkdir(parents=True, exist_ok=True)
        (root / f"usr/local/bin/{name}").symlink_to(f"/usr/bin/{name}3")
    for file in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        file.unlink()
    for folder in ("usr/share/doc", "usr/share/man", "usr/share/locale", "debootstrap"):
        shutil.rmtree(root / folder, ignore_errors=True)
    certificates = Path(os.environ.get("SSL_CERT_FILE", f"/{_CERTIFICATES}"))
    (root / _CERTIFICATES).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(certificates, root / _CERTIFICATES)


def write_canaries(folder: Path) -> None:
    """Add what must not reach the image, and lies about in projects."""
    succeed("git", "init", "--quiet", cwd=folder)
    for path in (".env", "app/.env", "app/.env.local", "app/tls.key", "migrations/server-key.pem"):
        (folder / path).write_text("A=canary-7\n")


@pytest.fixture(scope="module")
def image(
    make_project: Callable[[dict[str, str]], Project], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("image")
    try:
        root = bootstrap(folder, "trixie", "python3", "python3-pip", configured=False)
        program = find_program("usr/bin/buildah", "buildah", folder)
    except NotInstallable as reason:
        if os.environ.get("REQUIRE_BUILDAH"):
            raise
        pytest.skip(f"buildah: {reason}")
    make_base(root)
    policy, registries = folder / "policy.json", folder / "registries.conf"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    registries.write_text('unqualified-search-registries = ["docker.io"]\n')
    options = [f"--root={folder / 'store'}", f"--runroot={folder / 'run'}", "--storage-driver=vfs"]
    options += [f"--registries-conf={registries}"]
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
    start = with_libraries(program, folder)

    def buildah(command: str, *words: str | Path) -> str:
        signed: list[str | Path] = (
            ["--signature-policy", policy] if command in {"bud", "commit", "from"} else []
        )
        return succeed(
            *start, *options, command, *signed, *words, cwd=folder, env=environment
        ).strip()

    variables = {"PIP_CERT": f"/{_CERTIFICATES}", "SSL_CERT_FILE": f"/{_CERTIFICATES}"}
    variables |= {k: v for k, v in os.environ.items() if _PASSED_ON.fullmatch(k)}
    # What this run holds its packages to, and uv.lock with them.
    variables["UV_EXCLUDE_NEWER"] = os.environ["UV_EXCLUDE_NEWER"]
    base = buildah("from", "scratch")
    buildah("copy", "--quiet", base, root, "/")
    settings = [word for it in variables.items() for word in ("--env", "=".join(it))]
    buildah("config", *settings, "--env", "PATH=/usr/local/bin:/usr/bin:/bin", base)
    buildah("commit", "--quiet", "--rm", base, f"docker.io/library/{BASE}")

    project = make_project({})
    succeed(*uv(), "lock", "--quiet", cwd=project.folder, env=project.env)
    write_canaries(project.folder)
    buildah("bud", "--pull=never", "--tag=localhost/service", project.folder)
    container = buildah("from", "--pull-never", "localhost/service")
    described = json.loads(buildah("inspect", "--type=image", "localhost/service"))
    yield Image(Path(buildah("mount", container)), described["OCIv1"]["config"])
    buildah("umount", container)
    buildah("rm", container)


@pytest.fixture
def serving(image: Image, tmp_path: Path) -> Iterator[Callable[..., "Service"]]:
    """Start the image's own command, on a free port."""
    started = []

    def start(**variables: str) -> Service:
        [port] = free_ports(1)
        command = [str(port) if word == "8000" else word for word in image.config["Cmd"]]
        context = image.start(tmp_path / "log", *command, **_SETTINGS, **variables)
        started.append(context)
        service = Service(context.__enter__(), port)
        wait_until(service.answers, _START_SECONDS, service.container.text)
        return service

    yield start
    for context in started:
        context.__exit__(None, None, None)


@dataclass(frozen=True)
class Service:
    """The service in a container."""

    container: Container
    port: int

    def answers(self) -> bool:
        """Whether it is live."""
        assert self.container.process.poll() is None, self.container.text()
        with suppress(httpx2.TransportError):
            url = f"http://127.0.0.1:{self.port}/livez"
            return httpx2.get(url, trust_env=False).status_code == 200
        return False


@pytest.mark.long
class TestTheImage:
    def test_it_serves_as_process_1_of_an_ordinary_user_and_ends_in_time(
        self, serving: Callable[..., Service]
    ) -> None:
        service = serving()
        found = status(service.container.first())
        assert found["Uid"] == found["Gid"] == [str(USER)] * 4
        assert found["NSpid"][-1] == "1"
        assert int(found["CapEff"][0], 16) == 0

        begin = time.monotonic()
        assert service.container.stop() == 0
        assert time.monotonic() - begin < 5
        log = service.container.text()
        assert "Application shutdown complete." in log
        assert "Traceback" not in log

    def test_its_workers_need_no_other_init(self, serving: Callable[..., Service]) -> None:
        service = serving(WEB_CONCURRENCY="2")
        first = service.container.first()

        def workers() -> set[int]:
            named = {it: Path(f"/proc/{it}/cmdline").read_bytes() for it in children(first)}
            # A process that has ended and is waited for by nobody has no command line.
            return {it for it, command in named.items() if b"spawn_main" in command or not command}

        before = workers()
        assert len(before) == 2
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(workers() - before) == 1, _START_SECONDS, service.container.text)
        assert killed not in workers()
        assert service.answers()
        assert service.container.stop() == 0

    def test_another_command_takes_the_place_of_the_service(
        self, image: Image, tmp_path: Path
    ) -> None:
        code, said = image.run(tmp_path / "log", "alembic", "upgrade", "head", "--sql")
        assert code == 0, said
        assert "CREATE TABLE" in said

    def test_nothing_but_tmp_can_be_written(self, image: Image, tmp_path: Path) -> None:
        """The owner of the files is root too, for a runtime that leaves the root writable."""
        program = (
            "import os, pathlib, tempfile; tempfile.TemporaryFile(); pathlib.Path('x').touch()"
        )
        code, said = image.run(tmp_path / "log", "python", "-c", program)
        assert code == 1
        assert "Read-only file system: 'x'" in said
        owners = {path.lstat().st_uid for path in (image.root / "service").rglob("*")}
        assert owners == {0}

    def test_it_holds_the_service_compiled_and_nothing_else_of_the_project(
        self, image: Image
    ) -> None:
        service = image.root / "service"
        assert {path.name for path in service.iterdir()} == {
            ".venv",
            "alembic.ini",
            "app",
            "migrations",
            "pyproject.toml",
        }
        sources = [path for path in service.rglob("*.py") if ".venv/bin" not in str(path)]
        compiled = {path.name.split(".")[0] for path in service.rglob("*.pyc")}
        assert len(sources) > 1000
        assert {path.stem for path in sources if "/app/" in str(path)} <= compiled
        names = {path.name for path in image.root.rglob("*")}
        assert names.isdisjoint({"uv", ".env", ".env.local", ".git", "tls.key", "server-key.pem"})
        assert names.isdisjoint({"template_tools", "uv.lock", "uv.txt", "pytest", "mypy", "ruff"})
        assert not (image.root / "root/.cache").exists()
        held = run("grep", "-rl", "canary-7", service, cwd=service)
        assert (held.returncode, held.stdout) == (1, "")
