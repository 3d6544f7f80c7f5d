"""The fixtures of the plugin, with the extended provider.

Pytest caches a fixture of the session where it is defined. Those that depend on the provider are
therefore defined here again, so that a project's own tests can run in the same session.
"""

from collections.abc import Iterator

import pytest

from template_tools.pytest_plugin import application, provider_client, settings
from tests.service.provider import RunningProvider, running_provider

__all__ = ["application", "provider_client", "settings", "shared_provider"]


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[RunningProvider]:
    """Run the provider on a thread of this process."""
    with running_provider() as provider:
        yield provider
