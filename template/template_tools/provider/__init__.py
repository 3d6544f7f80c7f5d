"""The development identity provider, for `poe dev` and for the tests. Never for production."""

from template_tools.provider.app import create_provider
from template_tools.provider.config import ProviderConfig, ProviderError
from template_tools.provider.faults import Faults
from template_tools.provider.running import RunningProvider
from template_tools.provider.serve import running_provider
from template_tools.provider.state import ProviderState, provider_state
from template_tools.provider.tokens import TokenRequest, subject_of

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
