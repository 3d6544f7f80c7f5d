"""Requests to a server of this machine.

They never go through a proxy, and need no HTTP client, whose import takes longer than a request.
"""

from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

# What `request` raises where there is no such server, or no HTTP.
NO_ANSWER = (OSError, HTTPException, ValueError)


def request(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10,
) -> tuple[int, bytes]:
    """Send a request, wait up to `timeout` seconds, and return the status and the body.

    Raises:
        OSError, HTTPException, ValueError: Nobody answers, or not by HTTP, or the URL is none.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("The URL names no host.")
    connection = HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        target = f"{parts.path or '/'}?{parts.query}"
        connection.request(method, target.removesuffix("?"), body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
