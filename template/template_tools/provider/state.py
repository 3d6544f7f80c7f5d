"""Everything that one running provider remembers."""

from collections import Counter
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from template_tools.provider.clients import ClientRegistry
from template_tools.provider.codes import AuthorizationCode, AuthorizationRequest
from template_tools.provider.config import ProviderConfig
from template_tools.provider.faults import HEALTHY, Endpoint, FaultSwitch
from template_tools.provider.tokens import Bounded, TokenStore


class ProviderState:
    """The memory of one provider: nothing of it outlives the process."""

    def __init__(self, config: ProviderConfig) -> None:
        """Start empty, healthy and with fresh keys.

        Raises ProviderError when the client's public key cannot be used.
        """
        self.config = config
        self.clients = ClientRegistry(config)
        self.tokens = TokenStore(config)
        self.faults = FaultSwitch()
        self.calls: Counter[Endpoint] = Counter()
        self.logins: Bounded[AuthorizationRequest] = Bounded()
        self.codes: Bounded[AuthorizationCode] = Bounded()
        self.spent_codes: Bounded[str] = Bounded()

    def reset(self) -> None:
        """Forget all tokens, logins, counts and faults; the keys that sign stay."""
        self.tokens.clear()
        self.clients.clear()
        self.faults.set(HEALTHY)
        for memory in (self.calls, self.logins, self.codes, self.spent_codes):
            memory.clear()


def provider_state(app: FastAPI) -> ProviderState:
    """Return the memory of a provider made by `create_provider`."""
    state = app.state.provider
    if not isinstance(state, ProviderState):
        raise TypeError("This application is not a development provider.")
    return state


def _current_state(request: Request) -> ProviderState:
    return provider_state(request.app)


CurrentState = Annotated[ProviderState, Depends(_current_state)]
