"""A replica serves the reads while it answers and keeps up; nobody notices that it is gone."""

import signal
from collections.abc import Iterator

import pytest

from tests.database.conftest import Run, Service
from tests.database.servers import Machine, Postgres
from tests.processes import wait_until

# The replica is asked every five seconds, and a start takes its time.
_NOTICED = 60


@pytest.fixture(scope="module")
def standby(machine: Machine, primary: Postgres) -> Iterator[Postgres]:
    """A server that follows the primary by streaming replication."""
    server = Postgres(machine, "standby", follows=primary)
    server.start()
    assert server.sql("SELECT pg_is_in_recovery()") == "t"
    yield server
    server.end()


@pytest.fixture(scope="module")
def service(run: Run, primary: Postgres, standby: Postgres) -> Service:
    return run(primary.url, DATABASE_REPLICA_URL=standby.url, DATABASE_REPLICA_MAX_LAG="1")


def reads_from_replica(service: Service) -> bool:
    response = service.http.get("/items")
    assert response.status_code == 200, response.text
    return bool(response.json()[1])


def test_a_replica_serves_what_only_reads(service: Service) -> None:
    created = service.http.post("/items", params={"name": "first"}).json()[0]

    # What was written is read at once with a DbSession, and soon with a ReadSession.
    own = service.http.get("/own", params={"first": created}).json()
    assert own[:2] == [1, False]
    wait_until(
        lambda: service.http.get("/items", params={"first": created}).json()[:2] == [1, True],
        5,
        service.said,
    )


def assert_bug_in_log(service: Service) -> None:
    assert service.http.post("/mistake").status_code == 500
    # It is logged after the answer.
    wait_until(lambda: "WriteInReadSession" in service.said(), _NOTICED, service.said)


def test_a_write_in_a_read_session_fails_on_either(
    run: Run, service: Service, primary: Postgres
) -> None:
    before = primary.sql("SELECT count(*) FROM item")
    assert_bug_in_log(service)
    assert_bug_in_log(run(primary.url))
    assert primary.sql("SELECT count(*) FROM item") == before


def test_a_primary_that_is_idle_leaves_its_replica_up_to_date(
    run: Run, primary: Postgres, standby: Postgres
) -> None:
    """The age of the last transaction is no lag where there has been none since."""
    primary.sql("INSERT INTO item (name) VALUES ('last')")
    age = "SELECT coalesce(now() - pg_last_xact_replay_timestamp() > '2 seconds', false)"
    wait_until(lambda: standby.sql(age) == "t", _NOTICED, lambda: standby.sql(age))
    later = run(primary.url, DATABASE_REPLICA_URL=standby.url, DATABASE_REPLICA_MAX_LAG="1")
    assert reads_from_replica(later)


def test_the_primary_serves_while_the_replica_is_too_far_behind(
    service: Service, primary: Postgres, standby: Postgres
) -> None:
    assert reads_from_replica(service)
    standby.sql("SELECT pg_wal_replay_pause()")
    try:
        primary.sql("INSERT INTO item (name) VALUES ('late')")
        wait_until(lambda: not reads_from_replica(service), _NOTICED, service.said)
        assert service.said().count("more than 1 s behind") == 1
    finally:
        standby.sql("SELECT pg_wal_replay_resume()")
    wait_until(lambda: reads_from_replica(service), _NOTICED, service.said)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL], ids=lambda it: it.name)
def test_no_request_fails_when_the_replica_ends_and_comes_back(
    service: Service, standby: Postgres, by: signal.Signals
) -> None:
    assert reads_from_replica(service)
    with service.under_load(4) as seen:
        standby.end(by)
        served_by_primary = not reads_from_replica(service)
        standby.start()
        wait_until(lambda: reads_from_replica(service), _NOTICED, service.said)

    assert served_by_primary
    # A request whose statement the replica was executing may be told to try again.
    assert seen[200] > 0
    assert set(seen) <= {200, 503}, service.said()[-3000:]
    assert seen[503] <= 4, service.said()[-3000:]
