"""What is the same for every resource that `poe resource` writes, tried on the user resource."""

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.api.v1.user.schema import UserRead
from app.database.model.user import User
from app.database.session import Database
from app.settings import Settings
from template_tools.pytest_plugin import Bearer

PATH = "/api/v1/user/"
ALICE = {"username": "alice", "email": "alice@example.com", "full_name": "Alice Liddell"}


def example(number: int) -> dict[str, Any]:
    """The body of a user; another number from 0 to 9 makes another one."""
    return {
        "username": f"username {number}",
        "email": f"email-{number}@example.com",
        "full_name": f"full name {number}",
    }


@pytest.fixture
def reader(bearer: Bearer) -> dict[str, str]:
    """The headers of a caller who may read users."""
    return bearer(scope="user:read")


@pytest.fixture
def writer(bearer: Bearer) -> dict[str, str]:
    """The headers of a caller who may change users."""
    return bearer(scope="user:write")


@pytest.fixture
async def stored(session: AsyncSession) -> User:
    """A user that is there already."""
    row = User.model_validate(example(1))
    session.add(row)
    await session.commit()
    return row


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "", "user:read"),
        ("POST", "", "user:write"),
        ("GET", "{id}", "user:read"),
        ("PATCH", "{id}", "user:write"),
        ("DELETE", "{id}", "user:write"),
    ],
)
class TestAccess:
    async def test_a_caller_without_a_token_is_refused(
        self, client: httpx2.AsyncClient, stored: User, method: str, path: str, scope: str
    ) -> None:
        response = await self.call(client, method, path, stored, {})
        assert response.status_code == 401
        assert f'scope="{scope}"' in response.headers["www-authenticate"]

    async def test_a_caller_without_the_scope_is_refused(
        self,
        client: httpx2.AsyncClient,
        bearer: Bearer,
        stored: User,
        method: str,
        path: str,
        scope: str,
    ) -> None:
        other = {"user:read": "user:write", "user:write": "user:read"}[scope]
        response = await self.call(client, method, path, stored, bearer(scope=other))
        assert response.status_code == 403
        assert f'scope="{scope}"' in response.headers["www-authenticate"]

    @staticmethod
    async def call(
        client: httpx2.AsyncClient,
        method: str,
        path: str,
        stored: User,
        headers: dict[str, str],
    ) -> httpx2.Response:
        body = example(2) if method in {"POST", "PATCH"} else None
        url = PATH + path.format(id=stored.id)
        return await client.request(method, url, json=body, headers=headers | {"If-Match": "*"})


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
        headers = bearer(username="alice", scope="user:write")
        await client.post("/api/v1/user/", json=ALICE, headers=headers)

        response = await client.get("/api/v1/user/me", headers=headers)

        assert response.json()["user"]["email"] == "alice@example.com"

    async def test_a_username_that_passed_to_somebody_else_does_not_find_its_former_owner(
        self,
        client: httpx2.AsyncClient,
        bearer: Bearer,
        session: AsyncSession,
        settings: Settings,
    ) -> None:
        former = User(username="alice", email="former@example.com")
        former.issuer, former.subject = settings.sso_issuer, "former"
        session.add(former)
        await session.commit()

        response = await client.get(
            "/api/v1/user/me", headers=bearer(username="alice", sub="another")
        )

        assert response.json()["user"] is None

    async def test_the_subject_decides_where_the_username_leads_to_another_row(
        self,
        client: httpx2.AsyncClient,
        bearer: Bearer,
        session: AsyncSession,
        settings: Settings,
    ) -> None:
        session.add(User(username="alice", email="other@example.com"))
        known = User(username="alice-before", email="alice@example.com")
        known.issuer, known.subject = settings.sso_issuer, "a-1"
        session.add(known)
        await session.commit()

        response = await client.get("/api/v1/user/me", headers=bearer(username="alice", sub="a-1"))

        assert response.json()["user"]["email"] == "alice@example.com"

    @pytest.mark.parametrize(
        ("subject", "username"),
        [("a-1", "alice"), (None, None)],
        ids=["somebody who has one", "a stranger"],
    )
    async def test_a_token_without_a_subject_does_not_find(
        self,
        client: httpx2.AsyncClient,
        bearer: Bearer,
        session: AsyncSession,
        settings: Settings,
        subject: str | None,
        username: str | None,
    ) -> None:
        issuer = settings.sso_issuer if subject else None
        session.add(
            User(username="alice", email="alice@example.com", issuer=issuer, subject=subject)
        )
        await session.commit()

        response = await client.get("/api/v1/user/me", headers=bearer(username=username, sub=None))

        assert response.status_code == 200
        assert response.json()["user"] is None


class TestProvisioning:
    @pytest.fixture(autouse=True)
    def provisioning(self, application: FastAPI, settings: Settings) -> Iterator[None]:
        """Make a row for each caller at their first request."""
        application.state.settings = settings.model_copy(update={"provision_users": True})
        yield
        application.state.settings = settings

    async def test_the_first_request_makes_the_caller_s_row_and_the_next_finds_it(
        self, client: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        claims = {"email": "Alice@example.com", "email_verified": True, "name": "Alice L."}
        headers = bearer(username="alice", sub="a-1", **claims)

        first = await client.get("/api/v1/user/me", headers=headers)
        second = await client.get("/api/v1/user/me", headers=headers)

        assert first.json()["user"] == second.json()["user"]
        assert UUID(first.json()["user"]["id"]).version == 7, "lists are in the order of creation"
        assert (
            first.json()["user"].items()
            >= {
                "username": "alice",
                "email": "alice@example.com",
                "full_name": "Alice L.",
            }.items()
        )

    async def test_nobody_gets_a_row_unless_a_setting_says_so(
        self,
        application: FastAPI,
        client: httpx2.AsyncClient,
        bearer: Bearer,
        session: AsyncSession,
        settings: Settings,
    ) -> None:
        application.state.settings = settings.model_copy(update={"provision_users": False})
        claims = {"email": "alice@example.com", "email_verified": True}
        headers = bearer(username="alice", sub="a-1", **claims)

        response = await client.get("/api/v1/user/me", headers=headers)

        assert response.json()["user"] is None
        assert (await session.exec(select(User))).all() == []

    @pytest.mark.committed
    async def test_of_concurrent_first_requests_one_makes_it_and_none_fails(
        self, client: httpx2.AsyncClient, bearer: Bearer, session: AsyncSession
    ) -> None:
        claims = {"email": "alice@example.com", "email_verified": True}
        headers = bearer(username="alice", sub="a-1", **claims)

        responses = await asyncio.gather(
            *(client.get("/api/v1/user/me", headers=headers) for _ in range(20))
        )

        assert {response.status_code for response in responses} == {200}
        assert len({response.json()["user"]["id"] for response in responses}) == 1
        assert len((await session.exec(select(User))).all()) == 1

    @pytest.mark.parametrize("name", ["", " ", "Bob\n", "b" * 300, 5, ["Bob"]])
    async def test_a_name_that_cannot_be_stored_turns_nobody_away(
        self, client: httpx2.AsyncClient, bearer: Bearer, name: object
    ) -> None:
        headers = bearer(username="bob", email="bob@example.com", email_verified=True, name=name)
        user = (await client.get("/api/v1/user/me", headers=headers)).json()["user"]
        assert (user["username"], user["full_name"]) == ("bob", None)

    async def test_a_token_may_have_the_username_as_openid_connect_calls_it(
        self, client: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        claims = {"sub": "b-1", "preferred_username": "bob", "email": "bob@example.com"}
        headers = bearer(username=None, email_verified=True, **claims)
        user = (await client.get("/api/v1/user/me", headers=headers)).json()["user"]
        assert user["username"] == "bob"

    @pytest.mark.parametrize(
        "claims",
        [
            {"username": "alice", "email": "bob@example.com"},
            {"email": "alice@example.com"},
            {},
            {"email": "no address"},
            {"email": "bob@example.com", "sub": None},
            {"email": "bob@example.com", "sub": "b" * 256},
            {"email": "bob@example.com", "username": None},
            {"email": "bob@example.com", "username": "b" * 300},
            *(
                {"email": "bob@example.com", "email_verified": verified}
                for verified in (False, None, "false", "true", "", 0, 1, [], ["true"], {}, {"a": 1})
            ),
        ],
        ids=lambda claims: str(claims)[:60],
    )
    async def test_a_caller_who_cannot_be_told_from_others_gets_none(
        self,
        client: httpx2.AsyncClient,
        bearer: Bearer,
        session: AsyncSession,
        settings: Settings,
        claims: dict[str, object],
    ) -> None:
        known = {"issuer": settings.sso_issuer, "subject": "somebody"}
        session.add(User.model_validate(ALICE | known))
        await session.commit()

        usual: dict[str, object] = {"username": "bob", "email_verified": True}
        response = await client.get("/api/v1/user/me", headers=bearer(**usual | claims))

        assert response.status_code == 200
        assert response.json()["user"] is None
        assert len((await session.exec(select(User))).all()) == 1


class TestCreate:
    async def test_what_is_sent_is_stored(
        self, client: httpx2.AsyncClient, writer: dict[str, str], session: AsyncSession
    ) -> None:
        response = await client.post(PATH, json=example(1), headers=writer)

        assert response.status_code == 201
        assert response.json().items() >= example(1).items()
        row = (await session.exec(select(User))).one()
        assert str(row.id) == response.json()["id"] == response.headers["location"]
        assert UserRead.model_validate(row).model_dump(mode="json") == response.json()

    async def test_what_is_optional_may_be_left_out(
        self, client: httpx2.AsyncClient, writer: dict[str, str]
    ) -> None:
        optional = ["full_name"]
        body = {name: value for name, value in example(1).items() if name not in optional}

        response = await client.post(PATH, json=body, headers=writer)

        assert response.status_code == 201
        assert {response.json()[name] for name in optional} == {None}

    @pytest.mark.usefixtures("stored")
    @pytest.mark.parametrize("field", ["username", "email"])
    async def test_what_is_taken_is_a_conflict_and_stores_nothing(
        self,
        client: httpx2.AsyncClient,
        writer: dict[str, str],
        session: AsyncSession,
        field: str,
    ) -> None:
        body = example(2) | {field: example(1)[field]}

        response = await client.post(PATH, json=body, headers=writer)

        assert response.status_code == 409
        assert response.json()["fields"] == [field]
        assert len((await session.exec(select(User))).all()) == 1

    @pytest.mark.usefixtures("stored")
    async def test_emails_that_differ_in_case_are_the_same(
        self, client: httpx2.AsyncClient, writer: dict[str, str]
    ) -> None:
        body = example(2) | {"email": "Email-1@Example.com"}
        response = await client.post(PATH, json=body, headers=writer)
        assert response.status_code == 409

    async def test_a_body_that_does_not_fit_names_the_places_and_not_the_values(
        self, client: httpx2.AsyncClient, writer: dict[str, str]
    ) -> None:
        body = {
            "username": "hunter2\u0000",
            "email": "hunter2",
            "full_name": "hunter2\u0000",
            "unknown": "hunter2",
        }

        response = await client.post(PATH, json=body, headers=writer)

        assert response.status_code == 422
        places = [error["location"] for error in response.json()["errors"]]
        assert places == [["body", name] for name in body]
        assert "hunter2" not in response.text


class TestRead:
    async def test_what_is_stored_is_shown_with_its_etag(
        self, client: httpx2.AsyncClient, reader: dict[str, str], stored: User
    ) -> None:
        response = await client.get(f"{PATH}{stored.id}", headers=reader)

        assert response.status_code == 200
        assert response.headers["etag"] == '"1"'
        assert response.json().items() >= example(1).items()

    @pytest.mark.parametrize(("key", "status"), [(uuid4(), 404), ("1", 404), ("%00", 404)])
    async def test_what_is_not_there_is_not_found(
        self, client: httpx2.AsyncClient, reader: dict[str, str], key: object, status: int
    ) -> None:
        assert (await client.get(f"{PATH}{key}", headers=reader)).status_code == status


class TestList:
    @pytest.fixture
    async def rows(self, session: AsyncSession) -> list[User]:
        """Seven users, in the order of their creation."""
        rows = [User.model_validate(example(number)) for number in range(7)]
        session.add_all(rows)
        await session.commit()
        return rows

    async def test_pages_show_each_row_once_and_in_order(
        self, client: httpx2.AsyncClient, reader: dict[str, str], rows: list[User]
    ) -> None:
        seen: list[str] = []
        query = {"limit": "3"}
        while "cursor" in query or not seen:
            page = (await client.get(PATH, params=query, headers=reader)).json()
            seen += [shown["id"] for shown in page["items"]]
            query = {"limit": "3"} | ({"cursor": it} if (it := page["next_cursor"]) else {})
        assert seen == [str(row.id) for row in rows]

    async def test_what_comes_and_goes_meanwhile_moves_nothing(
        self,
        client: httpx2.AsyncClient,
        reader: dict[str, str],
        rows: list[User],
        session: AsyncSession,
    ) -> None:
        first = (await client.get(PATH, params={"limit": "3"}, headers=reader)).json()
        new = User.model_validate(example(7))
        session.add(new)
        await session.delete(rows[0])
        await session.commit()

        query = {"limit": "100", "cursor": first["next_cursor"]}
        second = (await client.get(PATH, params=query, headers=reader)).json()

        assert [shown["id"] for shown in second["items"]] == [
            str(row.id) for row in [*rows[3:], new]
        ]
        assert second["next_cursor"] is None

    @pytest.mark.parametrize("field", ["username", "email"])
    async def test_a_filter_leaves_what_is_equal(
        self,
        client: httpx2.AsyncClient,
        reader: dict[str, str],
        rows: list[User],
        field: str,
    ) -> None:
        value = example(3)[field]
        page = (await client.get(PATH, params={field: value}, headers=reader)).json()
        assert [shown["id"] for shown in page["items"]] == [
            str(row.id) for number, row in enumerate(rows) if example(number)[field] == value
        ]

    @pytest.mark.parametrize(
        "query",
        [
            {"limit": "0"},
            {"limit": "101"},
            {"limit": "9" * 30},
            {"cursor": "x"},
            {"cursor": "\u0000"},
            {"unknown": "x"},
            {"username": "\u0000"},
            {"email": "\u0000"},
        ],
        ids=str,
    )
    async def test_a_query_that_does_not_fit_is_refused(
        self, client: httpx2.AsyncClient, reader: dict[str, str], query: dict[str, str]
    ) -> None:
        response = await client.get(PATH, params=query, headers=reader)
        assert response.status_code == 422

    async def test_lists_are_read_where_a_replica_may_serve_and_rows_where_an_etag_is_true(
        self,
        client: httpx2.AsyncClient,
        reader: dict[str, str],
        stored: User,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        reading = Mock(wraps=Database.reading)
        monkeypatch.setattr(Database, "reading", lambda database: reading(database))

        await client.get(f"{PATH}{stored.id}", headers=reader)
        assert reading.call_count == 0
        await client.get(PATH, headers=reader)
        assert reading.call_count == 1


class TestUpdate:
    async def test_what_is_named_changes_and_the_rest_stays(
        self, client: httpx2.AsyncClient, writer: dict[str, str], stored: User
    ) -> None:
        change = {"username": example(2)["username"]}

        response = await client.patch(
            f"{PATH}{stored.id}", json=change, headers=writer | {"If-Match": '"1"'}
        )

        assert response.status_code == 200
        assert response.headers["etag"] == '"2"'
        assert response.json().items() >= (example(1) | change).items()

    async def test_a_change_to_nothing_changes_nothing(
        self, client: httpx2.AsyncClient, writer: dict[str, str], stored: User
    ) -> None:
        response = await client.patch(
            f"{PATH}{stored.id}", json={}, headers=writer | {"If-Match": '"1"'}
        )
        assert response.headers["etag"] == '"1"'

    @pytest.mark.parametrize(
        ("if_match", "status"),
        [(None, 428), ('"0"', 412), ('W/"1"', 412), ("1", 400), ('"0", "1"', 200), ("*", 200)],
    )
    async def test_a_change_is_made_to_the_state_that_the_caller_has_seen(
        self,
        client: httpx2.AsyncClient,
        writer: dict[str, str],
        stored: User,
        if_match: str | None,
        status: int,
    ) -> None:
        headers = writer | ({} if if_match is None else {"If-Match": if_match})
        response = await client.patch(f"{PATH}{stored.id}", json=example(2), headers=headers)
        assert response.status_code == status

    @pytest.mark.parametrize("field", ["full_name"])
    async def test_what_is_optional_can_become_null(
        self, client: httpx2.AsyncClient, writer: dict[str, str], stored: User, field: str
    ) -> None:
        response = await client.patch(
            f"{PATH}{stored.id}", json={field: None}, headers=writer | {"If-Match": "*"}
        )
        assert response.json()[field] is None

    @pytest.mark.parametrize("field", ["username", "email"])
    async def test_what_is_required_cannot_become_null(
        self, client: httpx2.AsyncClient, writer: dict[str, str], stored: User, field: str
    ) -> None:
        response = await client.patch(
            f"{PATH}{stored.id}", json={field: None}, headers=writer | {"If-Match": "*"}
        )
        assert response.status_code == 422
        assert response.json()["errors"][0]["location"] == ["body", field]

    async def test_what_is_not_there_is_not_found(
        self, client: httpx2.AsyncClient, writer: dict[str, str]
    ) -> None:
        response = await client.patch(
            f"{PATH}{uuid4()}", json=example(2), headers=writer | {"If-Match": "*"}
        )
        assert response.status_code == 404

    @pytest.mark.committed
    async def test_of_changes_to_the_same_state_at_once_one_is_made(
        self, client: httpx2.AsyncClient, writer: dict[str, str], stored: User
    ) -> None:
        headers = writer | {"If-Match": '"1"'}

        responses = await asyncio.gather(
            *(
                client.patch(f"{PATH}{stored.id}", json=example(2), headers=headers)
                for _ in range(8)
            )
        )

        assert sorted(response.status_code for response in responses) == [200] + 7 * [412]

    @pytest.mark.committed
    async def test_of_parallel_changes_none_is_lost(
        self, client: httpx2.AsyncClient, bearer: Bearer, stored: User
    ) -> None:
        """Each caller counts one further, and begins anew where somebody was quicker."""
        headers = bearer(scope="user:read user:write")
        url = f"{PATH}{stored.id}"
        await client.patch(url, json={"full_name": "0"}, headers=headers | {"If-Match": "*"})

        async def count() -> None:
            status = 412
            while status == 412:
                read = await client.get(url, headers=headers)
                body = {"full_name": str(int(read.json()["full_name"]) + 1)}
                if_match = {"If-Match": read.headers["etag"]}
                status = (
                    await client.patch(url, json=body, headers=headers | if_match)
                ).status_code
            assert status == 200

        await asyncio.gather(*(count() for _ in range(8)))

        assert (await client.get(url, headers=headers)).json()["full_name"] == "8"


class TestDelete:
    async def test_what_is_deleted_is_gone(
        self,
        client: httpx2.AsyncClient,
        writer: dict[str, str],
        stored: User,
        session: AsyncSession,
    ) -> None:
        response = await client.delete(f"{PATH}{stored.id}", headers=writer)

        assert response.status_code == 204
        assert (await session.exec(select(User))).all() == []

    @pytest.mark.parametrize(
        ("if_match", "status"), [('"0"', 412), ("1", 400), ("", 400), ('"1"', 204), ("*", 204)]
    )
    async def test_what_somebody_has_changed_stays_where_the_caller_asks_for_it(
        self,
        client: httpx2.AsyncClient,
        writer: dict[str, str],
        stored: User,
        session: AsyncSession,
        if_match: str,
        status: int,
    ) -> None:
        headers = writer | {"If-Match": if_match}
        response = await client.delete(f"{PATH}{stored.id}", headers=headers)
        assert response.status_code == status
        assert ((await session.exec(select(User))).all() == []) == (status == 204)

    @pytest.mark.committed
    async def test_of_deletions_at_once_one_finds_it(
        self, client: httpx2.AsyncClient, writer: dict[str, str], stored: User
    ) -> None:
        responses = await asyncio.gather(
            *(client.delete(f"{PATH}{stored.id}", headers=writer) for _ in range(8))
        )
        assert sorted(response.status_code for response in responses) == [204] + 7 * [404]

    async def test_what_is_not_there_is_not_found(
        self, client: httpx2.AsyncClient, writer: dict[str, str]
    ) -> None:
        assert (await client.delete(f"{PATH}{uuid4()}", headers=writer)).status_code == 404
