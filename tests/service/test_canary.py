"""Secrets are in no answer, no line of the log and no span, whatever goes wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import URL

from app.settings import Settings
from template_tools.configuration import PROJECT_ROOT
from template_tools.processes import accepts_connections, free_port, wait_until
from template_tools.provider import RunningProvider as Provider
from tests.service.collector import Collector, collecting
from tests.service.provider import Faults, RunningProvider

CANARY = "canary-7f3e91c2-0000000000"
# Bugs of a service: their tracebacks are logged, with what the exceptions say of themselves.
PROGRAM = """\
import logging
import app.server, app.main
from fastapi import Request
from sqlalchemy import text
from app.database.session import DbSession
from app.utils.sso.introspection import CurrentToken

@app.main.app.get("/bug", openapi_extra=app.core.openapi.PUBLIC)
async def bug(request: Request, session: DbSession, name: str) -> None:
    settings = request.app.state.settings
    logging.getLogger("app.example").error("%r %r %s", settings, request.app.state.introspector,
        settings.database_url)
    await session.scalar(text("SELECT no_such_function(:name)"), {"name": name})

@app.main.app.post("/wrong")
async def wrong(token: CurrentToken, session: DbSession) -> int:
    logging.getLogger("app.example").error("%s %r", token.client_id, session)
    return "no number"

app.server.main()
"""


@contextmanager
def serving(folder: Path, **variables: str) -> Iterator[tuple[httpx2.Client, Path]]:
    log, port = folder / "log", free_port()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "--port", str(port)],
            cwd=PROJECT_ROOT,
            env=os.environ | {"LOG_LEVEL": "debug", "LOG_FORMAT": "json"} | variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: accepts_connections(port), process, "The service")
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client, log
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def variables(settings: Settings, database_url: URL) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url.set(password=CANARY).render_as_string(hide_password=False),
        "SSO_ISSUER": settings.sso_issuer,
        "SSO_AUDIENCE": settings.sso_audience,
        "CLIENT_ID": settings.client_id,
        "SSO_MODE": "introspect",
    }


def everything(client: httpx2.Client, provider: Provider) -> Iterator[httpx2.Response]:
    """Call routes in all the ways that a secret could come back from."""
    good = provider.mint(scope="user:read user:write")
    headers = {"Authorization": f"Bearer {good}"}
    for bearer in (good, f"{good}x", f"{CANARY}.{CANARY}.{CANARY}", CANARY):
        yield client.get("/api/v1/user/me", headers={"Authorization": f"Bearer {bearer}"})
    yield client.get("/api/v1/user/me", headers={"Authorization": f"Basic {CANARY}"})
    yield client.get(f"/api/v1/user/me?access_token={CANARY}", headers={"Cookie": CANARY})
    yield client.get(f"/nowhere/{CANARY}?token={CANARY}")
    yield client.get(f"/bug?name={CANARY}")
    yield client.post("/wrong", headers=headers)
    user = {"username": "ana", "email": "ana@example.com", "password": CANARY}
    for body in (user, user, {"password": [CANARY]}, {"username": {"password": CANARY}}, CANARY):
        yield client.post("/api/v1/user/", json=body, headers=headers)
    yield client.post("/api/v1/user/", content=b"{" + CANARY.encode(), headers=headers)


def assert_silent(log: Path, secrets: list[str]) -> None:
    lines = log.read_text("utf-8").splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert not [line for line in lines if any(secret in line for secret in secrets)]


def test_no_secret_is_answered_or_logged(
    tmp_path: Path, variables: dict[str, str], provider: RunningProvider, collector: Collector
) -> None:
    secret = provider.config.client_secret
    variables |= {
        "CLIENT_SECRET": secret,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        # It should be key=value.
        "OTEL_EXPORTER_OTLP_HEADERS": f"key: {CANARY}",
    }
    with serving(tmp_path, **variables) as (client, log):
        for faults in (Faults(), Faults(status=500), Faults(body="html"), Faults(status=401)):
            provider.faults = faults
            for response in everything(client, provider):
                assert CANARY not in response.text
                assert secret not in response.text
        good = provider.mint()
        provider.faults = Faults()
        client.get("/api/v1/user/me", headers={"Authorization": f"Bearer {good}"})
    assert_silent(log, [CANARY, good, secret])
    levels = {json.loads(line)["level"] for line in log.read_text("utf-8").splitlines()}
    assert levels >= {"debug", "info", "warning", "error"}
    assert len(collector.spans) > 20
    assert "http.server.request.duration" in collector.metrics
    for secret_ in (CANARY, good, secret, "access_token"):
        assert not [it for it in collector.bodies if secret_.encode() in it]


def test_nor_with_a_database_that_refuses_it(
    tmp_path: Path, variables: dict[str, str], provider: RunningProvider
) -> None:
    url = f"postgresql://app:{CANARY}@127.0.0.1:{free_port()}/app"
    others = variables | {"DATABASE_URL": url, "CLIENT_SECRET": CANARY}
    with serving(tmp_path, **others) as (client, log):
        for response in everything(client, provider):
            assert CANARY not in response.text
        assert client.get("/health").status_code == 503
    assert_silent(log, [CANARY])


def test_nor_by_a_service_that_does_not_start(tmp_path: Path, variables: dict[str, str]) -> None:
    wrong = variables | {
        "CLIENT_SECRET": CANARY,
        "DATABASE_URL": f"mysql://app:{CANARY}@127.0.0.1/app",
        "TOKEN_CACHE_SECRET": CANARY[:6],
        "SSO_ISSUER": f"ftp://user:{CANARY}@127.0.0.1",
        "SERVER_MAX_HEADERS": CANARY,
        "LOG_LEVEL": CANARY,
    }
    run = subprocess.run(
        [sys.executable, "-m", "app.server"],
        cwd=PROJECT_ROOT,
        env=os.environ | wrong,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert CANARY not in run.stdout + run.stderr
    assert "Traceback" not in run.stderr
