"""The state of a provider with all extensions."""

from template_tools.provider import state
from template_tools.provider.keys import Claims
from tests.service.provider.clients import ClientRegistry, ProviderConfig
from tests.service.provider.faults import Faults
from tests.service.provider.keys import ALGORITHMS
from tests.service.provider.tokens import TokenStore


class ProviderState(state.ProviderState):
    """What one provider knows; nothing of it outlives the process."""

    def __init__(self, config: ProviderConfig) -> None:
        """Raise ProviderError when the registered client cannot authenticate as configured."""
        super().__init__(config)
        self.clients: ClientRegistry = ClientRegistry(config)
        self.tokens: TokenStore = TokenStore(config, self._calls_garbage_active)

    def metadata(self) -> Claims:
        """Return the metadata document, with RFC 7523's and RFC 9701's members."""
        document = super().metadata()
        document["introspection_signing_alg_values_supported"] = ["RS256"]
        if "private_key_jwt" in self.clients.methods():
            for endpoint in ("token", "introspection", "revocation"):
                document[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] = [*ALGORITHMS]
        return document

    def reset(self) -> None:
        """Forget all tokens, assertions, logins, counts and faults; the keys that sign stay."""
        super().reset()
        self.clients.clear()

    def _calls_garbage_active(self) -> bool:
        return isinstance(self.faults.current, Faults) and self.faults.current.always_active
