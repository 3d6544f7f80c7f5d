"""The development provider with what only the tests of the template need.

It is the provider of `template_tools`, extended from outside: more faults, more keys and
signatures, more ways of client authentication, TLS, and signed introspection responses. A test
imports all of it from here, so that its names do not depend on what projects receive.
"""

from template_tools.provider import ProviderError, subject_of
from template_tools.provider.faults import Endpoint
from tests.service.provider.clients import ClientAuthMethod, ProviderConfig
from tests.service.provider.faults import Faults
from tests.service.provider.keys import ALGORITHMS, Algorithm
from tests.service.provider.running import RunningProvider, create_provider, running_provider
from tests.service.provider.state import ProviderState
from tests.service.provider.tls import ProviderTls
from tests.service.provider.tokens import TokenRequest

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "ClientAuthMethod",
    "Endpoint",
    "Faults",
    "ProviderConfig",
    "ProviderError",
    "ProviderState",
    "ProviderTls",
    "RunningProvider",
    "TokenRequest",
    "create_provider",
    "running_provider",
    "subject_of",
]
