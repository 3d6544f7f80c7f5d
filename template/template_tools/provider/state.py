"""The state of a running provider, all of it in memory."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, Request

from template_tools.provider.clients import ClientRegistry
from template_tools.provider.config import ProviderConfig
from template_tools.provider.faults import HEALTHY, Endpoint, FaultSwitch
from template_tools.provider.introspections import Introspections
from template_tools.provider.keys import Claims
from template_tools.provider.people import Person
from template_tools.provider.service import ServiceDescription, describe_service
from template_tools.provider.tokens import TokenStore

if TYPE_CHECKING:
    from template_tools.provider.authorization import AuthorizationCode, AuthorizationRequest


class ProviderState:
    """What one provider knows; nothing of it outlives the process."""

    def __init__(self, config: ProviderConfig) -> None:
        self.config = config
        self.clients = ClientRegistry(config)
        self.tokens = TokenStore(config)
        self.faults = FaultSwitch()
        self.calls: Counter[Endpoint] = Counter()
        self.logins: dict[str, AuthorizationRequest] = {}
        self.codes: dict[str, AuthorizationCode] = {}
        self.tickets: dict[str, Person] = {}
        """Who the development page has sent to sign in, by a random `login_hint`."""
        self.introspections = Introspections(config)
        self.service = ServiceDescription()

    def metadata(self) -> Claims:
        """Return the metadata document (OpenID Connect Discovery 1.0 §3, RFC 8414 §2)."""
        issuer = self.config.issuer
        methods = self.clients.methods()
        return {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "userinfo_endpoint": f"{issuer}/userinfo",
            "jwks_uri": f"{issuer}/jwks",
            "introspection_endpoint": f"{issuer}/introspect",
            "revocation_endpoint": f"{issuer}/revoke",
            "scopes_supported": ["openid", "profile", "email"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "client_credentials"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": [*methods, "none"],
            "introspection_endpoint_auth_methods_supported": [*methods],
            "revocation_endpoint_auth_methods_supported": [*methods, "none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "request_uri_parameter_supported": False,
        }

    async def ask_service(self) -> ServiceDescription:
        """Return what the service says of itself now, and remember it."""
        self.service = await asyncio.to_thread(describe_service, self.config.service_url)
        return self.service

    def reset(self) -> None:
        """Forget all tokens, logins, counts and faults; the key stays."""
        self.tokens.clear()
        self.faults.set(HEALTHY)
        for memory in (self.calls, self.logins, self.codes, self.tickets, self.introspections):
            memory.clear()


def provider_state(app: FastAPI) -> ProviderState:
    """Return the state of a provider that `create_provider` has made."""
    state: ProviderState = app.state.provider
    return state


def _current_state(request: Request) -> ProviderState:
    return provider_state(request.app)


CurrentState = Annotated[ProviderState, Depends(_current_state)]
