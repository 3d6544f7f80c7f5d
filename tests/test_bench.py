"""`uv run poe bench` measures a team's own routes, and leaves nothing when it ends."""

import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.answers import DEFAULTS, Answers
from tests.processes import end_processes_of, processes_of, wait_until
from tests.projects import Project, output, succeed

SECONDS = 120
ROUTES = """

@router.get("/broken")
async def read_broken(_reader: UserReader) -> int:
    raise ArithmeticError


@router.get("/secret")
async def read_secret(_admin: Annotated[TokenData, Security(require_roles("admin"))]) -> int:
    return 1


@router.get("/stream")
async def read_stream(_reader: UserReader) -> StreamingResponse:
    return StreamingResponse(iter(["some", "text"]))


@router.get("/{user_id:uuid}/name/{other}")
async def read_two(_reader: UserReader, user_id: UUID, other: str) -> str:
    return other
"""
# A row for the route that shows one.
INSERT = """
import asyncio, os, asyncpg
async def main():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"].replace("+asyncpg", ""))
    await connection.execute(
        "INSERT INTO user_account (id, username, email) VALUES (uuidv7(), 'ada', 'ada@example.com')"
    )
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def project(make_project: Callable[[Answers], Project]) -> Project:
    project = make_project(DEFAULTS)
    router = project.folder / "app/api/v1/user/router.py"
    imports = (
        "from fastapi.responses import StreamingResponse\n"
        "from app.utils.sso.authorization import require_roles\n"
    )
    text = router.read_text("utf-8").replace("from fastapi import", f"{imports}from fastapi import")
    before, first, rest = text.partition('@router.get("/{user_id:uuid}")')
    router.write_text(f"{before.rstrip()}\n{ROUTES}\n\n{first}{rest}", "utf-8")
    run = (project.program("python"), "-m", "template_tools.postgres", "run", "--")
    succeed(
        *run, project.program("alembic"), "upgrade", "head", cwd=project.folder, env=project.env
    )
    succeed(*run, project.program("python"), "-c", INSERT, cwd=project.folder, env=project.env)
    return project


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """Return the cells of each line of the table, by its path."""
    assert done.returncode == 0, output(done)
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "| /" in line]
    return {line[0]: [cell for it in line[1:] if (cell := it.strip(" |"))] for line in lines}


def assert_nothing_is_left(project: Project) -> None:
    left = (project.folder, project.database_folder())
    wait_until(lambda: not processes_of(*left), SECONDS, lambda: processes_of(*left))


def test_each_route_is_a_line_of_the_table(project: Project) -> None:
    done = project.poe("--quiet", "bench", "/api/v1/user/?limit=1", "/api/v1/nothing")
    found = rows(done)
    measured = {path for path, cells in found.items() if len(cells) == 6}
    assert measured == {
        "/livez",
        "/api/v1/user/me",
        "/api/v1/user/",
        "/api/v1/user/stream",
        "/api/v1/user/{user_id}",
        "/api/v1/user/?limit=1",
    }
    assert found["/livez"][0] == "1.0"
    assert float(found["/api/v1/user/me"][0]) > 1
    assert {path: cells for path, cells in found.items() if path not in measured} == {
        "/api/v1/user/broken": ["not measured: 500"],
        "/api/v1/user/secret": ["not measured: 403"],
        "/api/v1/user/{user_id}/name/{other}": [
            "not measured: no id from /api/v1/user/; name a path with one"
        ],
        "/api/v1/nothing": ["not measured: 404"],
    }
    assert_nothing_is_left(project)


def test_the_token_gets_the_roles_that_are_named(project: Project) -> None:
    settings = {**project.env, "SSO_ROLES_CLAIM": "realm_access.roles"}
    found = rows(replace(project, env=settings).poe("--quiet", "bench", "--role", "admin"))
    assert len(found["/api/v1/user/secret"]) == 6


@pytest.mark.parametrize(
    ("words", "settings", "sentence"),
    [
        (["api/v1/user/"], {}, "api/v1/user/ is not a path: write it as /api/v1/order/"),
        ([], {"ENVIRONMENT": "production"}, "ENVIRONMENT is production"),
        ([], {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/unset"}, "The migrations failed"),
    ],
)
def test_what_is_in_the_way_is_a_sentence(
    project: Project, words: list[str], settings: dict[str, str], sentence: str
) -> None:
    other = Project(project.folder, {**project.env, **settings})
    done = other.poe("--quiet", "bench", *words)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in output(done)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_is_stopped(project: Project, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [project.program("python"), "-m", "template_tools.bench"],
        cwd=project.folder,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    left = (project.folder, project.database_folder())
    try:
        is_serving = re.compile(r"multiprocessing.spawn import spawn_main").search
        wait_until(
            lambda: any(map(is_serving, processes_of(*left).values())),
            SECONDS,
            lambda: processes_of(*left),
        )
        process.send_signal(number)
        said, _ = process.communicate(timeout=SECONDS)
        assert "Traceback" not in said
        assert_nothing_is_left(project)
    finally:
        process.kill()
        end_processes_of(*left)
