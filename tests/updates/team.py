"""Nordwind, a team that has lived with a project for three years.

Everything that such a team does to a project is done here once, by a script, at the places that
the template has promised: it must work on a project of any release. What it has written is read
from the project's own git history, line by line, so that nothing can be forgotten in a list.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.projects import commit, succeed, uv

PACKAGES = (
    "structlog>=26",
    "tenacity>=9",
    "humanize>=4",
    "more-itertools>=11",
    "isodate>=0.7",
    "python-slugify>=9",
)
DEV_PACKAGES = ("dirty-equals>=0.11",)
# What Nordwind does not need: it builds its images elsewhere, and has a gateway for headers.
DELETED = (
    ".devcontainer/devcontainer.json",
    ".dockerignore",
    ".pre-commit-config.yaml",
    "tests/core/test_middleware.py",  # Until 0.6.0.
    "tests/contract/test_description.py",
)
RENAMED = {
    "tests/test_main.py": "tests/test_application.py",  # Until 0.6.0.
    "tests/contract/test_migrations.py": "tests/test_schema.py",
}
# What Nordwind has edited and 0.7.0 has moved: a conflict must show it.
MOVED = "app/utils/sso/discovery.py"
# What Nordwind has edited and 0.7.0 has taken out of projects: the changelog's command shows it.
GONE = ("devtools/dev.py", "tests/core/test_errors.py")
# What only the machine of a developer knows; git ignores it.
DOTENV = "CLIENT_SECRET='Nordwind only'\nMAX_BODY_SIZE=2000000\n"


@dataclass(frozen=True)
class Resource:
    """A resource of Nordwind's: a table, its routes, their tests and the migration."""

    name: str
    unique: str
    optional: str
    parent: str | None = None


RESOURCES = (
    Resource("customer", "code", "remark"),
    Resource("product", "sku", "colour"),
    Resource("purchase", "number", "note", parent="customer"),
    Resource("shipment", "waybill", "carrier", parent="purchase"),
    Resource("invoice", "number", "reminder", parent="purchase"),
)


def live(folder: Path, env: Mapping[str, str], lock: Path | None = None) -> None:
    """Live three years in the project that was just rendered into ``folder`` and committed.

    ``lock`` is the ``uv.lock`` of such a project, which saves uv from resolving the same again.
    """
    _add_packages(folder, env, lock)
    _add_resources(folder)
    _add_code(folder)
    _extend_configuration(folder)
    _extend_delivery(folder)
    _rewrite_readme(folder)
    _change_what_the_template_owns(folder)
    _change_what_moves_or_goes(folder)
    for path in DELETED:
        (folder / path).unlink(missing_ok=True)
    for path, new in RENAMED.items():
        if (folder / path).exists():
            (folder / path).rename(folder / new)
    with (folder / ".env").open("a", encoding="utf-8") as file:
        file.write(DOTENV)
    commit(folder, "Three years of Nordwind")


def _add_packages(folder: Path, env: Mapping[str, str], lock: Path | None) -> None:
    how = "--no-sync"
    if lock is not None:
        shutil.copy(lock, folder / "uv.lock")
        how = "--frozen"
    succeed(*uv(), "add", "--quiet", how, *PACKAGES, cwd=folder, env=env)
    succeed(*uv(), "add", "--quiet", how, "--dev", *DEV_PACKAGES, cwd=folder, env=env)


def _add_resources(folder: Path) -> None:
    router = folder / "app" / "api" / "v1" / "router.py"
    names = [resource.name for resource in RESOURCES]
    imports = "".join(
        f"from app.api.v1.{name}.router import router as {name}\n" for name in sorted(names)
    )
    before = "from app.api.v1.user.router import router as user\n"
    _replace(router, before, imports + before)
    with router.open("a", encoding="utf-8") as file:
        file.writelines(
            f'router.include_router({name}, prefix="/{name}", tags=["nordwind"])\n'
            for name in names
        )
    for number, resource in enumerate(RESOURCES, start=2):
        _add_resource(folder, resource, number)


def _add_resource(folder: Path, resource: Resource, number: int) -> None:
    words = {
        "name": resource.name,
        "type": resource.name.capitalize(),
        "unique": resource.unique,
        "optional": resource.optional,
        "parent": resource.parent or "",
        "parent_type": (resource.parent or "").capitalize(),
        "grandparent": next((r.parent or "" for r in RESOURCES if r.name == resource.parent), ""),
        "revision": f"nordwind{number}",
        "previous": "0001" if number == 2 else f"nordwind{number - 1}",
    }
    text = {path: Template(_keep(code, resource)).substitute(words) for path, code in FILES.items()}
    for path, code in text.items():
        _write(folder / Template(path).substitute(words), code)


def _keep(code: str, resource: Resource) -> str:
    """Leave out the lines marked with + or with -: for resources with a parent, or without."""
    other = "  #-" if resource.parent else "  #+"
    lines = [line for line in code.splitlines() if not line.endswith(other)]
    return "".join(re.sub(r"  #[+-]$", "", line) + "\n" for line in lines)


def _add_code(folder: Path) -> None:
    for path, code in (CODE | EDITOR).items():
        _write(folder / path, code)
    settings = folder / "app" / "settings.py"
    # The first line of its docstring is another one in each of the first releases.
    text = settings.read_text("utf-8")
    head, fields = re.split(r'(?<=class Settings\(CoreSettings\):\n)    """.+"""\n', text)
    settings.write_text(
        f'{head}    """Everything that the environment decides about Nordwind."""\n\n'
        '    nordwind_region: str = Field(default="eu", description="where Nordwind stores")\n'
        f"    nordwind_page_size: int = Field(default=50, ge=1, le=500)\n{fields}",
        "utf-8",
    )
    # From 0.4.0 to 0.6.0 the seed has such a field itself.
    if "from pydantic import Field\n" not in settings.read_text("utf-8"):
        _replace(
            settings,
            "\n\nfrom app.core.settings import ",
            "\nfrom pydantic import Field\n\nfrom app.core.settings import ",
        )


def _extend_configuration(folder: Path) -> None:
    pyproject = folder / "pyproject.toml"
    _replace(
        pyproject,
        "[tool.poe.tasks]\n",
        '[tool.poe.tasks]\nnordwind-report = "python -m scripts.nordwind_report"\n'
        'nordwind-seed = "python -m scripts.nordwind_seed"\n',
    )
    _append(pyproject, MYPY)
    rules = folder / "ruff.toml"
    head, select, ignore, per_file = rules.read_text("utf-8").split("# Yours:\n")
    select = '# Yours:\n    "ICN",   # Nordwind: import conventions\n' + select
    ignore = '# Yours:\n    "ICN003", # Nordwind: members may be imported\n' + ignore
    per_file = '# Yours:\n"app/nordwind/**" = ["E501"]\n' + per_file
    rules.write_text(head + select + ignore + per_file, "utf-8")
    _append(folder / ".gitignore", "nordwind-exports/\n*.nordwind.csv\n")
    _append(folder / ".env.example", "NORDWIND_REGION=eu\n# NORDWIND_PAGE_SIZE=50\n")


def _extend_delivery(folder: Path) -> None:
    if (folder / "compose.yaml").exists():
        _replace(folder / "compose.yaml", "  # --- yours ---\n", f"  # --- yours ---\n{COMPOSE}")
    dockerfile = folder / "Dockerfile"
    _replace(dockerfile, "# --- yours ---\n", f"# --- yours ---\n{APT}")
    _replace(
        dockerfile,
        '"--timeout-graceful-shutdown", ',
        '"--workers", "2", "--timeout-graceful-shutdown", ',
    )
    github = folder / ".github" / "workflows" / "ci.yml"
    if github.exists():
        last = "      - run: uv run poe test --cov\n"
        _replace(github, last, f"{last}{GITHUB_STEP}")
        _replace(github, "  # --- yours ---\n", f"  # --- yours ---\n{GITHUB_JOB}")
    gitlab = folder / ".gitlab-ci.yml"
    if gitlab.exists():
        _append(gitlab, GITLAB_JOB)


def _rewrite_readme(folder: Path) -> None:
    (folder / "README.md").write_text(README, "utf-8")


def _change_what_the_template_owns(folder: Path) -> None:
    _replace(
        folder / "app" / "core" / "settings.py",
        "database_pool_size: int = Field(default=10,",
        "database_pool_size: int = Field(default=20,",
    )
    _replace(
        folder / "app" / "health.py",
        ' (%s)", type(error).__name__)\n',
        ' (%s)", type(error).__name__)\n'
        '        logger.warning("Nordwind: call the database team")\n',
    )


def _change_what_moves_or_goes(folder: Path) -> None:
    if (folder / MOVED).exists():
        _replace(folder / MOVED, "_FRESH_SECONDS = 3600\n", "_FRESH_SECONDS = 7200\n")
    for path in GONE:
        if (folder / path).exists():
            _append(folder / path, "\n# Nordwind has been here.\n")
    imports = [line for path, line in OLD_PLACES.items() if (folder / path).exists()]
    if imports:
        text = '"""Nordwind imports what it has always imported."""\n\n'
        names = [line.rpartition(" ")[2] for line in imports]
        body = (
            "\n\ndef test_what_nordwind_imports_is_there() -> None:\n"
            f"    found = [{', '.join(names)}]\n"
            "    assert len(set(map(str, found))) == len(found)\n"
        )
        _write(folder / "tests/nordwind/test_imports.py", text + "\n".join(imports) + "\n" + body)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if "app" in path.parts or "tests" in path.parts or "scripts" in path.parts:
        (path.parent / "__init__.py").touch()
    path.write_text(text, "utf-8")


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _replace(path: Path, before: str, after: str) -> None:
    """Change the one place that reads ``before``, on which a team has relied."""
    text = path.read_text("utf-8")
    assert text.count(before) == 1, f"{path} has {text.count(before)} of {before!r}"
    path.write_text(text.replace(before, after), "utf-8")


MODEL = '''\
"""Nordwind's ${name}s."""

from uuid import UUID  #+
  #+
from sqlmodel import Field

from app.database.base import TableBase


class ${type}(TableBase, table=True):
    """A ${name} of Nordwind's."""

    ${unique}: str = Field(max_length=255, unique=True)
    ${optional}: str | None = Field(default=None, max_length=255)
    ${parent}_id: UUID = Field(foreign_key="${parent}.id", index=True)  #+
'''

SCHEMA = '''\
"""The bodies of the ${name} resource of Nordwind's."""

from uuid import UUID

from app.core.schema import RequestSchema, ResponseSchema, ShortText


class ${type}Create(RequestSchema):
    """A ${name} to be."""

    ${unique}: ShortText
    ${optional}: ShortText | None = None
    ${parent}_id: UUID  #+


class ${type}Read(ResponseSchema):
    """A ${name} as Nordwind knows it."""

    id: UUID
    ${unique}: str
    ${optional}: str | None
    ${parent}_id: UUID  #+
'''

SERVICE = '''\
"""What Nordwind does with ${name}s."""

from collections.abc import Sequence

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.api.v1.${name}.schema import ${type}Create
from app.database.model.${name} import ${type}


async def create_${name}(session: AsyncSession, data: ${type}Create) -> ${type}:
    """Store a ${name}."""
    ${name} = ${type}(**data.model_dump())
    session.add(${name})
    await session.flush()
    return ${name}


async def list_${name}s(session: AsyncSession, limit: int) -> Sequence[${type}]:
    """Return the first ${name}s, by their ${unique}."""
    statement = select(${type}).order_by(col(${type}.${unique})).limit(limit)
    return (await session.exec(statement)).all()
'''

ROUTER = '''\
"""The routes of the ${name} resource of Nordwind's."""

from fastapi import APIRouter, status

from app.api.v1.${name} import service
from app.api.v1.${name}.schema import ${type}Create, ${type}Read
from app.database.session import DbSession
from app.settings import CurrentSettings
from app.utils.access import CurrentAdmin
from app.utils.sso.introspection import CurrentToken

router = APIRouter()


@router.get("/")
async def list_${name}s(
    _token: CurrentToken, session: DbSession, settings: CurrentSettings
) -> list[${type}Read]:
    """List Nordwind's ${name}s, a page of them."""
    found = await service.list_${name}s(session, settings.nordwind_page_size)
    return [${type}Read.model_validate(${name}) for ${name} in found]


@router.post("/", status_code=status.HTTP_201_CREATED)
async def create_${name}(
    data: ${type}Create, _admin: CurrentAdmin, session: DbSession
) -> ${type}Read:
    """Create a ${name}; for Nordwind's administrators."""
    return ${type}Read.model_validate(await service.create_${name}(session, data))
'''

TEST = '''\
"""Nordwind's ${name}s, as callers see them."""

from collections.abc import Callable
from uuid import uuid4  #+

import httpx2
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession  #+

from app.database.model.${parent} import ${parent_type}  #+
from tests.nordwind import make_${parent}  #+
  #+
type Bearer = Callable[..., dict[str, str]]


@pytest.fixture
async def body(session: AsyncSession) -> dict[str, object]:  #+
    """What a caller sends."""  #+
    ${parent}: ${parent_type} = await make_${parent}(session)  #+
    return {"${unique}": "N-1", "${optional}": "northern", "${parent}_id": str(${parent}.id)}  #+
def body() -> dict[str, object]:  #-
    """What a caller sends."""  #-
    return {"${unique}": "N-1", "${optional}": "northern"}  #-


async def test_an_administrator_creates_a_${name}_that_is_then_listed(
    client: httpx2.AsyncClient, bearer: Bearer, body: dict[str, object]
) -> None:
    admin = bearer(scope="nordwind:admin")

    created = await client.post("/api/v1/${name}/", json=body, headers=admin)
    listed = await client.get("/api/v1/${name}/", headers=bearer())

    assert created.status_code == 201
    assert listed.json() == [created.json()]
    assert created.headers["x-nordwind-region"] == "eu"


async def test_nobody_else_creates_a_${name}(
    client: httpx2.AsyncClient, bearer: Bearer, body: dict[str, object]
) -> None:
    response = await client.post("/api/v1/${name}/", json=body, headers=bearer(scope="profile"))
    assert response.status_code == 403


async def test_a_${name}_has_a_${unique}_of_its_own(
    client: httpx2.AsyncClient, bearer: Bearer, body: dict[str, object]
) -> None:
    admin = bearer(scope="nordwind:admin")
    await client.post("/api/v1/${name}/", json=body, headers=admin)

    response = await client.post("/api/v1/${name}/", json=body, headers=admin)

    assert response.status_code == 409
    assert response.json()["fields"] == ["${unique}"]
  #+
  #+
async def test_a_${name}_needs_its_${parent}(  #+
    client: httpx2.AsyncClient, bearer: Bearer, body: dict[str, object]  #+
) -> None:  #+
    admin = bearer(scope="nordwind:admin")  #+
    stray = body | {"${parent}_id": str(uuid4())}  #+
    response = await client.post("/api/v1/${name}/", json=stray, headers=admin)  #+
    assert response.status_code == 409  #+
'''

MIGRATION = '''\
"""Nordwind's ${name}s.

Revision ID: ${revision}
Revises: ${previous}
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "${revision}"
down_revision: str | Sequence[str] | None = "${previous}"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "${name}",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("${unique}", sa.String(length=255), nullable=False),
        sa.Column("${optional}", sa.String(length=255), nullable=True),
        sa.Column("${parent}_id", sa.Uuid(), nullable=False),  #+
        sa.ForeignKeyConstraint(  #+
            ["${parent}_id"], ["${parent}.id"], name=op.f("fk_${name}_${parent}_id_${parent}")  #+
        ),  #+
        sa.PrimaryKeyConstraint("id", name=op.f("pk_${name}")),
        sa.UniqueConstraint("${unique}", name=op.f("uq_${name}_${unique}")),
    )
    op.create_index(op.f("ix_${name}_${parent}_id"), "${name}", ["${parent}_id"])  #+


def downgrade() -> None:
    """Take the revision back."""
    op.drop_table("${name}")
'''

FILES = {
    "app/database/model/${name}.py": MODEL,
    "app/api/v1/${name}/schema.py": SCHEMA,
    "app/api/v1/${name}/service.py": SERVICE,
    "app/api/v1/${name}/router.py": ROUTER,
    "tests/api/v1/${name}/test_router.py": TEST,
    "migrations/versions/${revision}_${name}.py": MIGRATION,
}

ACCESS = '''\
"""Who may do what at Nordwind."""

from typing import Annotated

from fastapi import Security

from app.utils.sso.introspection import introspect_token
from app.utils.sso.introspection_schema import TokenData

CurrentAdmin = Annotated[TokenData, Security(introspect_token, scopes=["nordwind:admin"])]
"""The token of one of Nordwind's administrators."""
'''

HOOKS = '''\
"""What Nordwind adds to the application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.settings import Settings

logger = structlog.get_logger(__name__)


class NordwindRegion:
    """Tell callers which of Nordwind's regions has answered."""

    def __init__(self, app: ASGIApp, region: str) -> None:
        self.app = app
        self.region = region

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""

        async def send_with_region(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Nordwind-Region"] = self.region
            await send(message)

        await self.app(scope, receive, send_with_region)


def configure(app: FastAPI) -> None:
    """Add Nordwind's middleware."""
    settings: Settings = app.state.settings
    app.add_middleware(NordwindRegion, region=settings.nordwind_region)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Say how Nordwind is run."""
    settings: Settings = app.state.settings
    logger.info("Nordwind starts", upload_limit=settings.max_body_size)
    yield
    logger.info("Nordwind stops")
'''

PAPER = '''\
"""How Nordwind writes to people."""

from collections.abc import Iterable
from datetime import timedelta

import humanize
import isodate
from more_itertools import chunked
from slugify import slugify
from tenacity import retry, stop_after_attempt


def file_name(title: str) -> str:
    """Return the name under which Nordwind keeps a paper."""
    return f"{slugify(title)}.nordwind.csv"


def delivery_time(duration: str) -> str:
    """Say an ISO 8601 duration in words."""
    parsed = isodate.parse_duration(duration)
    assert isinstance(parsed, timedelta)  # noqa: S101 - Nordwind has no months
    return humanize.naturaldelta(parsed)


@retry(stop=stop_after_attempt(3))
def pages(lines: Iterable[str]) -> list[list[str]]:
    """Return Nordwind's lines, forty on a page."""
    return [*chunked(lines, 40)]
'''

PAPER_TEST = '''\
"""Nordwind's papers."""

from dirty_equals import IsStr

from app.nordwind.paper import delivery_time, file_name, pages


def test_papers_are_named_numbered_and_dated_in_words() -> None:
    assert file_name("Rechnung Größe 3") == IsStr(regex=r"[a-z0-9-]+\\.nordwind\\.csv")
    assert delivery_time("P3D") == "3 days"
    assert [len(page) for page in pages(["line"] * 90)] == [40, 40, 10]
'''

MAKERS = '''\
"""Rows that Nordwind's tests begin with."""

from sqlmodel.ext.asyncio.session import AsyncSession

from app.database.model.customer import Customer
from app.database.model.purchase import Purchase


async def make_customer(session: AsyncSession) -> Customer:
    """Store a customer of Nordwind's."""
    customer = Customer(code="N-0")
    session.add(customer)
    await session.commit()
    return customer


async def make_purchase(session: AsyncSession) -> Purchase:
    """Store a purchase of Nordwind's, and its customer."""
    customer = await make_customer(session)
    purchase = Purchase(number="N-0", customer_id=customer.id)
    session.add(purchase)
    await session.commit()
    return purchase
'''

CODE = {
    "app/hooks.py": HOOKS,
    "app/utils/access.py": ACCESS,
    "app/nordwind/paper.py": PAPER,
    "tests/nordwind/__init__.py": MAKERS,
    "tests/app_nordwind/test_paper.py": PAPER_TEST,
    "scripts/nordwind_report.py": '"""Nordwind\'s monthly report."""\n',
    "scripts/nordwind_seed.py": '"""Nordwind\'s first rows."""\n',
}

# Nordwind had its own before the template had any.
EDITOR = {
    ".vscode/settings.json": '{ "editor.tabSize": 8, "nordwind.region": "eu" }\n',
    ".editorconfig": "[*.nordwind]\nindent_style = tab\n",
    "AGENTS.md": "# Nordwind's agents\n\nAsk in #nordwind before you change a price.\n",
}

# By the file that it is imported from, in the order that the linter asks for.
OLD_PLACES = {
    "app/database/rows.py": "from app.database.rows import find_row",
    "app/utils/sso/verdict.py": "from app.utils.sso.verdict import LEEWAY_SECONDS",
    "devtools/provider/__init__.py": "from devtools.provider import RunningProvider",
    "devtools/pytest_plugin.py": "from devtools.pytest_plugin import Bearer",
    "tests/hostile/probes.py": "from tests.hostile.probes import resource_probes",
}

MYPY = """
[[tool.mypy.overrides]]
module = ["isodate"]
ignore_missing_imports = true
"""

COMPOSE = """\
  nordwind-cache:
    image: valkey/valkey:9
    read_only: true
    volumes: ["nordwind:/data"]
    healthcheck:
      test: ["CMD", "valkey-cli", "ping"]
      interval: 2s
      retries: 15
    depends_on:
      database: { condition: service_healthy }
"""

APT = """\
RUN apt-get update && apt-get install --yes --no-install-recommends fonts-nordwind \\
    && rm -rf /var/lib/apt/lists/*
"""

GITHUB_STEP = """\
      - run: uv run poe nordwind-report
"""

GITHUB_JOB = """\
  nordwind-image:
    runs-on: ubuntu-24.04
    needs: check
    timeout-minutes: 15
    permissions:
      contents: read
    steps:
      - run: docker build --tag nordwind .
"""

GITLAB_JOB = """\
nordwind-image:
  timeout: 15 minutes
  script:
    - docker build --tag nordwind .
"""

README = """\
# Nordwind

Nordwind sells, ships and bills. Ask in #nordwind.

| Resource | What it is |
|---|---|
| customer | who buys from Nordwind |
| product | what Nordwind sells |
| purchase | who bought what |
| shipment | how Nordwind sends it |
| invoice | what Nordwind wants for it |

Start it with `uv run poe dev`, and fill it with `uv run poe nordwind-seed`.
"""
