"""PostgreSQL servers with streaming replication, and PgBouncer before one of them.

PostgreSQL is the one that a rendered project develops with. Root runs the servers as another
account, because they refuse to be root's.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.debian import Program
from tests.processes import free_ports, is_open, wait_until
from tests.projects import Projects, succeed

_START_SECONDS = 60
_STOP_SECONDS = 60
USER = "app"

_FIND = """
import json, sys
from pathlib import Path
from template_tools.postgres.binaries import find_binaries
from template_tools.postgres.folders import reachable_binaries, server_account
account = server_account()
binaries = reachable_binaries(find_binaries(), account, Path(sys.argv[1]))
print(json.dumps([str(binaries.folder), account and account.uid, account and account.gid]))
"""
_POSTGRES = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "50",
}
_PGBOUNCER = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
server_login_retry = 1
query_wait_timeout = 3
"""


class Machine:
    """Where servers run: a folder, an account, PostgreSQL's programs and one password."""

    def __init__(self, folder: Path, programs: Path, uid: int | None, gid: int | None) -> None:
        self.folder = folder
        self.password = secrets.token_urlsafe(16)
        self._programs = programs
        self._uid = uid
        self._gid = gid

    def start(self, command: Sequence[str], log: Path, **variables: str) -> subprocess.Popen[bytes]:
        """Start a program as the account: one of PostgreSQL's, or one with a path."""
        with log.open("ab") as file:
            return subprocess.Popen(
                [str(self._programs / command[0]), *command[1:]],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"} | variables,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                user=self._uid,
                group=self._gid,
                extra_groups=None if self._uid is None else [],
            )

    def run(self, *command: str, **variables: str) -> str:
        """Run a program as the account to its end, and return what it printed."""
        log = self.folder / f"run-{secrets.token_hex(4)}.log"
        status = self.start(command, log, **variables).wait(_START_SECONDS)
        assert status == 0, f"{command} ended with {status}:\n{log.read_text()}"
        return log.read_text()

    def write(self, path: Path, text: str) -> None:
        """Write a file that the account alone may read."""
        path.touch(mode=0o600)
        path.write_text(text)
        self.own(path)

    def own(self, path: Path) -> None:
        """Let the account own a file or a folder."""
        if self._uid is not None and self._gid is not None:
            os.chown(path, self._uid, self._gid)


@contextmanager
def open_machine(projects: Projects) -> Iterator[Machine]:
    """Make a place for servers; it is gone with the context."""
    environment = projects.environment()
    python = Path(environment["UV_PROJECT_ENVIRONMENT"]) / "bin" / "python"
    project = projects.rendered({})
    # Pytest's own folders are closed to other accounts.
    with TemporaryDirectory(prefix="template-database-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        env = environment | {"PYTHONDONTWRITEBYTECODE": "1"}
        found = succeed(python, "-c", _FIND, name, cwd=project, env=env)
        programs, uid, gid = json.loads(found)
        yield Machine(folder, Path(programs), uid, gid)


class _Server:
    """A program that listens on a port, and can be ended and started again."""

    def __init__(self, machine: Machine, name: str) -> None:
        [self.port] = free_ports(1)
        self.machine = machine
        self.folder = machine.folder / name
        self.folder.mkdir(mode=0o700)
        machine.own(self.folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its database."""
        return f"postgresql://{USER}:{self.machine.password}@127.0.0.1:{self.port}/postgres"

    def command(self) -> list[str]:
        """Return the command that runs it."""
        raise NotImplementedError

    def variables(self) -> Mapping[str, str]:
        """Return the variables that the command needs."""
        return {}

    def start(self) -> None:
        """Run it, and return when it listens."""
        log = self.folder.with_suffix(".log")
        process = self.machine.start(self.command(), log, **self.variables())
        self._process = process

        def listens() -> bool:
            assert process.poll() is None, log.read_text()[-2000:]
            return is_open(self.port)

        wait_until(listens, _START_SECONDS, lambda: log.read_text()[-2000:])

    def end(self, by: signal.Signals = signal.SIGINT) -> None:
        """End it; SIGINT does so in order."""
        if self._process is not None:
            self._process.send_signal(by)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            self._process.kill()
            self._process.wait()
            self._process = None


class Postgres(_Server):
    """A server with its own data, or with a copy of another's, which it follows."""

    def __init__(self, machine: Machine, name: str, follows: "Postgres | None" = None) -> None:
        super().__init__(machine, name)
        data = f"--pgdata={self.folder / 'data'}"
        if follows:
            source = f"--dbname={follows.url}"
            machine.run(*("pg_basebackup", data, source, "--write-recovery-conf", "--no-sync"))
        else:
            password = self.folder / "password"
            machine.write(password, machine.password)
            login = (f"--username={USER}", f"--pwfile={password}", "--auth=scram-sha-256")
            machine.run("initdb", data, *login, "--encoding=UTF8", "--no-sync")

    def command(self) -> list[str]:
        """Return the command that runs it."""
        settings = _POSTGRES | {"port": str(self.port)}
        options = (("-c", f"{name}={value}") for name, value in settings.items())
        data = str(self.folder / "data")
        return ["postgres", "-D", data, *(part for option in options for part in option)]

    def start(self) -> None:
        """Run it, and return when it answers."""
        super().start()
        wait_until(self._answers, _START_SECONDS, self.folder.with_suffix(".log").read_text)

    def sql(self, statement: str) -> str:
        """Execute a statement, and return what it returns."""
        return self.machine.run("psql", "-qAtX", self.url, "-c", statement).strip()

    def _answers(self) -> bool:
        with suppress(AssertionError):
            return self.sql("SELECT 1") == "1"
        return False


class PgBouncer(_Server):
    """A pool of connections to a server, in transaction mode."""

    def __init__(
        self, machine: Machine, name: str, program: Program, server: Postgres, size: int
    ) -> None:
        super().__init__(machine, name)
        # The account may be unable to enter the folder of the extracted package.
        shutil.copy(program.path, self.folder / "pgbouncer")
        libraries = self.folder / "libraries"
        libraries.mkdir()
        for folder in filter(None, program.env.get("LD_LIBRARY_PATH", "").split(":")):
            shutil.copytree(folder, libraries, dirs_exist_ok=True)
        for path in [libraries, self.folder / "pgbouncer", *libraries.rglob("*")]:
            machine.own(path)
        users, self._settings = self.folder / "users.txt", self.folder / "pgbouncer.ini"
        machine.write(users, f'"{USER}" "{machine.password}"\n')
        text = _PGBOUNCER.format(server=server.port, port=self.port, users=users, size=size)
        machine.write(self._settings, text)

    def command(self) -> list[str]:
        """Return the command that runs it."""
        return [str(self.folder / "pgbouncer"), "-q", str(self._settings)]

    def variables(self) -> Mapping[str, str]:
        """Return where its libraries are."""
        return {"LD_LIBRARY_PATH": str(self.folder / "libraries")}
