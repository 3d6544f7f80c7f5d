"""Measures cases in turns: the processor time of their servers, and how long callers wait."""

import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.cases import BARE, SERVICE, App, Case, new_jwts
from benchmarks.project import Answers, Load, database, run, signed
from benchmarks.servers import OTHER_CPUS, Server, free_port, serving

_WARM_UP = 300


@dataclass(frozen=True)
class Result:
    """What a case has cost: seconds, bytes of resident memory, and ratios to its limit.

    ``ratio`` is the limit's processor time by that of the case, ``tail`` the p99 of the case by
    that of the limit. Both are medians of the rounds, in each of which the two were neighbours.
    """

    case: Case
    ratio: float
    tail: float
    cpu: float
    p50: float
    p99: float
    memory: int


@dataclass(frozen=True)
class Start:
    """What starting costs: seconds until the first 200, processor time, memory; and the imports."""

    name: str
    seconds: float
    cpu: float
    imports: float
    memory: int


@dataclass(frozen=True)
class _Round:
    """One round of a case: processor time of a request, and the waiting times."""

    cpu: float
    p50: float
    p99: float


class Bench:
    """What all servers under measurement share: a database, a provider, and the load."""

    def __init__(self, url: str, issuer: str, load: Load, jwts: Iterator[str]) -> None:
        self.issuer = issuer
        self.load = load
        self.jwts = jwts
        self.settings = {
            "DATABASE_URL": url,
            "SSO_ISSUER": issuer,
            "SSO_AUDIENCE": "benchmark",
            "CLIENT_ID": "benchmark",
            "CLIENT_SECRET": "a-secret-of-the-benchmarks",
            # In production the provider would need TLS; the documentation pages cost nothing.
            "ENVIRONMENT": "development",
            "TOKEN_CACHE_SECONDS": "3600",
            # A line of the log is a write, whose cost is that of the machine's system calls.
            "LOG_LEVEL": "warning",
        }

    def settings_of(self, app: App) -> dict[str, str]:
        """Return the environment that an application gets."""
        own = dict(app.settings)
        if "DATABASE_REPLICA_URL" in own:
            own["DATABASE_REPLICA_URL"] = self.settings["DATABASE_URL"]
        if "OTEL_EXPORTER_OTLP_ENDPOINT" in own:
            own["OTEL_EXPORTER_OTLP_ENDPOINT"] = self.issuer
        return self.settings | own


@contextmanager
def bench(users: int, jwts: int) -> Iterator[Bench]:
    """Run the database, with so many users, and the provider, which has signed so many JWTs."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    keys, tokens = signed(jwts, issuer)
    provider = ("uvicorn", "apps.provider:app", "--log-level", "warning")
    known = {"PROVIDER_JWKS": keys, "SSO_ISSUER": issuer}
    with (
        database(users, issuer) as url,
        serving(*provider, port=port, cpus=OTHER_CPUS, settings=known),
        Load() as load,
    ):
        yield Bench(url, issuer, load, iter(tokens))


def jwts_needed(cases: list[Case], rounds: int) -> int:
    """Return how many JWTs the cases send."""
    several = sum(rounds * it.count + _WARM_UP for it in cases if it.requests is new_jwts)
    return several + len(cases) * (rounds + 1)


def measure(bench: Bench, cases: list[Case], rounds: int) -> list[Result]:
    """Return what each case has cost."""
    with ExitStack() as stack:
        servers = dict[App, Server]()
        for app in dict.fromkeys(case.app for case in cases):
            starting = serving(*app.command, settings=bench.settings_of(app))
            servers[app] = stack.enter_context(starting)
        for case in cases:
            _send(bench, case, servers[case.app], min(case.count, _WARM_UP))
        measured = defaultdict[str, list[_Round]](list)
        for number in range(rounds):
            print(f"benchmarks: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            # There and back again, so that what drifts favours nobody.
            for case in cases if number % 2 == 0 else reversed(cases):
                server = servers[case.app]
                before = server.cpu()
                answers = _send(bench, case, server, case.count)
                cpu = (server.cpu() - before) / case.count
                measured[case.name].append(_Round(cpu, answers.p50, answers.p99))
        memory = {case.name: servers[case.app].memory() for case in cases}
    return [_result(case, measured, memory[case.name]) for case in cases]


def _send(bench: Bench, case: Case, server: Server, count: int) -> Answers:
    requests = case.requests(count, bench.jwts)
    answers = bench.load.send(requests, count, server.port, case.connections)
    answers.expect(case.status, case.name)
    return answers


def _result(case: Case, measured: dict[str, list[_Round]], memory: int) -> Result:
    rounds, limits = measured[case.name], measured[case.limit]
    pairs = list(zip(rounds, limits, strict=True))
    return Result(
        case,
        ratio=statistics.median(limit.cpu / it.cpu for it, limit in pairs),
        tail=statistics.median(it.p99 / limit.p99 for it, limit in pairs),
        cpu=statistics.median(it.cpu for it in rounds),
        p50=statistics.median(it.p50 for it in rounds),
        p99=statistics.median(it.p99 for it in rounds),
        memory=memory,
    )


def measure_starts(bench: Bench, rounds: int) -> list[Start]:
    """Return what it costs to start the service, and what FastAPI and SQLModel alone cost."""
    apps = {
        "FastAPI and SQLModel, nothing else": (BARE, "apps.bare"),
        "the service": (SERVICE, "app.main"),
    }
    found = defaultdict[str, list[tuple[float, float, float, int]]](list)
    for _ in range(rounds):
        for name, (app, module) in apps.items():
            imports = float(run("imports", module, **bench.settings))
            with serving(*app.command, settings=bench.settings) as server:
                start = (server.seconds_to_start, server.cpu(), imports, server.memory())
                found[name].append(start)
    starts = []
    for name, several in found.items():
        seconds, cpu, imports, memory = map(statistics.median, zip(*several, strict=True))
        starts.append(Start(name, seconds, cpu, imports, int(memory)))
    return starts
