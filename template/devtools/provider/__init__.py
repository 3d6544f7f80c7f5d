"""The development identity provider, for `poe dev` and for the tests. Never for production."""

from devtools.provider.app import create_provider
from devtools.provider.config import ProviderConfig, ProviderError
from devtools.provider.faults import Faults
from devtools.provider.running import RunningProvider
from devtools.provider.serve import running_provider
from devtools.provider.state import ProviderState, provider_state
from devtools.provider.tls import ProviderTls
from devtools.provider.tokens import TokenRequest, subject_of

__all__ = [
    "Faults",
    "ProviderConfig",
    "ProviderError",
    "ProviderState",
    "ProviderTls",
    "RunningProvider",
    "TokenRequest",
    "create_provider",
    "provider_state",
    "running_provider",
    "subject_of",
]
