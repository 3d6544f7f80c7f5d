"""What grows with time, tokens, rows and callers, and what must not."""

import base64
import json
import statistics
import urllib.request
from uuid import UUID

from benchmarks.cases import SERVICE, TOKEN, new_tokens, request, service, user_id
from benchmarks.measure import Bench
from benchmarks.servers import serving

ROWS = 1_000_000
_REQUESTS = 300_000
_TOKENS = 200_000
_STEPS = 10
_CALLERS = 600
_PAGES = 30
_ME = "/api/v1/user/me"
_LIST = "/api/v1/user/?limit=100"


def growth(bench: Bench) -> str:
    """Return the figures, as Markdown."""
    tables = [_memory(bench), _pages(bench), _herd(bench)]
    return "\n\n".join(tables)


def _memory(bench: Bench) -> str:
    """Return the memory of a worker while it serves one token, and while it serves many."""
    lines = [
        "| memory of a worker, MB, after | " + " | ".join(f"{it}0 %" for it in range(_STEPS + 1)),
        "|---" * (_STEPS + 2),
    ]
    for name, count in (("requests with one token", _REQUESTS), ("distinct tokens", _TOKENS)):
        with serving(*SERVICE.command, settings=bench.settings_of(SERVICE)) as server:
            sizes = []
            # The pool and the caches of whatever is used once are not growth.
            for step in (1_000, *[count // _STEPS] * _STEPS):
                is_one = count == _REQUESTS
                requests = [request("GET", _ME)] if is_one else new_tokens(step, bench.jwts)
                _expect_200(bench, requests, step, server.port, 16)
                sizes.append(server.memory() / 1e6)
        lines.append(f"| {count:,} {name} | " + " | ".join(f"{it:.0f}" for it in sizes))
    return "\n".join(f"{line} |" for line in lines)


def _pages(bench: Bench) -> str:
    """Return how long the first and the last page of a million rows take, in turns."""
    last_before = UUID(user_id(ROWS - 100)).bytes
    cursor = base64.urlsafe_b64encode(last_before).decode().rstrip("=")
    paths = {"first": _LIST, "last": f"{_LIST}&cursor={cursor}"}
    with serving(*SERVICE.command, settings=bench.settings_of(SERVICE)) as server:
        for name, path in paths.items():
            url = f"http://127.0.0.1:{server.port}{path}"
            asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
            with urllib.request.urlopen(asked) as response:
                page = json.load(response)
            assert len(page["items"]) == 100
            assert (page["next_cursor"] is None) == (name == "last")
        times = dict[str, list[float]](first=[], last=[])
        for _ in range(_PAGES):
            for name, path in paths.items():
                times[name].append(_expect_200(bench, [request("GET", path)], 20, server.port, 1))
    first, last = (statistics.median(times[name]) for name in ("first", "last"))
    return (
        f"Of {ROWS:,} rows, a page of 100 took {first * 1e3:.1f} ms at the beginning and "
        f"{last * 1e3:.1f} ms at the end: {last / first:.2f} ×."
    )


def _herd(bench: Bench) -> str:
    """Return how often the provider is asked when many callers come at once with a new token."""
    app = service(DATABASE_POOL_TIMEOUT="60")
    before = _calls(bench)
    with serving(*app.command, settings=bench.settings_of(app)) as server:
        requests = [request("GET", _ME, token="of-the-herd")]  # noqa: S106
        _expect_200(bench, requests, _CALLERS, server.port, _CALLERS)
    calls = _calls(bench) - before
    return f"{_CALLERS} callers at once, with one new token: the provider was asked {calls} ×."


def _calls(bench: Bench) -> int:
    with urllib.request.urlopen(f"{bench.issuer}/calls") as response:
        calls: int = json.load(response)["calls"]
        return calls


def _expect_200(
    bench: Bench, requests: list[str], count: int, port: int, connections: int
) -> float:
    """Send requests, and return the median of the times."""
    answers = bench.load.send(requests, count, port, connections)
    answers.expect(200, "growth")
    return answers.p50
