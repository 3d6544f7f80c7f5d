"""A team adds a resource as the README says, and takes away the one that came with the project."""

import shutil
from collections.abc import Callable

from tests.answers import DEFAULTS, Answers
from tests.projects import Project, output

MODEL = '''"""What customers owe."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from app.database.base import TableBase


class Customer(TableBase, table=True):
    """Who owes."""

    name: str = Field(max_length=255, index=True)


class Invoice(TableBase, table=True):
    """What is owed."""

    number: str = Field(max_length=50, unique=True)
    amount: Decimal = Field(max_digits=12, decimal_places=2)
    due: date
    sent_at: datetime | None = None
    extra: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSONB, nullable=False))
    customer_id: UUID = Field(foreign_key="customer.id", index=True)
'''
SCHEMA = '''"""The bodies of the invoice resource."""

from uuid import UUID

from app.core.schema import RequestSchema, ResponseSchema, ShortText


class CustomerCreate(RequestSchema):
    """A customer to be."""

    name: ShortText


class CustomerRead(ResponseSchema):
    """A customer."""

    id: UUID
    name: str
'''
SERVICE = '''"""What can be done with customers."""

from sqlmodel.ext.asyncio.session import AsyncSession

from app.api.v1.invoice.schema import CustomerCreate
from app.database.model.invoice import Customer


async def create_customer(session: AsyncSession, data: CustomerCreate) -> Customer:
    """Store a customer."""
    customer = Customer(**data.model_dump())
    session.add(customer)
    await session.flush()
    return customer
'''
ROUTER = '''"""The routes of the invoice resource."""

from fastapi import APIRouter, status

from app.api.v1.invoice import service
from app.api.v1.invoice.schema import CustomerCreate, CustomerRead
from app.database.session import DbSession
from app.utils.sso.introspection import CurrentToken

router = APIRouter()


@router.post("/customer", status_code=status.HTTP_201_CREATED)
async def create_customer(
    data: CustomerCreate, _token: CurrentToken, session: DbSession
) -> CustomerRead:
    """Create a customer."""
    return CustomerRead.model_validate(await service.create_customer(session, data))
'''
ROUTERS = '''"""The resources of version 1 of the API: one line for each."""

from fastapi import APIRouter

from app.api.v1.invoice.router import router as invoice

router = APIRouter()
router.include_router(invoice, prefix="/invoice", tags=["invoice"])
'''
TEST = '''"""The invoice resource, as its callers see it."""

import httpx2

from template_tools.pytest_plugin import Bearer


async def test_a_customer_is_stored(client: httpx2.AsyncClient, bearer: Bearer) -> None:
    response = await client.post(
        "/api/v1/invoice/customer", json={"name": "Acme"}, headers=bearer()
    )
    assert response.status_code == 201
'''


def test_a_team_begins_with_a_resource_of_its_own(
    make_project: Callable[[Answers], Project],
) -> None:
    """Nothing that the template owns depends on the user resource, or on what it is made of."""
    project = make_project(DEFAULTS)
    folder = project.folder
    for path in ("app/api/v1/user", "tests/api/v1/user"):
        shutil.rmtree(folder / path)
    for path in (
        "app/api/dependencies.py",
        "tests/api/test_dependencies.py",
        "app/database/model/user.py",
        "migrations/versions/0001_initial.py",
    ):
        (folder / path).unlink()
    for path, text in {
        "app/database/model/invoice.py": MODEL,
        "app/api/v1/invoice/__init__.py": "",
        "app/api/v1/invoice/schema.py": SCHEMA,
        "app/api/v1/invoice/service.py": SERVICE,
        "app/api/v1/invoice/router.py": ROUTER,
        "app/api/v1/router.py": ROUTERS,
        "tests/api/v1/invoice/__init__.py": "",
        "tests/api/v1/invoice/test_router.py": TEST,
    }.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, "utf-8")

    for task in (["revision", "-m", "Invoices"], ["migrate"], ["check"]):
        done = project.poe(*task)
        assert done.returncode == 0, output(done)
    (written,) = (folder / "migrations" / "versions").glob("*.py")
    assert "sqlmodel" not in written.read_text("utf-8")
    done = project.poe("test")
    assert done.returncode == 0, output(done)
