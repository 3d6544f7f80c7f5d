"""The contract fails where a route breaks it, and its message names the route."""

import ast
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import Column, Integer, UniqueConstraint
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from app.core.errors import BadRequest, NotFound, Problem
from app.database.session import Database
from app.main import create_app
from app.settings import Settings
from app.utils.sso.introspection import CurrentToken
from template_tools.databases import TestDatabases
from template_tools.provider import RunningProvider
from template_tools.pytest_plugin import Bearer
from tests.contract import test_access, test_errors, test_migrations, test_probes
from tests.contract.routes import operations
from tests.service.contract.services import Key, Writer, add_forgotten_routes

pytestmark = pytest.mark.usefixtures("client")


@pytest.fixture
def app(application: FastAPI, settings: Settings) -> FastAPI:
    """An application that a test may add routes to."""
    app = create_app(settings)
    app.state = application.state
    return app


async def message(failing: Callable[[], Awaitable[None]]) -> str:
    """Return what a test says that must fail."""
    with pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        await failing()
    return str(caught.value)


def asserts_of(module: Path) -> list[ast.Assert]:
    """Return the assertions of a module."""
    tree = ast.parse(module.read_text("utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize(
    "module", sorted(Path(test_access.__file__).parent.glob("test_*.py")), ids=lambda it: it.stem
)
async def test_each_assertion_says_what_to_do(module: Path) -> None:
    """A list of what is wrong is no help to a team whom an update has brought the test."""
    asserts = asserts_of(module)
    assert [ast.unparse(node) for node in asserts if node.msg is None] == []
    constants = vars(import_module(f"tests.contract.{module.stem}"))
    for node in asserts:
        parts = [] if node.msg is None else list(ast.walk(node.msg))
        names = [str(constants.get(part.id, "")) for part in parts if isinstance(part, ast.Name)]
        told = " ".join([*names, *(ast.unparse(part) for part in parts)])
        mend = r"\b(Add|[Ll]et|Look|Make|[Rr]ename|Correct|[Jj]oin)\b"
        assert re.search(mend, told), ast.unparse(node)


async def test_each_forgotten_route_is_named_with_what_to_do(app: FastAPI) -> None:
    forgotten = add_forgotten_routes(app)
    assert sorted(str(it) for it in operations(app) if not it.is_marked) == sorted(forgotten)
    said = await message(
        lambda: test_access.test_every_route_asks_for_a_token_or_says_that_it_is_public(app)
    )
    assert all(f"  {route}\n" in said for route in forgotten)
    assert "openapi_extra=PUBLIC" in said


def answer_early(app: FastAPI, problem: type[Problem]) -> None:
    """Have a middleware refuse whoever calls /early."""

    @app.middleware("http")
    async def refuse(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        is_early = request.url.path == "/early"
        return problem().response() if is_early else await call_next(request)


async def test_what_is_refused_before_the_token_is_named(app: FastAPI, bearer: Bearer) -> None:
    answer_early(app, BadRequest)

    @app.get("/early")
    async def early(_writer: Writer) -> None: ...

    failing: list[Callable[[], Awaitable[None]]] = [
        lambda: test_access.test_a_caller_without_a_good_token_is_told_to_get_one(app, {}, "plain"),
        lambda: test_access.test_a_caller_without_the_scope_is_refused(app, bearer),
    ]
    for test in failing:
        assert "GET /early: 400 instead of 40" in await message(test)


async def test_an_outage_that_is_blamed_on_the_caller_is_named(
    app: FastAPI, bearer: Bearer, provider: RunningProvider
) -> None:
    answer_early(app, NotFound)

    @app.get("/early")
    async def early(_token: CurrentToken) -> None: ...

    said = await message(
        lambda: test_access.test_an_outage_of_the_provider_is_never_blamed_on_the_caller(
            app, bearer, provider
        )
    )
    assert "GET /early: 404 instead of 503" in said


async def test_another_scheme_that_lets_everybody_in_is_named(app: FastAPI) -> None:
    key: list[object] = []

    @app.post("/hook")
    async def hook(key: Key = "") -> None: ...

    app.dependency_overrides[Key.__metadata__[0].dependency] = lambda: key  # type: ignore[attr-defined]
    said = await message(
        lambda: test_access.test_nothing_is_done_for_a_caller_without_credentials(app)
    )
    assert "POST /hook: 200 instead of 401" in said


async def test_a_bug_that_a_probe_finds_is_named(
    app: FastAPI, bearer: Bearer, session: AsyncSession
) -> None:
    @app.get("/divide/{number}")
    async def divide(number: str, _token: CurrentToken) -> float:
        return 1 / int(number) if number.isdecimal() else 0

    said = await message(
        lambda: test_probes.test_no_probe_of_any_route_is_a_500(app, bearer, session)
    )
    assert "GET /divide/0 (key 0)" in said


async def committing(connection: HTTPConnection) -> AsyncGenerator[AsyncSession]:
    """Commit what a request has done, even if it fails."""
    async with connection.app.state.database.sessionmaker() as session:
        try:
            yield session
        finally:
            await session.commit()


@pytest.mark.committed
async def test_a_request_that_fails_and_is_committed_is_found(
    application: FastAPI, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_errors, "DbSession", Annotated[AsyncSession, Depends(committing)])
    said = await message(
        lambda: test_errors.test_a_request_is_carried_out_as_a_whole_or_not_at_all(
            application, database, settings, NotFound(), 404
        )
    )
    assert "assert 1 == 0" in said


async def test_a_model_without_a_migration_is_found(databases: TestDatabases) -> None:
    url = await databases.create()
    table = SQLModel.metadata.tables[next(iter(SQLModel.metadata.tables))]
    table.append_column(Column("contract_drift", Integer))
    try:
        said = await message(lambda: test_migrations.assert_no_drift(url))
    finally:
        table._columns.remove(table.c.contract_drift)
    assert 'uv run poe revision -m "what changed"' in said
    assert "contract_drift" in said
    await databases.drop(url)


async def test_a_constraint_of_another_name_is_found(session: AsyncSession) -> None:
    table = SQLModel.metadata.tables[next(iter(SQLModel.metadata.tables))]
    constraint = UniqueConstraint("version")
    table.append_constraint(constraint)
    try:
        said = await message(
            lambda: test_migrations.test_constraints_and_indexes_are_called_as_the_models_call_them(
                session
            )
        )
    finally:
        table.constraints.discard(constraint)
    assert f"there is no uq_{table.name}_version" in said
