"""Behind Debian's PgBouncer in transaction mode, few connections serve many requests.

Where PgBouncer cannot be installed the tests are skipped, unless REQUIRE_PGBOUNCER is set.
"""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.database.conftest import Run, Service
from tests.database.servers import USER, Machine, PgBouncer, Postgres
from tests.debian import find_or_skip
from tests.processes import wait_until

_SERVERS = 2
_RECOVERED = 60
_LIMITS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")


@pytest.fixture(scope="module")
def pooler(machine: Machine, primary: Postgres, shared_folder: Path) -> Iterator[PgBouncer]:
    """A pooler with two connections to the server."""
    program = find_or_skip("usr/sbin/pgbouncer", "pgbouncer", shared_folder)
    pooler = PgBouncer(machine, "pgbouncer", program, primary, _SERVERS)
    pooler.start()
    yield pooler
    pooler.end()


@pytest.fixture(scope="module")
def service(run: Run, pooler: PgBouncer) -> Service:
    return run(pooler.url, DATABASE_PGBOUNCER="true", DATABASE_POOL_SIZE="20")


def test_many_requests_share_few_connections_without_an_error(service: Service) -> None:
    def call(number: int) -> tuple[int, int]:
        path = ("/items", "/own", "/items")[number % 3]
        method, parameters = ("POST", {"name": "x"}) if number % 3 == 2 else ("GET", {"first": "1"})
        response = service.http.request(method, path, params=parameters)
        return response.status_code, response.json()[-1]

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(call, range(600)))

    assert Counter(status for status, _ in answers) == {200: 600}
    assert len({server for _, server in answers}) == _SERVERS


def test_without_the_setting_it_is_told_apart_from_a_bug(run: Run, pooler: PgBouncer) -> None:
    """PgBouncer refuses the limits that a client brings at the start of a connection."""
    response = run(pooler.url).http.get("/items")
    assert response.status_code == 503
    assert response.json()["type"] == "urn:problem:database-unavailable"


def test_the_server_ends_what_takes_too_long_once_the_role_says_so(
    run: Run, pooler: PgBouncer, primary: Postgres
) -> None:
    unlimited = run(pooler.url, DATABASE_PGBOUNCER="true")
    assert unlimited.http.get("/items").status_code == 200
    assert f"ALTER ROLE {USER} SET" in unlimited.said()

    for limit in _LIMITS:
        primary.sql(f"ALTER ROLE {USER} SET {limit} = '300ms'")
    # The connections that the pooler has already keep what they began with.
    pooler.end()
    pooler.start()
    try:
        limited = run(pooler.url, DATABASE_PGBOUNCER="true")
        assert limited.http.get("/slow").status_code == 504
        assert "ALTER ROLE" not in limited.said()
    finally:
        for limit in _LIMITS:
            primary.sql(f"ALTER ROLE {USER} RESET {limit}")
        pooler.end()
        pooler.start()


@pytest.mark.parametrize("victim", ["pooler", "primary"])
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL], ids=lambda it: it.name)
def test_a_restart_of_what_lies_behind_costs_nothing_but_503s(
    request: pytest.FixtureRequest, service: Service, victim: str, by: signal.Signals
) -> None:
    server: PgBouncer | Postgres = request.getfixturevalue(victim)

    def answers() -> bool:
        return service.http.get("/items").status_code == 200

    wait_until(answers, _RECOVERED, service.said)
    with service.under_load(8) as seen:
        time.sleep(0.5)  # The load, of which some requests are in the middle of something.
        server.end(by)
        time.sleep(0.5)  # The outage.
        server.start()
        wait_until(answers, _RECOVERED, service.said)

    assert set(seen) == {200, 503}, service.said()[-3000:]
