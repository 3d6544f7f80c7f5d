"""Why the provider could not be reached, in the words of an operator.

A client's own exception for an untrusted certificate, a name that does not resolve and a refused
connection is the same; what tells them apart is the exception that caused it.
"""

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from urllib.request import getproxies

import httpx2

_UNREACHABLE = {
    errno.ECONNREFUSED: "the connection is refused",
    errno.ECONNRESET: "the connection is closed by the other side",
    errno.EHOSTUNREACH: "there is no route to the host",
    errno.ENETUNREACH: "there is no route to the network",
}
# OpenSSL's numbers (X509_V_ERR_CERT_NOT_YET_VALID and so on), which do not change as texts do.
_WRONG_TIME = {9, 10}
_WRONG_HOST = {62, 64}


def origin(url: httpx2.URL) -> str:
    """Return the scheme, host and port of a URL; the rest of it may hold a secret."""
    port = "" if url.port is None else f":{url.port}"
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}{port}"


def describe_failure(error: Exception, url: httpx2.URL, client: httpx2.AsyncClient) -> str:
    """Return what failed, where, why, and which setting is concerned."""
    proxy = _proxy_variable(url, client)
    through = f" through the proxy of {proxy}" if proxy else ""
    where = f"{type(error).__name__} at {origin(url)}{through}"
    reason = _reason(error)
    if proxy and not isinstance(error, httpx2.PoolTimeout):
        reason = f"{reason or 'the connection failed'}; if the proxy is not meant, set NO_PROXY"
    return f"{where} ({reason})" if reason else where


def _reason(error: Exception) -> str | None:
    if isinstance(error, httpx2.ConnectTimeout):
        return "no connection within 1 s"
    if isinstance(error, httpx2.PoolTimeout):
        return "all connections are in use"
    if isinstance(error, httpx2.TimeoutException):
        return "no answer within 5 s"
    if isinstance(error, httpx2.ProxyError):
        return "the proxy refuses to connect"
    if isinstance(error, httpx2.RemoteProtocolError):
        return "the reply is cut off, or is not HTTP"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate_failure(cause)
        if isinstance(cause, ssl.SSLError):
            return "no TLS connection could be made; is it an http:// address?"
        if isinstance(cause, socket.gaierror):
            return "the host's name does not resolve"
        if isinstance(cause, OSError) and cause.errno:
            return _UNREACHABLE.get(cause.errno) or os.strerror(cause.errno)
    return None


def _certificate_failure(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _WRONG_TIME:
        return "the certificate has expired or is not valid yet"
    if error.verify_code in _WRONG_HOST:
        return "the certificate is for another host name"
    return "the certificate is of no trusted authority; SSO_CA_FILE names those to trust"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what caused an error, from the outside to the inside."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions
        waiting += [it for it in (cause.__cause__, cause.__context__) if it is not None]


def _proxy_variable(url: httpx2.URL, client: httpx2.AsyncClient) -> str | None:
    """Return the variable whose proxy the client uses for a URL."""
    # The client's own choice: it reads NO_PROXY in another way than the standard library.
    if client._transport_for_url(url) is client._transport:
        return None
    proxies = getproxies()
    found = next((name for name in (url.scheme, "all") if proxies.get(name)), None)
    return None if found is None else f"{found.upper()}_PROXY"
