"""Which tokens are accepted, in all the forms that providers use, and what a route sees."""

from urllib.parse import parse_qs

import httpx2
import pytest
from pydantic import ValidationError
from starlette.types import Message

from app.settings import Settings
from app.utils.sso.errors import ScopeInsufficient
from app.utils.sso.introspection_schema import ClaimNames, TokenData
from template_tools.pytest_plugin import Bearer
from tests.service.provider import Faults, RunningProvider
from tests.service.sso.assertions import get
from tests.service.sso.conftest import Network, Open


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

    async def test_scopes_are_separated_by_spaces_and_by_nothing_else(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        """RFC 6749 §3.3. Whoever may choose a part of a scope must not end up with another."""
        separators = [chr(code) for code in range(1, 0x3001) if chr(code).isspace() and code != 32]
        assert {"\t", "\x1f", "\x85", "\xa0", "\u2028", "\u3000"} <= {*separators}
        for separator in [*separators, ",", "\u200b", "\ufeff", "+", ";"]:
            scope = f"x{separator}report:write{separator}y"
            for written in ({"scope": scope}, {"scope": [scope]}, {"scope": None, "scp": scope}):
                provider.faults = Faults.model_validate({"override_claims": written})
                answer = await get(caller, provider.mint(), "/writers")
                assert answer.status_code == 403, (separator, written)

    async def test_an_empty_scope_is_none_whatever_stands_beside_it(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, bearer: Bearer
    ) -> None:
        provider.faults = Faults(override_claims={"scope": "", "scp": "report:write"})
        assert (await caller.get("/writers", headers=bearer())).status_code == 403

    async def test_the_provider_is_told_that_it_is_an_access_token(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, network: Network
    ) -> None:
        """RFC 7662 §2.1: some providers search their refresh tokens first."""
        forms: list[dict[str, list[str]]] = []

        async def note(request: httpx2.Request) -> httpx2.Response:
            if request.method == "POST":
                forms.append(parse_qs(request.content.decode()))
            return await network.forward(request)

        network.handler = note
        token = provider.mint()
        headers = {"Authorization": f"Bearer {token}"}
        assert (await caller.get("/anyone", headers=headers)).status_code == 200
        assert forms == [{"token": [token], "token_type_hint": ["access_token"]}]

    async def test_a_connection_that_breaks_once_is_tried_again(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, bearer: Bearer
    ) -> None:
        provider.faults = Faults(cut_body=True, times=1)
        assert (await caller.get("/anyone", headers=bearer())).status_code == 200


def test_an_error_about_a_response_does_not_repeat_it() -> None:
    """Otherwise whoever logs the error would log claims."""
    with pytest.raises(ValidationError) as caught:
        TokenData.read({"active": "canary", "sub": ["canary"]}, ClaimNames())
    assert "canary" not in str(caught.value)


def test_what_is_known_of_a_token_does_not_change() -> None:
    """It is shared by all the requests that come with the token."""
    token = TokenData(active=True, sub="a-1")
    with pytest.raises(ValidationError):
        token.sub = "root"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a", {"b": {"c": 1}, "b.c": 2}),
        ("a.b", {"c": 1}),
        ("a.b.c", 2),
        ("d.e", 3),
        ("d.e.f", None),
        ("a.", None),
        ("a.x", None),
        (".a", None),
        ("", None),
    ],
)
def test_a_claim_is_found_by_its_name_or_by_a_path(name: str, found: object) -> None:
    members = {"active": True, "a": {"b": {"c": 1}, "b.c": 2}, "d.e": 3, "d": {"e": 4}}
    assert TokenData.read(members, ClaimNames()).claim(name) == found


def test_a_name_that_cannot_be_quoted_is_left_out_of_a_challenge() -> None:
    challenge = ScopeInsufficient(['report:"all"']).headers["WWW-Authenticate"]
    assert challenge == 'Bearer realm="api", error="insufficient_scope"'


class TestWebSockets:
    """A socket is refused before it opens, like any other request."""

    async def connect(self, open_service: Open, settings: Settings, header: bytes) -> list[Message]:
        """Open a socket, and return what the service sends."""
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
