"""The template as it stands in the work tree, the projects rendered from it, and their commands."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import copier

from tests.answers import EVERY_PACKAGE, Answers

REPOSITORY = Path(__file__).resolve().parents[1]
TEMPLATE = REPOSITORY / "template"
RELEASE = "999.0.0"

# Settings of the machine that would reach a rendered project, and the tools that it runs.
_FOREIGN_VARIABLES = (
    "CLIENT_ID",
    "CLIENT_SECRET",
    "DATABASE_URL",
    "ENVIRONMENT",
    "PYTHONPATH",
    "SSO_AUDIENCE",
    "SSO_INTROSPECTION_URL",
    "SSO_ISSUER",
    "UV_PYTHON",
    "VIRTUAL_ENV",
)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that the other test workers respect."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(
    *command: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 1200
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and return its output as text."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )


def succeed(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = run(*command, cwd=cwd, env=env)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{output(done)}"
    return done.stdout


def apply(diff: str, path: Path) -> None:
    """Make the change that a page shows as a diff.

    The lines that begin with a space or a minus are found in their order, whatever is between them.
    """
    lines = path.read_text("utf-8").splitlines()
    at = 0
    for change in diff.splitlines():
        if change.startswith("+"):
            lines.insert(at, change[1:])
            at += 1
        else:
            at = lines.index(change[1:], at) + (change[0] == " ")
            if change.startswith("-"):
                del lines[at]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def output(done: subprocess.CompletedProcess[str]) -> str:
    """Return everything that a command has printed."""
    return done.stdout + done.stderr


def uv() -> list[str]:
    """Return the command that runs uv: the one that runs us, from PATH, or a module of Python."""
    found = os.environ.get("UV") or shutil.which("uv")
    return [found] if found else [sys.executable, "-m", "uv"]


def tracked_files(folder: Path) -> list[Path]:
    """Return what git tracks or would add, as paths relative to the folder."""
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    if (folder / ".git").exists():
        listing = succeed(*command, cwd=folder)
    else:
        # An exported tree: an empty repository elsewhere knows the rules about ignored files.
        with tempfile.TemporaryDirectory() as empty:
            succeed("git", "init", "--quiet", "--bare", empty, cwd=folder)
            command[1:1] = [f"--git-dir={empty}", f"--work-tree={folder}"]
            listing = succeed(*command, cwd=folder)
    paths = (Path(name) for name in listing.split("\0") if name)
    return sorted({path for path in paths if os.path.lexists(folder / path)})


def copy_template(target: Path) -> None:
    """Copy what Copier reads from the work tree, with its uncommitted changes."""
    for path in tracked_files(REPOSITORY):
        if path.parts[0] in {"copier.yml", "template"}:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / path, target / path, follow_symlinks=False)


def clone_work_tree(target: Path) -> None:
    """Commit the work tree, with its uncommitted changes, into a new repository with one tag."""
    copy_template(target)
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=target)
    commit(target, "The work tree")
    succeed("git", "tag", RELEASE, cwd=target)


def commit(folder: Path, message: str) -> None:
    """Commit everything in a repository."""
    succeed("git", "add", "--all", cwd=folder)
    succeed("git", "commit", "--quiet", "--allow-empty", "--message", message, cwd=folder)


def render(template: Path, target: Path, answers: Answers, release: str | None = RELEASE) -> None:
    """Copy the template the way a user does: without trust, and with defaults for the rest."""
    copier.run_copy(
        str(template),
        target,
        data=answers,
        vcs_ref=release,
        defaults=True,
        quiet=True,
        unsafe=False,
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


@dataclass(frozen=True)
class Project:
    """A rendered project, and the environment that its commands run in."""

    folder: Path
    env: Mapping[str, str]

    def uv_run(self, *command: str) -> list[str]:
        """Return the words of ``uv run COMMAND``."""
        return [*uv(), "run", *command]

    def poe(self, *task: str) -> subprocess.CompletedProcess[str]:
        """Run ``uv run poe TASK`` to its end."""
        return run(*self.uv_run("poe", *task), cwd=self.folder, env=self.env)

    def tool(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the shared environment to its end, as in an activated one."""
        return run(self.program(command[0]), *command[1:], cwd=self.folder, env=self.env)

    def program(self, name: str) -> Path:
        """Return the path of a command of the shared environment."""
        return Path(self.env["UV_PROJECT_ENVIRONMENT"]) / "bin" / name

    def with_own_environment(self, folder: Path) -> Self:
        """Return the project with a virtual environment that no other project uses.

        ``uv run`` adds what is missing in the shared one, but ``uv sync`` also removes what this
        project doesn't need, under the feet of the tests that run at the same time.
        """
        return replace(self, env={**self.env, "UV_PROJECT_ENVIRONMENT": str(folder)})

    def database_folder(self) -> Path:
        """Return the folder of the project's databases, which root keeps elsewhere."""
        code = (
            "from pathlib import Path; from template_tools.postgres.folders import state_folder; "
            "print(state_folder(Path.cwd(), 'dev').parent)"
        )
        return Path(succeed(self.program("python"), "-c", code, cwd=self.folder).strip())


class Projects:
    """Renders each answer set once for all test workers, and hands out copies."""

    def __init__(self, template: Path, shared: Path) -> None:
        self._template = template
        self._shared = shared

    def rendered(self, answers: Answers) -> Path:
        """Return a folder with the rendered project, which must be left as it is."""
        key = hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()[:12]
        folder = self._shared / f"rendered-{key}"
        with locked(self._shared / f"rendered-{key}.lock"):
            if not folder.exists():
                draft = folder.with_suffix(".draft")
                render(self._template, draft, answers)
                draft.rename(folder)
        return folder

    def copy(self, answers: Answers, target: Path) -> Project:
        """Return a copy of the rendered project that a test may change."""
        shutil.copytree(self.rendered(answers), target, symlinks=True)
        return Project(target, self.environment())

    def environment(self) -> dict[str, str]:
        """Return the variables for the commands of rendered projects.

        They share a virtual environment, with every package that one of them needs. The first
        caller installs it.
        """
        environment = {k: v for k, v in os.environ.items() if k not in _FOREIGN_VARIABLES}
        environment = {k: v for k, v in environment.items() if not k.startswith("PYTEST_")}
        environment |= {
            "UV_PROJECT_ENVIRONMENT": str(self._shared / "venv"),
            "MYPY_CACHE_DIR": str(self._shared / "mypy_cache"),
            # A project that is shared must be left as it is; poe takes the variable out.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        # `python -m uv run` works where uv is not in PATH; what users type does not.
        if len(uv()) == 1:
            environment["PATH"] = os.pathsep.join([str(Path(uv()[0]).parent), os.environ["PATH"]])
        ready = self._shared / "venv.ready"
        with locked(self._shared / "venv.lock"):
            if not ready.exists():
                project = self._shared / "venv.project"
                shutil.copytree(self.rendered(EVERY_PACKAGE), project)
                # Hundreds of processes import from it, several at the same time.
                compiled = ("sync", "--quiet", "--compile-bytecode")
                succeed(*uv(), *compiled, cwd=project, env=environment)
                ready.touch()
        return environment

    def locked_packages(self) -> set[str]:
        """Return the name of every package that a rendered project installs, on any platform."""
        self.environment()
        lock = tomllib.loads((self._shared / "venv.project" / "uv.lock").read_text("utf-8"))
        return {package["name"] for package in lock["package"]} - {"my-service"}
