"""What the tests of this folder look for in answers and in the log."""

import logging

import httpx2


async def get(
    caller: httpx2.AsyncClient, token: str | None, path: str = "/anyone"
) -> httpx2.Response:
    """Call a route with a token."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return await caller.get(path, headers=headers)


def assert_problem(response: httpx2.Response, status: int, kind: str, title: str) -> None:
    """Check the document of RFC 9457 §3 around an error; ``kind`` is the end of its type."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    document = response.json()
    assert document["type"] == (kind if ":" in kind else f"urn:problem:{kind}")
    assert document["title"] == title
    assert document["status"] == status


def assert_refused(response: httpx2.Response) -> None:
    """Check that the token is blamed, in the way of RFC 6750 §3.1."""
    assert_problem(response, 401, "invalid-token", "Invalid token")
    assert response.headers["www-authenticate"] == 'Bearer realm="api", error="invalid_token"'


def assert_unavailable(response: httpx2.Response, kind: str = "sso-unavailable") -> None:
    """Check that an outage is not blamed on the caller: a 401 would log their user out."""
    assert_problem(response, 503, kind, f"Identity provider {kind.removeprefix('sso-')}")
    assert "www-authenticate" not in response.headers
    assert 0 < int(response.headers["retry-after"]) <= 60


class Log(logging.Handler):
    """Everything that is logged, by the libraries too."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._texts: list[str] = []
        self._lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self._texts.append(self.format(record))
        if record.name.startswith("app."):
            self._lines.append((record.levelname, record.getMessage()))

    @property
    def text(self) -> str:
        """All that was logged."""
        return "\n".join(self._texts)

    def lines(self) -> list[tuple[str, str]]:
        """Return the level and the text of what the service has logged since the last call."""
        lines, self._lines = self._lines, []
        return lines

    def levels(self) -> list[str]:
        """Return the levels of what the service has logged since the last call."""
        return [level for level, _ in self.lines()]
