"""The process that starts PostgreSQL and stops it once no lease remains.

It runs detached from the clients, in its own session. It starts quickly because it runs without
site-packages: import only the standard library here. Four locks in the state folder tell what runs:

- `leases`: shared by the clients; who holds it exclusively may stop the server
- `supervisor`: held by the one supervisor
- `server`: held by the supervisor and by every process of PostgreSQL, which inherit it
- `ready`: held while the server accepts connections; the file says on which port

If the supervisor is killed, Linux stops the server; elsewhere the next start does.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from template_tools.messages import _
from template_tools.postgres import locks
from template_tools.postgres.binaries import Binaries, PostgresError
from template_tools.postgres.folders import Account, reachable_binaries, server_account
from template_tools.processes import HOST, end_with_parent, is_free

USER = "app"
PORTS_TO_TRY = 50
START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.2
SIGNALS = ("SIGTERM", "SIGINT") if sys.platform == "win32" else ("SIGTERM", "SIGINT", "SIGHUP")
# Enough for eight test workers with a pool of ten connections and an overflow of ten each.
MAX_CONNECTIONS = 200
# For PostgreSQL this is a fast shutdown.
_END_WITH_SUPERVISOR = partial(end_with_parent, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of databases, and what is needed to run it."""

    folder: Path
    profile: str
    binaries: Binaries
    account: Account | None
    server_lock: int

    @property
    def data(self) -> Path:
        return self.folder / "cluster" / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run a program of PostgreSQL as the account; it inherits the server's lock and the log."""
        return subprocess.Popen(
            [self.binaries.program(program), *arguments],
            cwd=self.folder,
            env=os.environ | {"LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=2,
            stderr=2,
            preexec_fn=_END_WITH_SUPERVISOR if sys.platform == "linux" else None,
            pass_fds=() if sys.platform == "win32" else (self.server_lock,),
            user=self.account.uid if self.account else None,
            group=self.account.gid if self.account else None,
            extra_groups=[] if self.account else None,
        )

    def failure(self, what: str) -> PostgresError:
        """Return an error that quotes the end of the log."""
        lines = self.log.read_text(errors="replace").splitlines()
        quoted = " / ".join(
            re.sub(r"^[-\d]+ [.:\d]+ UTC \[\d+\] ", "", line) for line in lines[-5:]
        )
        return PostgresError(
            "{what} The log {log} ends with: {end}",
            what=what,
            log=self.log,
            end=quoted or _("nothing"),
        )


def main() -> None:
    """Carry out the order on the standard input and answer on the standard output.

    The order is an object with `folder`, `profile`, `bin`, `version`, `first_port` and
    `grace_seconds`; the answer is `{}` once the server is ready, else `{"error": "a sentence"}`.
    """
    order = json.load(sys.stdin)
    if sys.platform != "win32":
        # The client waits for its child, so that no zombie remains; our child goes on alone.
        if os.fork():
            os._exit(0)
        os.umask(0o022)
    for name in SIGNALS:
        signal.signal(getattr(signal, name), _exit)
    try:
        _supervise(order)
    except (PostgresError, OSError) as error:
        _answer({"error": str(error)})
        sys.exit(1)


def _exit(_signal: int, _frame: object) -> NoReturn:
    # A second signal must not interrupt the shutdown of the server.
    for name in SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.exit(0)


def _answer(answer: dict[str, str]) -> None:
    """Answer the client, which may be gone, and close the pipe to it."""
    with suppress(OSError):
        os.write(1, json.dumps(answer).encode())
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)


def _supervise(order: dict[str, str]) -> None:
    folder = Path(order["folder"])
    while locks.try_acquire(folder / "supervisor") is None:
        # Another supervisor is starting the server.
        if locks.read_published(folder / "ready"):
            _answer({})
            return
        time.sleep(0.02)
    os.ftruncate(2, 0)  # The log, which the server writes too.
    binaries = Binaries(Path(order["bin"]), order["version"])
    server_lock = _take_server_lock(folder, binaries)
    account = server_account()
    cluster = Cluster(
        folder=folder,
        profile=order["profile"],
        binaries=reachable_binaries(binaries, account, folder),
        account=account,
        server_lock=server_lock,
    )
    with _running_postgres(cluster, int(order["first_port"])) as (postmaster, port):
        published = json.dumps({"port": port, "supervisor": os.getpid(), "server": postmaster.pid})
        ready = locks.publish(folder / "ready", published)
        _answer({})
        try:
            _wait_until_unused(cluster, postmaster, float(order["grace_seconds"]))
        finally:
            os.close(ready)


# Taking over from a supervisor that was killed


def _take_server_lock(folder: Path, binaries: Binaries) -> int:
    """Return the lock that proves that no server runs; stop one that has lost its supervisor."""
    data = folder / "cluster" / "data"
    if sys.platform == "win32":
        # Processes do not inherit locks there; pg_ctl does nothing unless the server runs.
        _pg_ctl_stop(binaries, data)
        return locks.acquire(folder / "server")
    for stop_signal in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + STOP_SECONDS / 3
        while time.monotonic() < deadline:
            lock = locks.try_acquire(folder / "server")
            if lock is not None:
                # PostgreSQL refuses to start if the process id in a stale file is in use again.
                (data / "postmaster.pid").unlink(missing_ok=True)
                return lock
            _signal_orphan(data, stop_signal)
            time.sleep(0.05)
    raise PostgresError(
        "A PostgreSQL server in {folder} does not stop. End the process whose id is in {file}.",
        folder=data,
        file=data / "postmaster.pid",
    )


def _signal_orphan(data: Path, stop_signal: signal.Signals) -> None:
    # While the server's lock is held, the file names a running server, or initdb is running.
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError, ValueError):
        os.kill(int((data / "postmaster.pid").read_text().split("\n")[0]), stop_signal)


# Creating a cluster


def _ensure_cluster(cluster: Cluster) -> None:
    """Create the cluster unless it exists; an unfinished one has another name."""
    final = cluster.data.parent
    if final.exists():
        if _major_version(cluster) == cluster.binaries.major:
            return
        if cluster.profile == "dev":
            raise _other_version(cluster)
        shutil.rmtree(final)
    unfinished = final.with_name("cluster-unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    try:
        _initialise(cluster, unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(final)


def _major_version(cluster: Cluster) -> int | None:
    try:
        return int((cluster.data / "PG_VERSION").read_text())
    except (OSError, ValueError):
        return None


def _other_version(cluster: Cluster) -> PostgresError:
    found = _major_version(cluster)
    return PostgresError(
        "The data in {folder} was written by {creator}, and PostgreSQL {version} cannot read it. "
        "It is untouched. To keep it, go back to that version and copy the data with pg_dump; to "
        "start with an empty database, rename {cluster}.",
        folder=cluster.data,
        creator=f"PostgreSQL {found}" if found else _("another program"),
        version=cluster.binaries.major,
        cluster=cluster.data.parent,
    )


def _initialise(cluster: Cluster, folder: Path) -> None:
    for path in (cluster.binaries.folder, folder):
        # initdb has a shell run the server, and only puts double quotes around the paths.
        if sys.platform != "win32" and (special := re.search(r'["$`\\\n]', str(path))):
            raise PostgresError(
                "PostgreSQL cannot create its data where a path contains {special}: "
                "{path}. Move the project to a folder without it, or set DATABASE_URL.",
                special=repr(special.group()),
                path=path,
            )
    folder.mkdir(mode=0o700)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24))
    data = folder / "data"
    data.mkdir(mode=0o700)
    if sys.platform != "win32" and cluster.account is not None:
        folder.chmod(0o711)
        for path in (password, data):
            os.chown(path, cluster.account.uid, cluster.account.gid)
    initdb = cluster.spawn(
        "initdb",
        f"--pgdata={data}",
        f"--username={USER}",
        f"--pwfile={password}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-instructions",
        *_locale(cluster.binaries.major),
        # A random password needs no key stretching, which slows every connection.
        *(["--set=scram_iterations=1"] if cluster.binaries.major >= 16 else []),
        *(["--no-sync"] if cluster.profile == "test" else []),
    )
    try:
        code = initdb.wait()
    except BaseException:
        initdb.kill()
        raise
    if code != 0:
        raise cluster.failure(_("PostgreSQL could not create its data."))


def _locale(major: int) -> list[str]:
    """Return options for a collation by code point, with Unicode's upper and lower case.

    Before PostgreSQL 17 it is one of the operating system, which only Linux has.
    """
    if major >= 17:
        return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    return ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]


# Running the server


@contextmanager
def _running_postgres(
    cluster: Cluster, first_port: int
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    _ensure_cluster(cluster)
    disposable = cluster.profile == "test"
    for port in range(first_port, first_port + PORTS_TO_TRY):
        if not is_free(port):
            continue
        postmaster = cluster.spawn("postgres", *_arguments(cluster, port))
        try:
            if _becomes_ready(cluster, postmaster):
                yield postmaster, port
                return
        finally:
            _stop(cluster, postmaster)
        if not is_free(port):
            continue  # Another program has taken the port in the meantime.
        if not disposable:
            raise cluster.failure(_("PostgreSQL did not start."))
        # Test data is not synced to the disk, so a power cut may have damaged it.
        disposable = False
        shutil.rmtree(cluster.data.parent)
        _ensure_cluster(cluster)
    last_port = first_port + PORTS_TO_TRY - 1
    raise PostgresError(
        "No port from {first} to {last} is free: free one of them.",
        first=first_port,
        last=last_port,
    )


def _arguments(cluster: Cluster, port: int) -> list[str]:
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "max_connections": str(MAX_CONNECTIONS),
        "shared_buffers": "16MB",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_logical_replication_workers": "0",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_messages": "error",
        "log_checkpoints": "off",
    }
    if cluster.binaries.major >= 16:
        settings["scram_iterations"] = "1"
    if cluster.binaries.major >= 18:
        settings["io_method"] = "sync"
    if cluster.profile == "test":
        for name in ("fsync", "full_page_writes", "synchronous_commit", "autovacuum"):
            settings[name] = "off"
    options = (("-c", f"{name}={value}") for name, value in settings.items())
    return ["-D", str(cluster.data), *(part for option in options for part in option)]


def _becomes_ready(cluster: Cluster, postmaster: subprocess.Popen[bytes]) -> bool:
    """Wait until the server accepts connections; return False when it has ended instead."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if postmaster.poll() is not None:
            return False
        with suppress(OSError):
            # The last line of the file is the server's state.
            if (cluster.data / "postmaster.pid").read_text().rstrip().endswith("ready"):
                return True
        time.sleep(0.005)
    seconds = round(START_SECONDS)
    raise cluster.failure(_("PostgreSQL was not ready after {seconds} seconds.", seconds=seconds))


def _wait_until_unused(
    cluster: Cluster, postmaster: subprocess.Popen[bytes], grace_seconds: float
) -> None:
    """Return when the server or its data is gone, or there was no lease for the grace period.

    In the last case this process holds the lock of the leases until it ends, so that a new client
    waits until the server has stopped.
    """
    used_at = time.monotonic()
    # PostgreSQL itself looks for its data once a minute.
    while postmaster.poll() is None and (cluster.data / "postmaster.pid").exists():
        time.sleep(min(POLL_SECONDS, grace_seconds))
        try:
            alone = locks.try_acquire(cluster.folder / "leases")
        except FileNotFoundError:
            return  # The project has been deleted.
        if alone is None:
            used_at = time.monotonic()
        elif time.monotonic() - used_at >= grace_seconds:
            return
        else:
            os.close(alone)


def _stop(cluster: Cluster, postmaster: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        _pg_ctl_stop(cluster.binaries, cluster.data)
        postmaster.wait(STOP_SECONDS)
        return
    for stop_signal in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        postmaster.send_signal(stop_signal)
        with suppress(subprocess.TimeoutExpired):
            postmaster.wait(STOP_SECONDS)
            return


def _pg_ctl_stop(binaries: Binaries, data: Path) -> None:
    stop = [binaries.program("pg_ctl"), "stop", "-D", str(data), "-m", "fast"]
    subprocess.run(stop, capture_output=True, check=False)


if __name__ == "__main__":
    main()
