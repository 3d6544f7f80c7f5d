"""Measure the GET routes of this service beside /livez: processor time, and how long callers wait.

It runs a server of its own, on the development database and a development provider, with a token
that has every scope. A path with one parameter gets an id of the list above it.
"""

import asyncio
import os
import re
import secrets
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

import httpx2

from app import server
from app.core.project import NAME, SSO_MODE
from template_tools.arguments import ArgumentParser
from template_tools.configuration import PROJECT_ROOT, configured, roles_claim
from template_tools.dev import migrate, settings_of_provider
from template_tools.messages import _
from template_tools.postgres import PostgresError, development_database
from template_tools.processes import HOST, DevError, accepts_connections, free_port
from template_tools.provider import RunningProvider, running_provider
from template_tools.provider.config import ProviderConfig, ProviderError

_LIVEZ = "/livez"
_OURS = (_LIVEZ, "/readyz", "/health", "/.well-known/")
_CONNECTIONS, _ROUNDS, _REQUESTS = 8, 5, 400
_START_SECONDS, _STOP_SECONDS = 60, 20


@dataclass
class _Route:
    """A path, the one that is requested, and a list of measurements: (CPU, p50, p99) in seconds."""

    path: str
    request: bytes = b""
    remark: str = ""
    rounds: list[tuple[float, float, float]] = field(default_factory=list)


def main() -> int:
    """Print the table; errors are one sentence on standard error."""
    parser = ArgumentParser(prog="uv run poe bench", description=_(__doc__))
    further = _("further paths, such as '/api/v1/order/?limit=5'")
    parser.add_argument("paths", nargs="*", help=further)
    parser.add_argument("--role", action="append", default=[], help=_("a role of the token"))
    options = parser.parse_args()
    if wrong := [path for path in options.paths if not path.startswith("/")]:
        parser.error(_("{path} is not a path: write it as /api/v1/order/", path=wrong[0]))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            print(_table(_measured(stack, options.paths, options.role)))
    except KeyboardInterrupt:
        print(f"\n{_('Stopped.')}", file=sys.stderr)
        return 130
    except (DevError, PostgresError, ProviderError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _measured(stack: ExitStack, paths: list[str], roles: list[str]) -> list[_Route]:
    cpus = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if len(cpus) > 1:
        # The server has a processor of its own; all that it waits for has the others.
        os.sched_setaffinity(0, cpus[1:])
    os.environ["ENVIRONMENT"] = configured("ENVIRONMENT") or "development"
    os.environ |= {"DOCS_ENABLED": "true", "LOG_LEVEL": "warning"}
    for name in [it for it in os.environ if it.startswith("UVICORN_")]:
        del os.environ[name]
    stack.enter_context(development_database(PROJECT_ROOT))
    provider = stack.enter_context(_provider())
    migrate(_("nothing was measured"))
    port = free_port()
    clock = stack.enter_context(_serving(port, set(cpus[:1])))
    with httpx2.Client(base_url=f"http://{HOST}:{port}", trust_env=False, timeout=30) as client:
        description = client.get("/openapi.json").raise_for_status().json()
        form = {} if (configured("SSO_MODE") or SSO_MODE) == "introspect" else {"format": "jwt"}
        claims: dict[str, object] = {**form, roles_claim(): roles}
        token = provider.mint(scope=_scopes(description), **claims)
        client.headers["Authorization"] = f"Bearer {token}"
        routes = [_prepared(client, path) for path in _paths(description, paths)]
    ready = [route for route in routes if not route.remark]
    print(
        _("bench: measuring {number} routes, for some seconds each", number=len(ready)),
        file=sys.stderr,
    )
    # The first round only warms up.
    for number in range(-1, _ROUNDS):
        for route in ready:
            before = clock()
            waits = sorted(asyncio.run(_send(port, route.request)))
            cpu = (clock() - before) / len(waits)
            if number >= 0:
                p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
                route.rounds.append((cpu, p50, p99))
    return routes


@contextmanager
def _provider() -> Iterator[RunningProvider]:
    """Run a development provider, and set the settings that make the service trust it."""
    config = ProviderConfig(
        audience=configured("SSO_AUDIENCE") or NAME,
        client_id=configured("CLIENT_ID") or NAME,
        client_secret=secrets.token_urlsafe(24),
    )
    with running_provider(config) as provider:
        os.environ |= settings_of_provider(provider.issuer)
        os.environ |= {
            "SSO_AUDIENCE": config.audience,
            "CLIENT_ID": config.client_id,
            "CLIENT_SECRET": config.client_secret,
        }
        yield provider


@contextmanager
def _serving(port: int, cpus: set[int]) -> Iterator[Callable[[], float]]:
    """Run the server, and yield what returns its processor time so far."""
    ours, its = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(its, port))
    process.start()
    its.close()
    try:
        if cpus:
            os.sched_setaffinity(process.ident or 0, cpus)
        deadline = time.monotonic() + _START_SECONDS
        while not accepts_connections(port):
            if not process.is_alive() or time.monotonic() > deadline:
                raise DevError(
                    "The service did not start in {seconds} seconds: see above.",
                    seconds=_START_SECONDS,
                )
            time.sleep(0.05)
        yield partial(_ask, ours)
    finally:
        ours.close()
        process.join(_STOP_SECONDS)
        process.kill()


def _ask(connection: Connection) -> float:
    connection.send(None)
    seconds: float = connection.recv()
    return seconds


def _serve(connection: Connection, port: int) -> None:
    """Serve, in a process of its own, as in production."""
    if sys.platform != "win32":
        # Ctrl-C in the terminal reaches only the parent.
        os.setsid()
    Thread(target=_tell_time, args=(connection,), daemon=True).start()
    sys.argv[1:] = ["--host", HOST, "--port", str(port), "--workers", "1", "--no-access-log"]
    server.main()


def _tell_time(connection: Connection) -> None:
    """Say how much processor time this process has had, and stop it when nobody asks any more."""
    with suppress(EOFError, OSError):
        while True:
            connection.recv()
            connection.send(time.process_time())
    os.kill(os.getpid(), signal.SIGTERM)


def _scopes(description: dict[str, Any]) -> str:
    """Return every scope that a route asks for."""
    operations = [it for path in description["paths"].values() for it in path.values()]
    schemes = [scheme for it in operations for scheme in it.get("security", [])]
    return " ".join(sorted({scope for it in schemes for some in it.values() for scope in some}))


def _paths(description: dict[str, Any], further: list[str]) -> list[str]:
    paths = [path for path, methods in description["paths"].items() if "get" in methods]
    own = [path for path in paths if not path.startswith(_OURS)]
    return list(dict.fromkeys([_LIVEZ, *own, *further]))


def _prepared(client: httpx2.Client, path: str) -> _Route:
    """Return the route with a request that it answers, or with a remark that says why it has none.

    Only the first page of a list is looked at for an id.
    """
    route = _Route(path)
    try:
        head, parameter, _rest = path.partition("{")
        filled = path
        if parameter:
            found = client.get(head)
            items = found.json().get("items") if found.is_success else None
            if not items or path.count("{") > 1:
                route.remark = _("not measured: no id from {path}; name a path with one", path=head)
                return route
            filled = re.sub(r"{.+?}", str(items[0]["id"]), path)
        response = client.get(filled)
    except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        route.remark = _("not measured: {reason}", reason=type(error).__name__)
        return route
    if not response.is_success:
        route.remark = _("not measured: {reason}", reason=response.status_code)
    lines = [f"GET {response.request.url.raw_path.decode()} HTTP/1.1", f"Host: {HOST}"]
    lines += [f"Authorization: {client.headers['Authorization']}", "Accept: */*", "", ""]
    route.request = "\r\n".join(lines).encode()
    return route


async def _send(port: int, request: bytes) -> list[float]:
    """Send the request again and again on some connections, and return the seconds of each."""
    seconds: list[float] = []

    async def send_in_turn() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        for _number in range(_REQUESTS // _CONNECTIONS):
            began = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if length := re.search(rb"\ncontent-length: (\d+)", head):
                await reader.readexactly(int(length[1]))
            elif b"\ntransfer-encoding: chunked" in head:
                while size := int(await reader.readline(), 16):
                    await reader.readexactly(size + 2)
                await reader.readline()
            seconds.append(time.perf_counter() - began)
        writer.close()

    async with asyncio.TaskGroup() as tasks:
        for _number in range(_CONNECTIONS):
            tasks.create_task(send_in_turn())
    return seconds


def _table(routes: list[_Route]) -> str:
    """Return the table, in Markdown; what is measured is divided by what /livez took in turn."""
    lines = [
        "| GET | CPU ÷ /livez | CPU ms | p50 ÷ | p50 ms | p99 ÷ | p99 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    base = routes[0].rounds
    for route in routes:
        cells = [route.remark] + [""] * 5
        if route.rounds:
            cells = []
            for which in range(3):
                pairs = zip(route.rounds, base, strict=True)
                ratio = statistics.median(own[which] / livez[which] for own, livez in pairs)
                value = statistics.median(it[which] for it in route.rounds)
                cells += [f"{ratio:.1f}", f"{value * 1000:.2f}"]
        lines.append(f"| {route.path} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
