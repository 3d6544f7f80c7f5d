"""The service trusts real providers as it should, and nothing that they did not mean for it.

Each provider is a file of this folder. One that cannot be installed is skipped, unless the
variable REQUIRE_IDENTITY_PROVIDERS is set, as it is in CI.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import pytest

from tests.identity_providers.provider import (
    IdentityProvider,
    Mode,
    NotInstallable,
    RunningIdentityProvider,
)
from tests.identity_providers.report import KEPT, MODES, PROPERTY, row
from tests.identity_providers.serving import served
from tests.processes import free_ports
from tests.projects import Projects, locked

pytestmark = pytest.mark.identity_provider

_CACHE_SECONDS = 1
_SERVICE = Path(__file__).parents[1] / "rendered" / "service.py"


def find_providers() -> dict[str, IdentityProvider]:
    """Return the ``PROVIDER`` of each module of this folder that has one."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    modules = {it: import_module(f"tests.identity_providers.{it}") for it in names}
    return {it: module.PROVIDER for it, module in modules.items() if hasattr(module, "PROVIDER")}


PROVIDERS = find_providers()
SERVED = [(name, mode) for name, it in PROVIDERS.items() for mode in MODES if not it.modes[mode]]
REFUSED = [(name, mode) for name, it in PROVIDERS.items() for mode in MODES if it.modes[mode]]
ASKED = [(name, mode) for name, mode in SERVED if mode != "jwt"]
SIGNED = [name for name, it in PROVIDERS.items() if it.signs_responses]

type Run = Callable[..., httpx2.Client]


class Machine:
    """Installs each provider once for all test workers, and runs it once for this one."""

    def __init__(self, shared: Path, stack: ExitStack) -> None:
        self._shared = shared
        self._stack = stack
        self._running: dict[str, RunningIdentityProvider] = {}

    def start(self, name: str) -> RunningIdentityProvider:
        """Return the provider, running; skip the test where it cannot be installed."""
        if name not in self._running:
            self._running[name] = self._stack.enter_context(self.starting(name))
        return self._running[name]

    @contextmanager
    def starting(self, name: str) -> Iterator[RunningIdentityProvider]:
        """Run another one, which a test may stop."""
        provider, folder = PROVIDERS[name], self._shared / f"provider-{name}"
        with locked(self._shared / f"provider-{name}.lock"):
            try:
                provider.install(folder)
            except NotInstallable as reason:
                if os.environ.get("REQUIRE_IDENTITY_PROVIDERS"):
                    raise
                pytest.skip(f"{provider.name}: {reason}")
        with provider.start(folder) as running:
            yield running


@pytest.fixture(scope="module")
def machine(shared_folder: Path) -> Iterator[Machine]:
    with ExitStack() as stack:
        yield Machine(shared_folder, stack)


@pytest.fixture
def run(projects: Projects) -> Iterator[Run]:
    """Start a service of a rendered project with some settings, and return a client of it."""
    with ExitStack() as stack:

        def start(settings: Mapping[str, str], **changes: str) -> httpx2.Client:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            [port] = free_ports(1)
            environment = projects.environment() | {
                "ENVIRONMENT": "development",
                "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/unused",
                "PYTHONPATH": str(projects.rendered({})),
                "TOKEN_CACHE_SECONDS": str(_CACHE_SECONDS),
            }
            python = Path(environment["UV_PROJECT_ENVIRONMENT"]) / "bin" / "python"
            url = f"http://127.0.0.1:{port}"
            server = served(
                *(python, _SERVICE, str(port)),
                folder=folder,
                env=environment | dict(settings) | changes,
                until=f"{url}/ready",
            )
            stack.enter_context(server)
            return stack.enter_context(httpx2.Client(base_url=url, trust_env=False, timeout=15))

        yield start


def call(service: httpx2.Client, token: str) -> httpx2.Response:
    """Call the protected route."""
    return service.get("/token", headers={"Authorization": f"Bearer {token}"})


def assert_refused(response: httpx2.Response) -> None:
    assert response.status_code == 401, response.text
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


@pytest.mark.parametrize(("name", "mode"), SERVED)
class TestAModeThatItServes:
    def test_a_token_is_accepted_with_its_claims_and_no_other_is(
        self,
        machine: Machine,
        run: Run,
        record_property: Callable[[str, object], None],
        name: str,
        mode: Mode,
    ) -> None:
        provider = machine.start(name)
        record_property(PROPERTY, row(PROVIDERS[name]))
        service = run(provider.settings, SSO_MODE=mode)

        response = call(service, provider.token(mode))

        assert response.status_code == 200, response.text
        claims = response.json()
        expected = PROVIDERS[name].claims
        assert {claim: claims.get(claim) for claim in expected} == dict(expected)
        assert claims["subject"]
        assert_refused(call(service, provider.token_for_another_audience(mode)))
        assert_refused(call(service, "garbage"))
        assert_refused(call(service, provider.token(mode)[:-6] + "AAAAAA"))


@pytest.mark.parametrize(("name", "mode"), ASKED)
class TestAModeThatAsks:
    def test_a_revoked_token_is_refused_within_the_cache_s_time(
        self,
        machine: Machine,
        run: Run,
        record_property: Callable[[str, object], None],
        name: str,
        mode: Mode,
    ) -> None:
        provider = machine.start(name)
        record_property(PROPERTY, row(PROVIDERS[name]))
        service, token = run(provider.settings, SSO_MODE=mode), provider.token(mode)
        assert call(service, token).status_code == 200

        provider.revoke(token)

        revoked = began = time.monotonic()
        while (response := call(service, token)).status_code == 200:
            # However long it took: a call that begins later does not find it in the cache.
            assert began - revoked < _CACHE_SECONDS
            time.sleep(0.1)
            began = time.monotonic()
        assert_refused(response)

    def test_a_wrong_client_secret_is_a_misconfiguration(
        self,
        machine: Machine,
        run: Run,
        record_property: Callable[[str, object], None],
        name: str,
        mode: Mode,
    ) -> None:
        provider = machine.start(name)
        record_property(PROPERTY, row(PROVIDERS[name]))
        service = run(provider.settings, SSO_MODE=mode, CLIENT_SECRET="wrong")

        response = call(service, provider.token(mode))

        assert response.status_code == 503, response.text
        assert response.json()["type"] == "urn:problem:sso-misconfigured"
        assert "www-authenticate" not in response.headers

    def test_a_provider_that_is_gone_is_an_outage_and_never_a_401(
        self,
        machine: Machine,
        run: Run,
        record_property: Callable[[str, object], None],
        name: str,
        mode: Mode,
    ) -> None:
        record_property(PROPERTY, row(PROVIDERS[name]))
        with machine.starting(name) as provider:
            service = run(provider.settings, SSO_MODE=mode)
            assert call(service, provider.token(mode)).status_code == 200
            token = provider.token(mode)

        response = call(service, token)

        assert response.status_code == 503, response.text
        assert response.json()["type"] == "urn:problem:sso-unavailable"


@pytest.mark.parametrize(("name", "mode"), REFUSED)
def test_a_mode_that_it_cannot_serve_accepts_none_of_its_tokens(
    machine: Machine, run: Run, name: str, mode: Mode
) -> None:
    provider = machine.start(name)
    service = run(provider.settings, SSO_MODE=mode)
    assert call(service, provider.token(mode)).status_code in {401, 503}


@pytest.mark.parametrize("name", SIGNED)
def test_a_signed_response_is_accepted(machine: Machine, run: Run, name: str) -> None:
    provider = machine.start(name)
    settings = {"SSO_MODE": "introspect", "SSO_INTROSPECTION_RESPONSE": "jwt"}
    service, token = run(provider.settings, **settings), provider.token("introspect")

    assert call(service, token).status_code == 200
    assert_refused(call(service, "garbage"))


def test_the_documentation_has_the_row_of_each_provider_that_was_tried(machine: Machine) -> None:
    for name, provider in PROVIDERS.items():
        machine.start(name)
        assert verdicts(row(provider)) in [verdicts(line) for line in KEPT.read().splitlines()], (
            "run: uv run pytest tests/identity_providers --write-provider-table"
        )


def verdicts(line: str) -> list[str]:
    """Return the cells of a row without the version, which depends on the machine."""
    cells = line.strip("| ").split(" | ")
    return cells[:1] + cells[2:]
