"""What a good token is, whichever way the provider writes it, and what a route learns of it."""

import httpx2
import pytest
from starlette.types import Message

from app.settings import Settings
from devtools.provider import Faults, RunningProvider
from devtools.pytest_plugin import Bearer
from tests.utils.sso.conftest import Open


class TestAGoodToken:
    async def test_it_is_accepted_with_its_claims(
        self, caller: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        response = await caller.get("/anyone", headers=bearer(username="alice", sub="a-1"))

        assert response.status_code == 200
        assert response.json() == {"sub": "a-1", "username": "alice"}

    async def test_a_jwt_is_introspected_like_any_other_token(
        self, caller: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        assert (await caller.get("/anyone", headers=bearer(format="jwt"))).status_code == 200

    async def test_the_scheme_is_written_in_any_case(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        headers = {"Authorization": f"bEARER   {provider.mint()}"}
        assert (await caller.get("/anyone", headers=headers)).status_code == 200

    async def test_it_may_be_for_several_services(
        self, caller: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        headers = bearer(audience=["another", "app"])
        assert (await caller.get("/anyone", headers=headers)).status_code == 200

    @pytest.mark.parametrize(
        "claims",
        [
            {"typ": "at+jwt"},
            {"typ": "JWT"},
            {"typ": "Bearer"},
            {"token_use": "access"},
            {"token_type": "bearer"},
            {"token_type": None},
            {"cnf": None},
            {"iss": None},
            {"exp": None},
            {"exp": 32_503_680_000.5},
            {"iat": 0.5},
            {"unknown": [{"deep": [1.5, None]}]},
        ],
        ids=str,
    )
    async def test_what_providers_leave_out_or_write_otherwise_is_accepted(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        bearer: Bearer,
        claims: dict[str, object],
    ) -> None:
        provider.faults = Faults.model_validate({"override_claims": claims})
        assert (await caller.get("/anyone", headers=bearer())).status_code == 200

    @pytest.mark.parametrize(
        "claims",
        [
            {"scope": "report:write"},
            {"scope": "report:read  report:write"},
            {"scope": ["report:read", "report:write"]},
            {"scope": None, "scp": "report:write"},
            {"scope": None, "scp": ["report:write"]},
        ],
        ids=str,
    )
    async def test_a_scope_is_found_whichever_way_it_is_written(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        bearer: Bearer,
        claims: dict[str, object],
    ) -> None:
        provider.faults = Faults.model_validate({"override_claims": claims})
        assert (await caller.get("/writers", headers=bearer())).status_code == 200

    async def test_a_connection_that_breaks_once_is_tried_again(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, bearer: Bearer
    ) -> None:
        provider.faults = Faults(cut_body=True, times=1)
        assert (await caller.get("/anyone", headers=bearer())).status_code == 200


class TestWebSockets:
    """A socket is refused before it opens, with the answer of any other request."""

    async def connect(self, open_service: Open, settings: Settings, header: bytes) -> list[Message]:
        """Ask for a socket, and return what the service has sent."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        async with open_service(settings) as app:
            scope = {
                "type": "websocket",
                "path": "/socket",
                "raw_path": b"/socket",
                "query_string": b"",
                "headers": [(b"authorization", header)],
                "subprotocols": [],
                "extensions": {"websocket.http.response": {}},
            }
            await app(scope, receive, send)
        return sent

    async def test_a_good_token_opens_one(
        self, open_service: Open, settings: Settings, provider: RunningProvider
    ) -> None:
        header = f"Bearer {provider.mint(sub='a-1')}".encode()
        opened, text, _closed = await self.connect(open_service, settings, header)
        assert opened["type"] == "websocket.accept"
        assert text["text"] == "a-1"

    @pytest.mark.parametrize(
        ("header", "challenge"),
        [
            (b"Bearer unknown-token", b'Bearer realm="api", error="invalid_token"'),
            (b"Basic YTpi", b'Bearer realm="api"'),
        ],
    )
    async def test_another_is_refused(
        self,
        open_service: Open,
        settings: Settings,
        header: bytes,
        challenge: bytes,
    ) -> None:
        start, *rest = await self.connect(open_service, settings, header)
        assert start["type"] == "websocket.http.response.start"
        assert start["status"] == 401
        assert dict(start["headers"])[b"www-authenticate"] == challenge
        assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
        assert {message["type"] for message in rest} == {"websocket.http.response.body"}
