"""Two instances are restarted in turns under load, and no request is lost.

The first balancer is ours: it asks for readiness, learns late and sends nothing twice. The second
is Debian's nginx, which does not ask at all. Where it cannot be installed its tests are skipped,
unless REQUIRE_NGINX is set.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.debian import Program
from tests.stopping import nginx
from tests.stopping.conftest import Instance, StartTwo, Written
from tests.stopping.load import Balancer, Client, Load

_CALLERS = 8
_FORMS = [
    pytest.param(3, 0, id="a few restarts"),
    pytest.param(50, 100_000, id="fifty restarts", marks=pytest.mark.long),
]
# A worker that imports for long on a busy machine is not dead.
_WORKERS = ("--workers", "2", "--timeout-worker-healthcheck", "60")
type Send = Callable[[str, str], Awaitable[int]]


async def restart_in_turns(
    instances: list[Instance], send: Send, restarts: int, requests: int
) -> Load:
    """Restart under load, until there were at least so many requests."""
    load, numbers = Load(send, requests), itertools.count()
    # An error in here ends the callers too.
    async with asyncio.TaskGroup() as callers:
        for _ in range(_CALLERS):
            callers.create_task(load.call(numbers))
        for number in range(restarts):
            # Both are in use again.
            await asyncio.sleep(3)
            instance = instances[number % 2]
            await asyncio.to_thread(instance.stop)
            await asyncio.to_thread(instance.start)
        load.is_over = True
    return load


def assert_nothing_is_lost(load: Load, written: Written) -> None:
    """Each request was answered, and each write that was is there, once."""
    print(f"{load.answers.total()} requests: {dict(load.answers)}")
    assert set(load.answers) == {"GET 200", "POST 200"}, load.answers
    assert sorted(written()) == sorted(load.written)


@pytest.mark.parametrize("keeps", [True, False], ids=["kept connections", "new connections"])
@pytest.mark.parametrize(("restarts", "requests"), _FORMS)
def test_a_balancer_that_learns_late_loses_nothing(
    start_two: StartTwo, written: Written, keeps: bool, restarts: int, requests: int
) -> None:
    instances = start_two(SERVER_DRAIN_SECONDS="4")

    async def run() -> Load:
        clients = [Client(it.port, keeps) for it in instances]
        balancer = Balancer(clients)
        watching = asyncio.create_task(balancer.watch())
        try:
            return await restart_in_turns(instances, balancer.request, restarts, requests)
        finally:
            watching.cancel()
            for client in clients:
                client.forget()

    assert_nothing_is_lost(asyncio.run(run()), written)


@pytest.mark.parametrize("options", [(), _WORKERS], ids=["one process", "workers"])
@pytest.mark.parametrize(("restarts", "requests"), _FORMS)
def test_nginx_loses_nothing(
    start_two: StartTwo,
    written: Written,
    program: Program,
    tmp_path: Path,
    options: tuple[str, ...],
    restarts: int,
    requests: int,
) -> None:
    instances = start_two(*options, SERVER_DRAIN_SECONDS="1")

    async def run(port: int) -> Load:
        client = Client(port, keeps=True)
        try:
            return await restart_in_turns(instances, client.request, restarts, requests)
        finally:
            client.forget()

    with nginx.running(program, tmp_path, [it.port for it in instances]) as port:
        load = asyncio.run(run(port))
    assert_nothing_is_lost(load, written)
