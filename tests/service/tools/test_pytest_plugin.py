"""What the plugin adds to pytest itself; its fixtures are tried by every other test."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from itertools import permutations

import pytest
from pydantic import BaseModel

from app.core.settings import MigrationSettings, ServerSettings
from app.settings import Settings
from template_tools import pytest_plugin
from template_tools.configuration import PROJECT_ROOT

FIXTURES = sorted(
    name
    for name, it in vars(pytest_plugin).items()
    if type(it).__name__ == "FixtureFunctionDefinition"
)
FIELDS = (
    *Settings.model_fields,
    *MigrationSettings.model_fields,
    *ServerSettings.model_fields,
)
# What a team may write, and what each should end in.
WRONG = """
import asyncio


def test_forgotten_in_a_synchronous_test(client):
    assert client.get("/livez").status_code == 200


def test_forgotten_in_a_comparison(client):
    assert client.get("/livez") == 200


async def test_forgotten(client):
    response = client.get("/livez")
    assert response.status_code == 200


async def test_left_by_exit():
    raise SystemExit("leaving")


async def test_cancelled():
    task = asyncio.create_task(asyncio.sleep(9))
    task.cancel()
    await task
"""
RIGHT = """
import asyncio
import unittest

import pytest
from fastapi.testclient import TestClient


async def test_right(client):
    assert (await client.get("/livez")).status_code == 200


def test_own_event_loop(database):
    asyncio.run(asyncio.sleep(0))


def test_found_later(request):
    assert request.getfixturevalue("client")


def test_a_client_in_another_event_loop_is_told_so(application):
    with pytest.raises(RuntimeError, match="needs an application of its own"):
        TestClient(application).get("/livez")


def test_a_client_with_an_application_of_its_own(settings):
    from app.main import create_app

    with TestClient(create_app(settings)) as client:
        assert client.get("/health").status_code == 200


class TestOfUnittest(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def take(self, client):
        self.client = client

    def test_it(self):
        assert self.client


class TestWithAFixtureOfItsOwn:
    @pytest.fixture
    async def own(self, session):
        self.stored = session
        return session

    def test_synchronous(self, own):
        assert own is self.stored

    async def test_asynchronous(self, own):
        assert own is self.stored
"""

type Run = Callable[..., dict[str, str]]


class TestimonialRead(BaseModel):
    """No test, in spite of its name."""

    text: str


def test_a_body_or_a_table_that_is_called_like_a_test_is_none(
    request: pytest.FixtureRequest,
) -> None:
    """Pytest would warn that it has a constructor, and here a warning is an error."""
    assert isinstance(request.node.parent, pytest.Module)
    collected = {item.name for item in request.node.parent.collect()}
    assert request.node.name in collected
    assert TestimonialRead.__name__ not in collected


@pytest.fixture
def run() -> Iterator[Run]:
    """Run the tests of a file in another process, and return how each ended.

    Its environment sets every setting of the service, and wrongly.
    """
    folder = PROJECT_ROOT / ".dev" / f"of-a-team-{os.getpid()}"
    folder.mkdir(parents=True)

    def run_file(text: str, *options: str) -> dict[str, str]:
        file = folder / "test_of_a_team.py"
        file.write_text(text, "utf-8")
        command = [sys.executable, "-m", "pytest", "--quiet", "-rA", "--tb=short", "--color=no"]
        command += ["-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, *options, str(file)],
            cwd=PROJECT_ROOT,
            env=os.environ | dict.fromkeys(map(str.upper, FIELDS), "nonsense"),
            capture_output=True,
            text=True,
            check=False,
        )
        words = [line.split(" ") for line in done.stdout.splitlines() if "::" in line]
        ended = {
            line[1].rpartition("::")[2]: line[0]
            for line in words
            if line[0] in {"PASSED", "FAILED", "ERROR"}
        }
        assert ended, done.stdout + done.stderr
        return ended

    yield run_file
    shutil.rmtree(folder)


@pytest.mark.parametrize("synchronous_first", [True, False])
def test_every_fixture_can_be_taken_by_every_kind_of_test_first_and_last(
    run: Run, *, synchronous_first: bool
) -> None:
    kinds = ["def", "async def"] if synchronous_first else ["async def", "def"]
    names = FIXTURES if synchronous_first else FIXTURES[::-1]
    tests = [
        f"{kind} test_{kind[:5].strip()}_{name}({name}):\n    assert {name} is not None\n"
        for kind in kinds
        for name in names
    ]
    ended = run("\n\n".join(tests))
    assert len(ended) == 2 * len(FIXTURES)
    assert set(ended.values()) == {"PASSED"}, ended


def test_a_test_that_fails_fails_alone_wherever_it_stands(run: Run) -> None:
    for parts in permutations([WRONG, RIGHT]):
        ended = run("\n\n".join(parts))
        right = {name: end for name, end in ended.items() if f"def {name}(" in RIGHT}
        assert len(right) == 8
        assert set(right.values()) == {"PASSED"}, ended
        assert {end for name, end in ended.items() if name not in right} == {"FAILED"}, ended


@pytest.mark.skipif(find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_beside_pytest_asyncio_there_is_one_event_loop(run: Run, mode: str) -> None:
    text = """
import asyncio

import pytest
import pytest_asyncio


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def loop(databases):
    return asyncio.get_running_loop()


@pytest.mark.asyncio
async def test_marked(client, loop):
    assert (await client.get("/livez")).status_code == 200
    assert asyncio.get_running_loop() is loop


@pytest.mark.asyncio(loop_scope="module")
async def test_scoped(client, loop):
    assert asyncio.get_running_loop() is loop


async def test_unmarked(client, loop):
    assert asyncio.get_running_loop() is loop


def test_synchronous(client, loop):
    assert not loop.is_closed()
"""
    assert set(run(text, f"--asyncio-mode={mode}").values()) == {"PASSED"}


class TestSettings:
    """An editor loads .env into the environment of the tests, and a shell has settings too."""

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return what is left in the environment of tests whose service has settings of its own."""
        code = """
import json, os
from typing import Annotated
from pydantic import BaseModel, Field
import app.settings

class Billing(BaseModel):
    url: str = "http://billing"

class Settings(app.settings.Settings, env_nested_delimiter="__"):
    greeting: str = "hello"
    renamed: str = Field("x", validation_alias="THE_NAME")
    numbers: list[int] = []
    billing: Billing = Billing()

app.settings.Settings = Settings
import template_tools.pytest_plugin
print(json.dumps(dict(os.environ)))
"""
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=PROJECT_ROOT,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        left: dict[str, str] = json.loads(done.stdout)
        return left

    def test_tests_see_none_that_they_did_not_set(self) -> None:
        own = ("GREETING", "THE_NAME", "NUMBERS", "BILLING__URL", "BILLING")
        names = [*(name.upper() for name in FIELDS), *own, "sso_jwks_url", "Cors_Origins"]
        left = self.environment(dict.fromkeys(names, "nonsense"))
        assert {name: left[name] for name in names if name in left} == pytest_plugin._UNSET

    def test_what_is_no_setting_stays(self) -> None:
        assert self.environment({"A_VARIABLE": "stays"})["A_VARIABLE"] == "stays"
