"""The development identity provider, for `poe dev` and for the tests. Never for production."""

from devtools.provider.app import create_provider
from devtools.provider.config import ProviderConfig, ProviderError
from devtools.provider.faults import Faults
from devtools.provider.serve import RunningProvider, running_provider
from devtools.provider.state import ProviderState, provider_state
from devtools.provider.tokens import TokenRequest, subject_of

__all__ = [
    "Faults",
    "ProviderConfig",
    "ProviderError",
    "ProviderState",
    "RunningProvider",
    "TokenRequest",
    "create_provider",
    "provider_state",
    "running_provider",
    "subject_of",
]
