"""Whatever a developer's shell, folder, line endings and plugins are, the commands work."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.service_tests import lay_over
from tests.answers import DEFAULTS, Answers
from tests.projects import Project, commit, output, succeed
from tests.test_dev import running_dev

type MakeProject = Callable[[Answers], Project]

# What cannot be a setting of the service: test_pytest_plugin.py has all of those.
ENVIRONMENT = {
    "HTTP_PROXY": "socks5://127.0.0.1:1",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "ALL_PROXY": "socks5h://127.0.0.1:1",
    "http_proxy": "http://127.0.0.1:1",
    "https_proxy": "ftp://127.0.0.1:1",
    "all_proxy": "nonsense",
    "PGCHANNELBINDING": "require",
    "PGCLIENTENCODING": "LATIN1",
    "PGDATA": "/nowhere",
    "PGDATABASE": "nowhere",
    "PGGSSENCMODE": "require",
    "PGHOST": "/nowhere",
    "PGHOSTADDR": "192.0.2.1",
    "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGPASSFILE": "/nowhere",
    "PGPASSWORD": "wrong",
    "PGPORT": "1",
    "PGSERVICE": "production",
    "PGSERVICEFILE": "/nowhere",
    "PGSSLCERT": "/nowhere",
    "PGSSLKEY": "/nowhere",
    "PGSSLMODE": "require",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLROOTCERT": "/nowhere",
    "PGTARGETSESSIONATTRS": "standby",
    "PGTZ": "Asia/Kathmandu",
    "PGUSER": "nobody",
    "ALEMBIC_CONFIG": "/nowhere/alembic.ini",
    "COLUMNS": "20",
    "FORCE_COLOR": "1",
    "LANG": "xx_YY.ISO-8859-1",
    "LC_ALL": "C",
    "PYTEST_ADDOPTS": "--color=yes",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii",
    "PYTHONPATH": "/nowhere",
    "PYTHONSAFEPATH": "1",
    "PYTHONSTARTUP": "/nowhere",
    "PYTHONUTF8": "0",
    "PYTHONWARNINGS": "error",
    "SSL_CERT_DIR": "/nowhere",
    "SSL_CERT_FILE": "/nowhere",
    "TZ": "Nowhere/Land",
    "UVICORN_FD": "17",
    "UVICORN_UDS": "/nowhere/socket",
    "UVICORN_WORKERS": "3",
    "WEB_CONCURRENCY": "3",
    "XDG_CONFIG_HOME": "/nowhere",
}
# A colon is nothing that uv takes, and poe reads a dollar sign as a variable.
FOLDER = "-50% off #1 it's [ab] größe {x} ;& *, 100%s %(here)s"
COMMANDS = (
    ("format",),
    ("resource", "note", "title:str"),
    ("migrate",),
    ("revision", "-m", "50% of 'it'"),
    ("lint-migrations",),
    ("check",),
    ("test", "--quiet", "tests/api/v1/note", "tests/contract/test_migrations.py"),
)


@pytest.fixture
def hostile(make_project: MakeProject, tmp_path: Path) -> Project:
    """A project in a shell with every variable that could lead its commands astray."""
    project = make_project(DEFAULTS)
    succeed(*project.uv_run("true"), cwd=project.folder, env=project.env)  # uv writes uv.lock.
    temporary = tmp_path / "with 'spaces'"
    temporary.mkdir()
    offline = {"UV_OFFLINE": "1", "TMPDIR": str(temporary)}
    return replace(project, env={**project.env, **ENVIRONMENT, **offline})


def test_dev_reaches_what_it_starts_whatever_the_shell_says(
    hostile: Project, tmp_path: Path
) -> None:
    with running_dev(hostile, tmp_path) as service:
        done = hostile.poe("--quiet", "token")
        assert done.returncode == 0, output(done)
        response = service.get("/api/v1/user/me", done.stdout.strip())
        assert response.status_code == 200, response.text
        assert json.loads(response.text)["username"] == "dev"
        assert "curl --noproxy '*' " in service.said()


def test_the_tests_pass_whatever_the_shell_says(hostile: Project) -> None:
    done = hostile.poe("test", "--quiet", "tests/api/v1", "tests/contract/test_errors.py")
    assert done.returncode == 0, output(done)


def work(project: Project) -> None:
    """Run what a developer runs, each command to a good end."""
    for command in COMMANDS:
        done = project.poe(*command)
        assert done.returncode == 0, (command, output(done))


@pytest.fixture
def moved(make_project: MakeProject) -> Callable[[Path], Project]:
    """Make a project in another folder."""

    def move(folder: Path) -> Project:
        project = make_project(DEFAULTS)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(project.folder, folder)
        # make_project ends what runs in the folder that it knows.
        project.folder.symlink_to(folder)
        return replace(project, folder=folder)

    return move


@pytest.mark.takes_minutes
@pytest.mark.parametrize("name", [FOLDER, f"{'long/' * 80}{'x' * 200}"], ids=["odd", "long"])
def test_every_command_works_below_an_odd_folder(
    moved: Callable[[Path], Project], tmp_path: Path, name: str
) -> None:
    project = moved(tmp_path / name / "service")
    work(project)
    with running_dev(project, tmp_path) as service:
        assert service.get("/livez").status_code == 200


def test_a_folder_that_postgresql_cannot_take_is_refused_with_a_sentence(
    moved: Callable[[Path], Project], tmp_path: Path
) -> None:
    project = moved(tmp_path / 'a "good" one' / "service")
    done = project.poe("migrate")
    # Root's data and programs are in other folders, and then it works.
    refused = "PostgreSQL cannot create its data where a path contains '\"'" in output(done)
    assert refused or done.returncode == 0, output(done)
    assert "Traceback" not in output(done)


@pytest.mark.takes_minutes
def test_every_command_works_where_git_writes_the_lines_of_windows(
    make_project: MakeProject,
) -> None:
    project = make_project(DEFAULTS)
    folder = project.folder
    succeed("git", "init", "--quiet", cwd=folder)
    commit(folder, "Start from the template")
    succeed("git", "config", "core.autocrlf", "true", cwd=folder)
    for path in folder.rglob("*.py"):
        path.unlink()
    succeed("git", "checkout", "--quiet", "--force", "HEAD", "--", ".", cwd=folder)
    router = folder / "app/api/v1/router.py"
    assert b"\r\n" in router.read_bytes()
    work(project)
    assert b"\r\n" in router.read_bytes()
    assert b"\n" not in router.read_bytes().replace(b"\r\n", b"")


@pytest.mark.takes_minutes
def test_plugins_that_teams_add_change_nothing(
    make_project: MakeProject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = make_project(DEFAULTS)
    project = project.with_own_environment(tmp_path_factory.mktemp("venv") / "venv")
    plugins = ("pytest-asyncio", "pytest-mock", "pytest-randomly", "pytest-timeout", "pytest-xdist")
    succeed(
        *project.uv_run("true")[:-2],
        "add",
        "--quiet",
        "--dev",
        *plugins,
        cwd=project.folder,
        env=project.env,
    )
    for options in ([], ["-p", "no:randomly"], ["-n", "2"]):
        done = project.poe("test", "--quiet", *options)
        assert done.returncode == 0, output(done)
    lay_over(project.folder)
    done = project.poe("test", "--quiet", "tests/service/tools/test_pytest_plugin.py")
    assert done.returncode == 0, output(done)
    assert "skipped" not in done.stdout
