"""`uv run poe dev` runs the whole service for real, and leaves nothing when it ends."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.answers import DEFAULTS, Answers
from tests.processes import end_processes_of, free_ports, is_open, processes_of, start, wait_until
from tests.projects import Project, output, run

START_SECONDS = 60
STOP_SECONDS = 60
KILL_SECONDS = 60
AGAIN = "dev: PostgreSQL is running again"

OF_ANOTHER_PROVIDER = """\
ENVIRONMENT=development
CLIENT_AUTH_METHOD=client_secret_post
SSO_INTROSPECTION_URL=http://127.0.0.1:9/introspect
SSO_INTROSPECTION_RESPONSE=jwt
SSO_JWKS_URL=http://127.0.0.1:9/jwks
SSO_JWT_TYPE=at+jwt
SSO_REQUIRE_ISSUER=true
SSO_ROLES_CLAIM=realm_access.roles
SSO_SUBJECT_CLAIM=employee_number
"""

# A proxy of this machine's must not see what is said on it.
http = httpx2.Client(trust_env=False, timeout=10)


@dataclass(frozen=True)
class Running:
    """A service that was started by a command, and what the command prints."""

    project: Project
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str, token: str | None = None) -> httpx2.Response:
        """Send a GET request, with a bearer token if there is one."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return http.get(f"http://127.0.0.1:{self.port}{path}", headers=headers)

    def said(self) -> str:
        """Return what was printed until now."""
        return self.log.read_text("utf-8", errors="replace")

    def is_healthy(self) -> bool:
        """Whether the service answers that all is well."""
        assert self.process.poll() is None, self.said()
        with suppress(httpx2.TransportError):
            return self.get("/health").status_code == 200
        return False

    def ports(self) -> list[int]:
        """Return every port that was opened: the service's, the provider's, the database's."""
        state = json.loads((self.project.folder / ".dev" / "provider.json").read_text())
        done = self.project.tool("python", "-m", "template_tools.postgres", "url")
        assert done.returncode == 0, output(done)
        urls = (state["issuer"], done.stdout)
        found = [re.search(r":(\d{4,5})\b(?!.*@)", url) for url in urls]
        return [self.port, *(int(match[1]) for match in found if match)]

    def left(self) -> dict[int, str]:
        """Return the processes that still belong to the project."""
        return processes_of(self.project.folder, self.project.database_folder())


@contextmanager
def running_only(project: Project, *command: str | Path, port: int, log: Path) -> Iterator[Running]:
    """Start a command beside others in the same project, which go on when it ends."""
    process = start(*command, cwd=project.folder, env=project.env, log=log)
    try:
        yield Running(project, process, port, log)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def running(project: Project, *command: str | Path, port: int, log: Path) -> Iterator[Running]:
    """Start a command, and leave no process of the project behind."""
    try:
        with running_only(project, *command, port=port, log=log) as service:
            yield service
    finally:
        end_processes_of(project.folder, project.database_folder())


@contextmanager
def running_dev(project: Project, folder: Path) -> Iterator[Running]:
    """Run ``uv run poe dev`` and wait until the service is healthy and has said so."""
    (port,) = free_ports(1)
    command = project.uv_run("poe", "dev", "--port", str(port))
    with running(project, *command, port=port, log=folder / "dev.log") as service:
        wait_until(service.is_healthy, START_SECONDS, service.said)
        wait_until(lambda: "/api/v1/user/me" in service.said(), START_SECONDS, service.said)
        yield service


def assert_gone(service: Running, ports: list[int], seconds: float) -> None:
    """Fail unless every process and every port of the service is gone in time."""
    wait_until(lambda: service.process.poll() is not None, seconds, service.said)
    wait_until(lambda: not service.left(), seconds, lambda: (service.left(), service.said()))
    assert [port for port in ports if is_open(port)] == []
    assert "Traceback" not in service.said()


@pytest.fixture(scope="class")
def dev(
    make_project: Callable[[Answers], Project],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    project = make_project(DEFAULTS)
    with running_dev(project, tmp_path_factory.mktemp("dev")) as service:
        yield service


@pytest.fixture(scope="class")
def token(dev: Running) -> str:
    done = dev.project.poe("--quiet", "token")
    assert done.returncode == 0, output(done)
    return done.stdout.strip()


class TestWhileItRuns:
    def test_it_says_where_everything_is(self, dev: Running) -> None:
        said = dev.said()
        assert f"http://127.0.0.1:{dev.port}/docs" in said
        assert (
            f'curl -H "Authorization: Bearer $(uv run poe token)" http://127.0.0.1:{dev.port}'
            in said
        )
        assert "postgresql+asyncpg://app:***@127.0.0.1" in said

    @pytest.mark.parametrize("path", ["/health", "/livez", "/docs", "/redoc", "/openapi.json"])
    def test_everybody_may_read(self, dev: Running, path: str) -> None:
        assert dev.get(path).status_code == 200

    def test_the_printed_command_works(self, dev: Running) -> None:
        done = run(
            "sh",
            "-c",
            f'curl -s --noproxy "*" -H "Authorization: Bearer $(uv run poe token)" '
            f"http://127.0.0.1:{dev.port}/api/v1/user/me",
            cwd=dev.project.folder,
            env=dev.project.env,
        )
        assert json.loads(done.stdout)["username"] == "dev", output(done)

    def test_a_token_of_the_development_provider_is_accepted(
        self, dev: Running, token: str
    ) -> None:
        response = dev.get("/api/v1/user/me", token)
        assert response.status_code == 200
        assert response.json()["username"] == "dev"

    @pytest.mark.parametrize("token", [None, "nonsense"])
    def test_no_token_and_a_wrong_one_are_refused(self, dev: Running, token: str | None) -> None:
        response = dev.get("/api/v1/user/me", token)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")

    def test_its_connections_are_bounded(self, dev: Running) -> None:
        response = http.get(f"http://127.0.0.1:{dev.port}/livez", headers={"a": "x" * 40_000})
        assert response.status_code == 431

    def test_what_it_logs_is_visible_and_has_no_query(self, dev: Running) -> None:
        dev.get("/api/v1/user/me?access_token=secret-7", "nonsense")
        wait_until(lambda: "GET /api/v1/user/me 401 " in dev.said(), START_SECONDS, dev.said)
        assert re.search(r"^\S+T\S+Z INFO app\.utils\.sso\.\S+: ", dev.said(), re.MULTILINE)
        assert "secret-7" not in dev.said()

    def test_a_user_is_created_once(self, dev: Running) -> None:
        done = dev.project.poe("token", "--scope", "user:write")
        assert done.returncode == 0, output(done)
        token = done.stdout.strip()

        def create() -> int:
            return http.post(
                f"http://127.0.0.1:{dev.port}/api/v1/user/",
                json={"username": "ada", "email": "ada@example.com"},
                headers={"Authorization": f"Bearer {token}"},
            ).status_code

        assert create() == 201
        assert create() == 409

    def test_a_second_one_on_the_same_port_says_what_to_do(self, dev: Running) -> None:
        done = dev.project.poe("--quiet", "dev", "--port", str(dev.port))
        assert done.returncode == 1
        assert done.stdout == ""
        said = [line for line in done.stderr.splitlines() if not line.startswith("Error:")]
        assert len(said) == 1, done.stderr
        assert said[0].startswith(f"Port {dev.port} of 127.0.0.1 is in use. Stop the program")
        assert dev.is_healthy()


class TestWhenItEnds:
    @pytest.fixture
    def project(self, make_project: Callable[[Answers], Project]) -> Project:
        return make_project(DEFAULTS)

    def test_nothing_is_left_after_sigterm_to_the_command(
        self, project: Project, tmp_path: Path
    ) -> None:
        with running_dev(project, tmp_path) as service:
            ports = service.ports()
            assert len(ports) == 3
            service.process.terminate()
            assert_gone(service, ports, STOP_SECONDS)

    def test_nothing_is_left_after_ctrl_c_and_it_says_so(
        self, project: Project, tmp_path: Path
    ) -> None:
        with running_dev(project, tmp_path) as service:
            ports = service.ports()
            # A terminal sends it to every process in the foreground.
            os.killpg(service.process.pid, signal.SIGINT)
            assert_gone(service, ports, STOP_SECONDS)
            assert "Stopped the service and everything that was started" in service.said()

    def test_nothing_is_left_after_it_was_killed(self, project: Project, tmp_path: Path) -> None:
        with running_dev(project, tmp_path) as service:
            ports = service.ports()
            (dev,) = [
                process
                for process, command in processes_of(project.folder).items()
                if re.match(r"\S*python\S* -m template_tools\.dev ", command)
            ]
            os.kill(dev, signal.SIGKILL)
            assert_gone(service, ports, KILL_SECONDS)


class TestWhenTheCodeChanges:
    def test_the_service_is_what_the_files_say(
        self, make_project: Callable[[Answers], Project], tmp_path: Path
    ) -> None:
        with running_dev(make_project(DEFAULTS), tmp_path) as service:
            hooks = service.project.folder / "app" / "hooks.py"
            text = hooks.read_text("utf-8")
            assert service.get("/changed").status_code == 404
            hooks.write_text(f"this is no Python\n{text}", "utf-8")
            wait_until(lambda: "SyntaxError" in service.said(), START_SECONDS, service.said)
            # Its settings are still those of the development database and provider.
            hooks.write_text(
                text.replace(
                    "def configure(app: FastAPI) -> None:\n",
                    "def configure(app: FastAPI) -> None:\n"
                    '    app.add_api_route("/changed", lambda: "changed")\n',
                ),
                "utf-8",
            )
            wait_until(lambda: has_answered(service, "/changed", 200), START_SECONDS, service.said)
            token = service.project.poe("--quiet", "token").stdout.strip()
            assert service.get("/api/v1/user/me", token).status_code == 200


def has_answered(service: Running, path: str, status: int) -> bool:
    """Whether the service answers so; while it is reloaded it does not answer at all."""
    with suppress(httpx2.TransportError):
        return service.get(path).status_code == status
    return False


class TestWhenItsDatabaseEnds:
    @pytest.fixture
    def service(
        self, make_project: Callable[[Answers], Project], tmp_path: Path
    ) -> Iterator[Running]:
        with running_dev(make_project(DEFAULTS), tmp_path) as service:
            yield service

    def test_it_is_started_again_with_its_data(self, service: Running) -> None:
        tables = self._sql(service, "CREATE TABLE kept (); SELECT count(*) FROM pg_tables")
        token = service.project.poe("--quiet", "token").stdout.strip()
        for find in (self._postmaster, self._supervisor):
            said = service.said().count(AGAIN)
            os.kill(find(service), signal.SIGKILL)
            wait_until(partial(self._has_said, service, said + 1), START_SECONDS, service.said)
            wait_until(service.is_healthy, START_SECONDS, service.said)
            assert self._sql(service, "SELECT count(*) FROM pg_tables") == tables
        assert service.get("/api/v1/user/me", token).status_code == 200
        assert "Traceback" not in service.said().partition(AGAIN)[0]

    def test_postgresql_itself_replaces_a_backend_that_crashes(self, service: Running) -> None:
        pid = self._sql(
            service,
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' LIMIT 1",
        )
        os.kill(int(pid), signal.SIGKILL)
        wait_until(service.is_healthy, START_SECONDS, service.said)
        assert "PostgreSQL has ended" not in service.said()

    def test_a_service_whose_data_is_gone_gets_an_empty_database(self, service: Running) -> None:
        shutil.rmtree(service.project.database_folder() / "dev" / "cluster")
        wait_until(
            lambda: "starting the service again" in service.said(), START_SECONDS, service.said
        )
        wait_until(service.is_healthy, START_SECONDS, service.said)
        token = service.project.poe("--quiet", "token").stdout.strip()
        assert service.get("/api/v1/user/me", token).status_code == 200

    def test_it_gives_up_when_the_data_cannot_be_read(self, service: Running) -> None:
        data = service.project.database_folder() / "dev" / "cluster" / "data"
        (data / "global" / "pg_control").write_bytes(b"x" * 8192)
        ports = service.ports()
        os.kill(self._postmaster(service), signal.SIGKILL)
        assert_gone(service, ports, START_SECONDS)
        assert service.process.returncode == 1
        assert "PostgreSQL could not be started again: PostgreSQL did not start. " in service.said()

    def _has_said(self, service: Running, times: int) -> bool:
        return service.said().count(AGAIN) == times

    def _sql(self, service: Running, statements: str) -> str:
        url = service.project.tool("python", "-m", "template_tools.postgres", "url").stdout.strip()
        program = (
            "import asyncio, asyncpg, sys\n"
            "async def main():\n"
            "    connection = await asyncpg.connect(sys.argv[1])\n"
            "    for statement in sys.argv[2].split(';'):\n"
            "        print(await connection.fetchval(statement), file=sys.stderr)\n"
            "asyncio.run(main())"
        )
        done = service.project.tool("python", "-c", program, url, statements)
        assert done.returncode == 0, output(done)
        return done.stderr.split()[-1]

    def _postmaster(self, service: Running) -> int:
        data = service.project.database_folder() / "dev" / "cluster" / "data"
        return int((data / "postmaster.pid").read_text().split("\n")[0])

    def _supervisor(self, service: Running) -> int:
        ready = service.project.database_folder() / "dev" / "ready"
        return int(json.loads(ready.read_text())["supervisor"])


@pytest.fixture(scope="class")
def configured(
    make_project: Callable[[Answers], Project],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Project]:
    project = make_project(DEFAULTS)
    folder = tmp_path_factory.mktemp("plain")
    (port,) = free_ports(1)
    python = project.program("python")
    database = (python, "-m", "template_tools.postgres", "run", "--", "sleep", "600")
    provider = (python, "-m", "template_tools.provider", "--port", str(port), "--state-file")
    state_file = folder / "provider.json"
    with (
        running(project, *database, port=0, log=folder / "database.log") as held,
        running(
            project, *provider, state_file, port=port, log=folder / "provider.log"
        ) as provider_process,
    ):
        wait_until(state_file.exists, START_SECONDS, provider_process.said)
        url = ("python", "-m", "template_tools.postgres", "url")
        wait_until(lambda: project.tool(*url).returncode == 0, START_SECONDS, held.said)
        # `run` creates the database after it has started the server.
        wait_until(
            lambda: any(command.startswith("sleep 600") for command in held.left().values()),
            START_SECONDS,
            held.said,
        )
        state = json.loads(state_file.read_text())
        (project.folder / ".env").write_text(
            "ENVIRONMENT=development\n"
            f"DATABASE_URL={project.tool(*url).stdout.strip()}\n"
            f"SSO_ISSUER={state['issuer']}\n"
            "SSO_AUDIENCE=app\n"
            f"CLIENT_ID={state['client_id']}\n"
            f"CLIENT_SECRET={state['client_secret']}\n"
        )
        yield project


class TestThePlainCommands:
    """With a .env that names a database and a provider, none of the tools is needed."""

    def test_alembic_goes_up_down_and_up_again(self, configured: Project) -> None:
        for command in (["upgrade", "head"], ["downgrade", "-1"], ["upgrade", "head"], ["check"]):
            done = configured.tool("alembic", *command)
            assert done.returncode == 0, output(done)

    def test_fastapi_dev_serves_it(self, configured: Project, tmp_path: Path) -> None:
        (port,) = free_ports(1)
        command = ("dev", "app/main.py", "--host", "127.0.0.1", "--port", str(port))
        program = configured.program("fastapi")
        with running_only(
            configured, program, *command, port=port, log=tmp_path / "log"
        ) as service:
            wait_until(service.is_healthy, START_SECONDS, service.said)
            service.get("/api/v1/user/me?access_token=secret-7", "nonsense")
            os.killpg(service.process.pid, signal.SIGINT)
            wait_until(lambda: service.process.poll() is not None, STOP_SECONDS, service.said)
            assert not is_open(port)
            assert re.search(r"T\S+Z INFO app\.utils\.sso\.\S+: ", service.said())
            assert "secret-7" not in service.said()

    def test_dev_uses_what_is_configured(self, configured: Project, tmp_path: Path) -> None:
        (port,) = free_ports(1)
        command = configured.uv_run("poe", "dev", "--port", str(port))
        with running_only(configured, *command, port=port, log=tmp_path / "log") as service:
            wait_until(service.is_healthy, START_SECONDS, service.said)
            assert "using the database of DATABASE_URL" in service.said()
            assert "starting the development identity provider" not in service.said()
            os.killpg(service.process.pid, signal.SIGINT)
            wait_until(lambda: service.process.poll() is not None, STOP_SECONDS, service.said)


def test_dev_says_which_setting_is_missing(make_project: Callable[[Answers], Project]) -> None:
    project = make_project(DEFAULTS | {"sso_issuer": "https://sso.example.com/realms/main"})
    (port,) = free_ports(1)
    done = project.poe("--quiet", "dev", "--port", str(port))
    assert done.returncode == 1
    assert "CLIENT_SECRET is not set" in done.stderr
    assert "Traceback" not in output(done)
    left = (project.folder, project.database_folder())
    wait_until(lambda: not processes_of(*left), STOP_SECONDS, lambda: processes_of(*left))


def test_what_env_says_of_another_provider_does_not_lead_to_it(
    make_project: Callable[[Answers], Project], tmp_path: Path
) -> None:
    project = make_project(DEFAULTS)
    (project.folder / ".env").write_text(OF_ANOTHER_PROVIDER)
    with running_dev(project, tmp_path) as service:
        token = project.poe("--quiet", "token", "--role", "admin").stdout.strip()
        response = service.get("/api/v1/user/me", token)
        assert response.status_code == 200, response.text
        assert response.json()["username"] == "dev"
    done = project.poe("--quiet", "bench")
    assert "| /api/v1/user/me | " in re.sub(" +", " ", done.stdout), output(done)
    assert "/api/v1/user/me: not measured" not in done.stdout


def test_dev_does_not_serve_what_could_not_be_migrated(
    make_project: Callable[[Answers], Project],
) -> None:
    project = make_project(DEFAULTS)
    (initial,) = (project.folder / "migrations" / "versions").glob("*.py")
    initial.write_text(initial.read_text("utf-8").replace("op.create_table(", "op.no_such_thing("))
    (port,) = free_ports(1)
    done = project.poe("--quiet", "dev", "--port", str(port))
    assert done.returncode == 1
    assert "no_such_thing" in done.stderr
    assert "The migrations failed, so the service was not started: see above." in done.stderr
    assert "starting the service" not in done.stdout
    left = (project.folder, project.database_folder())
    wait_until(lambda: not processes_of(*left), STOP_SECONDS, lambda: processes_of(*left))


def test_a_process_leaves_what_it_has_compiled_to_the_next(
    make_project: Callable[[Answers], Project],
) -> None:
    project = make_project(DEFAULTS)
    project = replace(project, env={**project.env, "PYTHONDONTWRITEBYTECODE": "1"})
    done = project.poe("--quiet", "token")
    assert done.returncode == 1
    assert [*(project.folder / "template_tools").glob("__pycache__/token_command.*.pyc")]


def test_the_token_command_says_what_has_to_run(project: Project) -> None:
    done = project.poe("--quiet", "token")
    assert done.returncode == 1
    assert "start it with `uv run poe dev` in another terminal" in done.stderr
    assert "Traceback" not in output(done)
