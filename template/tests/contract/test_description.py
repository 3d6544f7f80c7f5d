"""The API does what its description says, whatever is sent to it.

Schemathesis generates valid and invalid requests from the description, sends them to the service
over HTTP, and compares the responses with the description. ``uv sync --group hostile`` installs
it, as CI does. For more than the few requests of each run:

HOSTILE_EXAMPLES=1000 HOSTILE_SEED=7 uv run poe test tests/contract
"""

import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import anyio
import pytest
import uvicorn
from fastapi import FastAPI

from app.database.session import Database
from app.utils.sso.resource_server.introspector import Introspector
from template_tools.configuration import PROJECT_ROOT
from template_tools.processes import HOST
from template_tools.pytest_plugin import Bearer
from tests.contract.routes import all_scopes

pytestmark = [
    pytest.mark.committed,
    pytest.mark.skipif(
        find_spec("schemathesis") is None,
        reason="schemathesis is not installed: uv sync --group hostile",
    ),
]

# Per operation.
EXAMPLES = os.environ.get("HOSTILE_EXAMPLES", "10")
SEED = os.environ.get("HOSTILE_SEED", "1")
MEND = """\
Correct the route where the response is wrong, and its `responses` or types where the description
is. tests/api/schemathesis.toml can leave out a check of an operation."""
# The team's. A project that was created before this file existed is only tested for 500s.
CONFIGURATION = PROJECT_ROOT / "tests" / "api" / "schemathesis.toml"


class _Server(uvicorn.Server):
    """A server beside the tests, which leaves Ctrl-C to them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
async def url(
    application: FastAPI, database: Database, introspector: Introspector
) -> AsyncIterator[str]:
    """Where the application is served, in the event loop of the tests."""
    # Told that this is TCP, asyncio sends without delay; else each answer takes 40 ms.
    listening = socket.socket(proto=socket.IPPROTO_TCP)
    listening.bind((HOST, 0))
    server = _Server(uvicorn.Config(application, lifespan="off", log_config=None, access_log=False))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listening])
        yield f"http://{HOST}:{listening.getsockname()[1]}"
        server.should_exit = True


async def test_the_service_does_what_its_description_says(
    application: FastAPI, url: str, bearer: Bearer, tmp_path: Path
) -> None:
    document = application.openapi()
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(document), "utf-8")
    authorization = bearer(scope=all_scopes(application))["Authorization"]
    command = [sys.executable, "-m", "schemathesis.cli"]
    if CONFIGURATION.exists():
        command += [f"--config-file={CONFIGURATION}", "run", "--checks=all"]
    else:
        command += [
            "run",
            "--checks=not_a_server_error",
            f"--header=Authorization: {authorization}",
        ]
    command += [
        str(description),
        f"--url={url}",
        f"--max-examples={EXAMPLES}",
        f"--seed={SEED}",
        "--generation-database=none",
        "--no-color",
    ]
    environment = os.environ | {
        "PYTHONPATH": str(PROJECT_ROOT),
        "SCHEMATHESIS_HOOKS": "tests.contract.schemathesis_hooks",
        "SCHEMATHESIS_TOKEN": authorization.removeprefix("Bearer "),
    }

    run = await anyio.run_process(command, cwd=tmp_path, check=False, env=environment)

    report = run.stdout.decode() + run.stderr.decode()
    sys.stdout.write(report)
    assert run.returncode == 0, f"{report}\n{MEND}"
