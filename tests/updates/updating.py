"""Projects that take an update as people do, and what is looked at afterwards."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import copier
import yaml

from scripts.guard.template import template_in
from tests.answers import Answers
from tests.processes import end_processes_of
from tests.projects import (
    RELEASE,
    REPOSITORY,
    Project,
    Projects,
    commit,
    locked,
    output,
    render,
    run,
    succeed,
    tree,
    uv,
)
from tests.updates import team
from tests.updates.evolution import STEPS

type Kind = Literal["untouched", "lived-in"]

# What an update never touches, because it belongs to the team from the first day.
SEEDS: list[str] = yaml.safe_load((REPOSITORY / "copier.yml").read_text("utf-8"))["_skip_if_exists"]
LEFT = frozenset[str]().union(*(step.left for step in STEPS))
RELEASED = frozenset[str]().union(*(step.released for step in STEPS))
# Where projects of older releases keep a module that imports what has moved.
STUBS = frozenset(template_in(REPOSITORY).moved)


def update(folder: Path, release: str, answers: Answers | None = None) -> None:
    """Run ``copier update --context-lines 1000 --defaults``, without trust."""
    copier.run_update(
        folder,
        data=answers or {},
        vcs_ref=release,
        context_lines=1000,
        defaults=True,
        overwrite=True,
        quiet=True,
        unsafe=False,
    )


def conflicts(folder: Path) -> list[str]:
    """Return the files in which an update has left a conflict; Copier ends with 0 all the same."""
    succeed("git", "add", "--all", "--intent-to-add", cwd=folder)
    checked = run("git", "diff", "--check", "HEAD", cwd=folder)
    found = {line.split(":")[0] for line in checked.stdout.splitlines() if not line.startswith("+")}
    found |= {path.name for suffix in ("rej", "orig") for path in folder.rglob(f"*.{suffix}")}
    unmerged = succeed("git", "ls-files", "--unmerged", cwd=folder)
    return sorted(found | set(unmerged.splitlines()))


def resolve(folder: Path, path: str) -> None:
    """Take the template's side of each conflict in a file, as its changelog says."""
    file = folder / path
    marked = r"<<<<<<< before updating\n.*?=======\n(.*?)>>>>>>> after updating\n"
    file.write_text(re.sub(marked, r"\1", file.read_text("utf-8"), flags=re.DOTALL), "utf-8")


def assert_like_new(
    folder: Path,
    before: dict[str, bytes],
    new: dict[str, bytes],
    unanswered: Set[str] = frozenset(),
    handed_over: Set[str] = LEFT | RELEASED,
) -> None:
    """Check that an untouched project is a new one now, and that its seeds are as they were.

    ``unanswered`` are the files that a new answer leaves out, and ``handed_over`` those that are
    the team's since a step of the chain. An older project has a module at each old place.
    """
    updated = tree(folder)
    for path in updated.keys() & STUBS:
        assert b"Moved to" in updated.pop(path), path
    theirs = {path for path in before.keys() | updated.keys() | new.keys() if is_seed(path)}
    theirs |= handed_over
    assert {path: text for path, text in updated.items() if path not in theirs} == {
        path: text for path, text in new.items() if path not in theirs
    }
    for path, text in before.items():
        if path in theirs and path not in unanswered:
            assert updated.get(path) == text, path


def is_seed(path: str) -> bool:
    """Whether a file is one of the team's own from the first day."""
    return any(path == seed or path.startswith(f"{seed}/") for seed in SEEDS)


def assert_passes(project: Project, *task: str) -> None:
    """Run a command of the project's, and fail with what it printed."""
    done = project.poe(*task)
    assert done.returncode == 0, output(done)


def assert_tests_pass(project: Project, *paths: str) -> None:
    """Run the project's whole test suite, or some of it, and leave no database behind."""
    try:
        assert_passes(project, "test", "--quiet", *paths)
    finally:
        databases = project.database_folder()
        end_processes_of(project.folder, databases)
        shutil.rmtree(databases, ignore_errors=True)


def assert_lints(project: Project) -> None:
    """Check format and lint, which is the part of ``poe check`` that costs little."""
    for command in (("format", "--check"), ("check",)):
        done = project.tool("ruff", *command, ".")
        assert done.returncode == 0, output(done)


def recorded_answers(folder: Path) -> Answers:
    """Return the answers that a project has recorded."""
    recorded = yaml.safe_load((folder / ".copier-answers.yml").read_text("utf-8"))
    return {name: answer for name, answer in recorded.items() if not name.startswith("_")}


@dataclass(frozen=True)
class Written:
    """What a team has written, as blocks of lines in a file, and what it has deleted."""

    blocks: tuple[tuple[str, tuple[str, ...]], ...]
    deleted: tuple[str, ...]

    @classmethod
    def since_the_start(cls, folder: Path) -> Self:
        """Read it from the project's history, whose first commit is the rendered project."""
        start = succeed("git", "rev-list", "--max-parents=0", "HEAD", cwd=folder).strip()
        difference = ("git", "diff", "--no-renames", "--unified=0", start, "HEAD")
        blocks: list[tuple[str, list[str]]] = []
        path = ""
        for line in succeed(*difference, cwd=folder).split("\n"):
            if line.startswith("+++ "):
                path = line.removeprefix("+++ ").removeprefix("b/").rstrip("\t")
            elif line.startswith("@@"):
                blocks.append((path, []))
            elif line.startswith("+"):
                blocks[-1][1].append(line.removeprefix("+"))
        deleted = succeed(*difference, "--name-only", "--diff-filter=D", cwd=folder)
        return cls(
            tuple((path, tuple(lines)) for path, lines in blocks if any(lines)),
            tuple(deleted.splitlines()),
        )

    def without(self, *prefixes: str) -> Self:
        """Leave out the files whose path begins with one of ``prefixes``."""
        kept = (block for block in self.blocks if not block[0].startswith(prefixes))
        return replace(self, blocks=tuple(kept))

    def lost(self, folder: Path) -> list[str]:
        """Return the lines that are no longer there, or no longer beside each other.

        A deleted file that has come back counts as a line.
        """
        lost = [path for path in self.deleted if (folder / path).exists()]
        for path, lines in self.blocks:
            file = folder / path
            text = file.read_text("utf-8") if file.is_file() else ""
            if "\n".join(["", *lines, ""]) not in f"\n{text}\n":
                lost.extend(f"{path}: {line}" for line in lines)
        return lost


class Lives:
    """Starts projects at any release of the history, and hands out copies.

    Each is started once for all test workers: rendered, committed, and lived in where asked.
    """

    def __init__(self, history: Path, shared: Path, projects: Projects) -> None:
        self.history = history
        self._shared = shared
        self._projects = projects
        self._lock = shared / "lived-in.lock"

    def start(self, release: str, kind: Kind, answers: Answers, target: Path) -> Path:
        """Return a project in ``target`` that a test may change."""
        shutil.copytree(self._started(release, kind, answers), target, symlinks=True)
        return target

    def project(self, release: str, kind: Kind, answers: Answers, target: Path) -> Project:
        """Return such a project with the environment that its commands run in."""
        return Project(self.start(release, kind, answers, target), self.environment())

    def fresh(self, release: str, answers: Answers) -> dict[str, bytes]:
        """Return the files of a new project."""
        return tree(self._started(release, "untouched", answers))

    def _started(self, release: str, kind: Kind, answers: Answers) -> Path:
        key = hashlib.sha256(json.dumps([release, kind, answers]).encode()).hexdigest()[:12]
        folder = self._shared / f"started-{key}"
        with locked(self._shared / f"started-{key}.lock"):
            if not folder.exists():
                draft = folder.with_suffix(".draft")
                render(self.history, draft, answers, release)
                succeed("git", "init", "--quiet", "--initial-branch=main", cwd=draft)
                commit(draft, "Start from the template")
                if kind == "lived-in":
                    team.live(draft, self.environment(), self._lock)
                draft.rename(folder)
        return folder

    def environment(self) -> dict[str, str]:
        """Return the variables for the commands of lived-in projects, which share an environment.

        The first caller makes it: it has the team's packages too.
        """
        environment = self._projects.environment()
        environment["UV_PROJECT_ENVIRONMENT"] = str(self._shared / "lived-in-venv")
        with locked(self._shared / "lived-in-venv.lock"):
            if not self._lock.exists():
                project = self._shared / "lived-in-venv.project"
                shutil.copytree(self._started(RELEASE, "untouched", {}), project)
                team.live(project, environment)
                succeed(*uv(), "sync", "--quiet", cwd=project, env=environment)
                shutil.copy(project / "uv.lock", self._lock)
        return environment


_MIGRATE = """
import asyncio, os, sys
import asyncpg
import template_tools.pytest_plugin  # Sets what the application needs, and imports it.
from alembic import command
from alembic.config import Config

server, name, message = sys.argv[1:]

async def create() -> None:
    connection = await asyncpg.connect(server.replace("+asyncpg", ""))
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()

asyncio.run(create())
os.environ["DATABASE_URL"] = server.rpartition("/")[0] + "/" + name
config = Config("alembic.ini")
command.upgrade(config, "head")
command.revision(config, message, autogenerate=True)
command.upgrade(config, "head")
command.check(config)
"""


class Server:
    """A PostgreSQL server on which the migrations of many projects are tried."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._databases = 0
        self._migrated: set[bytes] = set()

    def migrate(self, project: Project, revision: str | None = None) -> None:
        """Import the application, migrate an empty database, and compare it with the models.

        What the models lack a migration for is written first, as by ``uv run poe revision``. Of
        projects whose applications are equal only the first is looked at, unless ``revision``
        names the migration, which the project then needs.
        """
        source = _source(project.folder)
        if revision is None and source in self._migrated:
            return
        self._databases += 1
        name = f"app_test_{self._databases}"
        message = revision or "what the template brings"
        done = project.tool("python", "-c", _MIGRATE, self.url, name, message)
        assert done.returncode == 0, output(done)
        self._migrated |= {source, _source(project.folder)}


def _source(folder: Path) -> bytes:
    """Return a digest of everything that decides how the application and its tables are."""
    digest = hashlib.sha256()
    for part in ("app", "template_tools", "migrations"):
        for path in sorted((folder / part).rglob("*.*")):
            if path.suffix != ".pyc" and path.is_file():
                digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    for part in ("alembic.ini", "pyproject.toml", "ruff.toml"):
        digest.update((folder / part).read_bytes())
    return digest.digest()


@contextmanager
def running_server(project: Project) -> Iterator[Server]:
    """Run the embedded server of a project until the tests end."""
    command = ("-m", "template_tools.postgres", "run", "--profile", "test", "--", "sh", "-c")
    with subprocess.Popen(
        [project.program("python"), *command, "echo $DATABASE_URL; exec cat"],
        cwd=project.folder,
        env=project.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "the embedded PostgreSQL did not start"
        yield Server(url)
        process.stdin.close()
