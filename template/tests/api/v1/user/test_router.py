"""The user resource, as its callers see it."""

import httpx2
import pytest
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database.model.user import User
from app.settings import Settings
from devtools.pytest_plugin import Bearer

ALICE = {"username": "alice", "email": "alice@example.com", "full_name": "Alice Liddell"}


class TestMe:
    async def test_a_caller_without_a_token_is_refused(self, client: httpx2.AsyncClient) -> None:
        response = await client.get("/api/v1/user/me")

        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Bearer realm="api"'

    async def test_the_token_says_who_the_caller_is(
        self, client: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        headers = bearer(username="alice", sub="a-1", scope="profile email")

        response = await client.get("/api/v1/user/me", headers=headers)

        assert response.status_code == 200
        assert response.json() == {
            "subject": "a-1",
            "username": "alice",
            "client_id": "app",
            "scopes": ["email", "profile"],
            "user": None,
        }

    async def test_the_caller_s_own_row_is_shown_where_there_is_one(
        self, client: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        headers = bearer(username="alice")
        await client.post("/api/v1/user/", json=ALICE, headers=headers)

        response = await client.get("/api/v1/user/me", headers=headers)

        assert response.json()["user"]["email"] == "alice@example.com"

    async def test_a_username_that_passed_to_somebody_else_does_not_find_its_former_owner(
        self, client: httpx2.AsyncClient, bearer: Bearer, session: AsyncSession
    ) -> None:
        session.add(User(username="alice", email="former@example.com", subject="former"))
        await session.commit()

        response = await client.get(
            "/api/v1/user/me", headers=bearer(username="alice", sub="another")
        )

        assert response.json()["user"] is None

    async def test_a_token_without_a_subject_does_not_find_a_stranger(
        self,
        client: httpx2.AsyncClient,
        bearer: Bearer,
        session: AsyncSession,
        settings: Settings,
    ) -> None:
        if settings.sso_mode != "introspect":
            pytest.skip("a JWT has a subject, or is refused")
        session.add(User(username="alice", email="alice@example.com"))
        await session.commit()

        response = await client.get("/api/v1/user/me", headers=bearer(username=None, sub=None))

        assert response.status_code == 200
        assert response.json()["user"] is None


class TestCreate:
    async def test_a_user_is_stored(
        self, client: httpx2.AsyncClient, bearer: Bearer, session: AsyncSession
    ) -> None:
        response = await client.post("/api/v1/user/", json=ALICE, headers=bearer())

        assert response.status_code == 201
        user = (await session.exec(select(User))).one()
        assert str(user.id) == response.json()["id"]
        assert (user.username, user.email, user.full_name) == tuple(ALICE.values())

    async def test_the_full_name_may_be_left_out(
        self, client: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        body = {"username": "bob", "email": "bob@example.com"}

        response = await client.post("/api/v1/user/", json=body, headers=bearer())

        assert response.status_code == 201
        assert response.json()["full_name"] is None

    async def test_a_taken_username_is_a_conflict_and_stores_nothing(
        self, client: httpx2.AsyncClient, bearer: Bearer, session: AsyncSession
    ) -> None:
        await client.post("/api/v1/user/", json=ALICE, headers=bearer())

        response = await client.post(
            "/api/v1/user/", json=ALICE | {"email": "other@example.com"}, headers=bearer()
        )

        assert response.status_code == 409
        assert response.json()["fields"] == ["username"]
        assert len((await session.exec(select(User))).all()) == 1

    async def test_emails_that_differ_in_case_are_the_same(
        self, client: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        await client.post("/api/v1/user/", json=ALICE, headers=bearer())

        response = await client.post(
            "/api/v1/user/",
            json={"username": "alice2", "email": "Alice@Example.com"},
            headers=bearer(),
        )

        assert response.status_code == 409
        assert response.json()["fields"] == ["email"]

    async def test_a_body_that_does_not_fit_names_the_place_and_not_the_value(
        self, client: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        body = {"username": "a\u0000b", "email": "no-address", "password": "hunter2"}

        response = await client.post("/api/v1/user/", json=body, headers=bearer())

        assert response.status_code == 422
        assert [error["location"] for error in response.json()["errors"]] == [
            ["body", "username"],
            ["body", "email"],
            ["body", "password"],
        ]
        assert "hunter2" not in response.text
        assert "no-address" not in response.text

    async def test_a_caller_without_a_token_creates_nothing(
        self, client: httpx2.AsyncClient, session: AsyncSession
    ) -> None:
        response = await client.post("/api/v1/user/", json=ALICE)

        assert response.status_code == 401
        assert (await session.exec(select(User))).first() is None
