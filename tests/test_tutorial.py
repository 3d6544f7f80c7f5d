"""A newcomer follows the tutorial to the letter, in an empty folder, in each of its languages."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from tests.processes import end_processes_of, free_ports, start, wait_until
from tests.projects import REPOSITORY, Project, Projects, apply, commit, output, run, succeed

# What each page says where it does not run something.
PAGES = {
    "docs/tutorial.md": "the test of this page has no Docker",
    "docs/es/tutorial.md": "la prueba de esta página no tiene Docker",
}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The file that a block belongs to is the last one that stands before it.
FILES = re.compile(r"`((?:\w+/)+\w+\.py)`")
START_SECONDS = 60
SERVERS = ("uv run poe dev", "uv run --no-dev --env-file .env.production python -m app.server")


@dataclass
class Newcomer:
    """Who types the commands of the page, and which servers run because of it."""

    template: Path
    folder: Path
    env: dict[str, str]
    port: int
    # The server of the moment, and the database that stands for that of production.
    server: ExitStack = field(default_factory=ExitStack)
    database: ExitStack = field(default_factory=ExitStack)

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a shell does, with the addresses of this machine."""
        command = command.replace("gh:YOUR-ORG/fastapi-sso-template", str(self.template))
        command = command.replace("uvx copier", str(Path(sys.executable).with_name("copier")))
        command = command.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        if command.startswith("curl "):
            wait_until(self.is_ready, START_SECONDS, lambda: self.log.read_text("utf-8"))
            command = command.replace("curl ", "curl --silent --show-error ", 1)
        return run("bash", "-c", command, cwd=self.folder, env=self.env)

    def starts(self, command: str) -> None:
        """Start a server, as in a terminal of its own, in the place of another one."""
        self.server.close()
        command = re.sub(r" --port 8000|$", f" --port {self.port}", command, count=1)
        self.server.enter_context(self.running(command))
        wait_until(self.is_ready, START_SECONDS, lambda: self.log.read_text("utf-8"))

    @property
    def log(self) -> Path:
        """What the server has printed."""
        return self.folder.parent / "server.log"

    def is_ready(self) -> bool:
        """Whether the server would be sent requests."""
        with suppress(httpx2.TransportError):
            url = f"http://127.0.0.1:{self.port}/readyz"
            return httpx2.get(url, trust_env=False).status_code == 200
        return False

    @contextmanager
    def running(self, command: str) -> Iterator[None]:
        """Run a command beside the others, until Ctrl-C."""
        words = ("bash", "-c", f"exec {command}")
        process = start(*words, cwd=self.folder, env=self.env, log=self.log)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.wait(START_SECONDS)


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a block, and what is shown of its output."""
    if not block.startswith("$ "):
        yield from ((line, "") for line in block.splitlines())
        return
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def shows(shown: str, printed: str) -> bool:
    """Whether something was printed; … stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in shown.rstrip("\n").split("…"))
    return re.search(pattern, printed, re.DOTALL) is not None


@pytest.fixture
def newcomer(template: Path, projects: Projects, tmp_path: Path) -> Iterator[Newcomer]:
    release = tmp_path / "template"
    succeed("git", "clone", "--quiet", str(template), str(release), cwd=tmp_path)
    (tmp_path / "home").mkdir()
    (port,) = free_ports(1)
    env = {
        **projects.environment(),
        # Other tests use the shared one, from which `uv sync` would remove what is theirs.
        "UV_PROJECT_ENVIRONMENT": str(tmp_path / "venv"),
        "NO_PROXY": "127.0.0.1",
    }
    someone = Newcomer(release, tmp_path / "home", env, port)
    with someone.database, someone.server:
        yield someone
    with suppress(AssertionError):
        databases = Project(someone.folder, env).database_folder()
        end_processes_of(someone.folder, databases)


def released(template: Path) -> None:
    """Make a release of the template that changes a file of its own."""
    with (template / "template/app/core/etag.py").open("a", encoding="utf-8") as file:
        file.write("\n\n# A fix of the template.\n")
    commit(template, "A fix")
    succeed("git", "tag", "999.0.1", cwd=template)


@pytest.mark.long
@pytest.mark.parametrize("name", PAGES)
def test_every_command_of_the_tutorial_does_what_it_shows(newcomer: Newcomer, name: str) -> None:
    page = (REPOSITORY / name).read_text("utf-8")
    end = 0
    for block in BLOCK.finditer(page):
        before, language, content = page[end : block.start()], block[1], block[2]
        end = block.end()
        if language == "console":
            for command, shown in commands(content):
                follow(newcomer, command, shown)
        elif language == "diff":
            apply(content, newcomer.folder / FILES.findall(before)[-1])
        elif language == "python":
            with (newcomer.folder / FILES.findall(before)[-1]).open("a", encoding="utf-8") as file:
                file.write(f"\n\n{content}")
        elif language == "dotenv":
            url = database_url(newcomer)
            written = re.sub(r"(?m)^DATABASE_URL=.+$", f"DATABASE_URL={url}", content)
            (newcomer.folder / ".env.production").write_text(written, "utf-8")
        else:
            assert language in {"text", "sh"}


def follow(newcomer: Newcomer, command: str, shown: str) -> None:
    """Do what the page says, and compare."""
    if command.startswith("cd "):
        newcomer.folder /= command.removeprefix("cd ")
        return
    if command.startswith(SERVERS):
        newcomer.starts(command)
        return
    if "copier update" in command:
        released(newcomer.template)
    done = newcomer.types(command)
    must_fail = shown.startswith("The service cannot start")
    assert (done.returncode == 1) if must_fail else (done.returncode == 0), (command, output(done))
    assert shows(shown, output(done)), (command, output(done))
    if "copier update" in command:
        folder = newcomer.folder
        assert "# A fix of the template." in (folder / "app/core/etag.py").read_text("utf-8")
        assert "is kept" in (folder / "app/api/v1/invoice/service.py").read_text("utf-8")


def database_url(newcomer: Newcomer) -> str:
    """Start a database that stands for the one of production, and return its address."""
    newcomer.server.close()
    postgres = "uv run python -m template_tools.postgres"
    newcomer.database.enter_context(newcomer.running(f"{postgres} run -- sleep 600"))

    def url() -> str:
        done = newcomer.types(f"{postgres} url")
        return done.stdout.strip() if done.returncode == 0 else ""

    wait_until(lambda: bool(url()), START_SECONDS, lambda: newcomer.log.read_text("utf-8"))
    return url()


@pytest.mark.parametrize("name", PAGES)
def test_what_the_tutorial_does_not_run_is_said_beside_it(name: str) -> None:
    page = (REPOSITORY / name).read_text("utf-8")
    for block in BLOCK.finditer(page):
        if block[1] == "sh":
            assert PAGES[name] in page[: block.start()][-200:]
    assert [block[1] for block in BLOCK.finditer(page)].count("sh") == 1
