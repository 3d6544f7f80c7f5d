"""HTTP/1.1 as uvicorn speaks it, with bounds on what a connection may take.

uvicorn collects a head of any size, waits without end for the rest of a request, and for clients to
read a response, and accepts any number of connections. A proxy in front may bound these too; the
service does not depend on it.
"""

import asyncio
import logging
import os
import socket
import sys
from contextlib import suppress
from functools import cache
from typing import Any, ClassVar, override

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from app.core.deadline import client_left
from app.core.draining import drain
from app.core.errors import (
    BadRequest,
    Problem,
    RequestHeaderFieldsTooLarge,
    RequestTimeout,
    ServiceUnavailable,
)
from app.core.settings import ServerSettings, load_settings

logger = logging.getLogger(__name__)

# Each connection looks at its deadline once in so many seconds: a timer for each request would cost
# more than the rest of this module.
_TICK_SECONDS = 1
# A client still sends while it is refused. Closing the connection at once would reset it, and the
# client might never read why.
_LINGER_SECONDS = 1
# A client may send requests without waiting for responses. uvicorn stops reading then, but has
# parsed what it had read, which can be thousands of requests.
_MAX_PIPELINED = 32
_WRITTEN_IN_TIME = 65_536
_server_settings = cache(load_settings)


class BoundedProtocol(HttpToolsProtocol):
    """One connection of a client. What exceeds a bound is answered, and the connection closed."""

    _warned_at: ClassVar[float] = float("-inf")
    # None until the first request, whatever uvicorn's own annotation says.
    cycle: RequestResponseCycle | None  # type: ignore[assignment]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = _server_settings(ServerSettings)
        self._tick: asyncio.TimerHandle
        self._opened = 0.0
        # When what is being received must be complete; None while nothing is.
        self._deadline: float | None = None
        # What was received of a head or a trailer, and in all at the last time.
        self._head_size = 0
        self._chunk_size = 0
        self._in_body = False
        self._refusal: Problem | None = None
        # How much was left to write, and since when.
        self._unwritten: tuple[int, float] | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._opened = self.loop.time()
        self._deadline = self._opened + self._bounds.server_head_timeout
        self._tick = self.loop.call_later(_TICK_SECONDS, self._check)
        if len(self.connections) > self._bounds.server_max_connections:
            self._make_room()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._tick.cancel()
        super().connection_lost(exc)
        if self.cycle is not None:
            client_left(self.cycle.scope)

    @override
    def handle_websocket_upgrade(self) -> None:
        self._tick.cancel()
        super().handle_websocket_upgrade()

    @override
    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        self._chunk_size = len(data)
        self._head_size += self._chunk_size
        super().data_received(data)
        if self._refusal is not None:
            return
        if self._head_size > self._bounds.server_max_head_size:
            self._refuse(self._too_large())
        elif self._deadline is None and self._in_body:
            self._deadline = self.loop.time() + self._bounds.server_body_timeout
        elif self._deadline is None and self._head_size:
            self._deadline = self.loop.time() + self._bounds.server_head_timeout

    @override
    def on_headers_complete(self) -> None:
        # The parser ends at an exception, which becomes a call of send_400_response.
        if len(self.headers) > self._bounds.server_max_headers:
            self._refusal = RequestHeaderFieldsTooLarge(
                f"A request may have {self._bounds.server_max_headers} headers."
            )
            raise self._refusal
        # What was received may also be a part of the body, or the request before.
        if max(self._head_size, self._chunk_size) > self._bounds.server_max_head_size:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self._bounds.server_max_head_size:
                self._refusal = self._too_large()
                raise self._refusal
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._refusal = BadRequest("Wait for responses before you send more requests.")
            raise self._refusal
        self._head_size = 0
        self._deadline = None
        self._in_body = True
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            # uvicorn would add trailers to the headers, which a proxy may have checked already
            # (RFC 9110 §6.5.1).
            self.headers = []

    @override
    def on_body(self, body: bytes) -> None:
        # What remains is the size of a trailer.
        self._head_size = 0
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._in_body = False
        self._head_size = 0
        self._deadline = None
        super().on_message_complete()
        # Before the body is complete, closing could reset the connection before the client has
        # read the response.
        if drain.ends_connections and self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    @override
    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or BadRequest(msg))

    @override
    def resume_writing(self) -> None:
        self._unwritten = None
        super().resume_writing()

    @override
    def timeout_keep_alive_handler(self) -> None:
        self._end_if_idle()

    @override
    def shutdown(self) -> None:
        """End the connection as soon as no request is lost by it."""
        drain.ends_connections = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif not self._in_body and not self._head_size:
            self._end_if_idle()
        if self._deadline is not None:
            # What is still missing of the request has had the whole drain to arrive.
            self._deadline = self.loop.time()

    def _end_if_idle(self) -> None:
        """Close the connection, unless a request has arrived that the loop has not read yet."""
        if self._refusal is not None or self.transport.is_closing():
            return
        if self.config.is_ssl or sys.platform == "win32":
            self.transport.close()
            return
        # The transport closes in the next round of the loop. What came until then would be lost.
        own = self.transport.get_extra_info("socket")
        with suppress(OSError), socket.socket(fileno=os.dup(own.fileno())) as same:
            same.setblocking(False)
            with suppress(BlockingIOError):
                if same.recv(1, socket.MSG_PEEK):
                    return
            same.shutdown(socket.SHUT_WR)
        self._refusal = _stopping()
        self._linger()

    def _too_large(self) -> Problem:
        return RequestHeaderFieldsTooLarge(
            f"The request line and the headers may have {self._bounds.server_max_head_size} bytes."
        )

    def _check(self) -> None:
        """Close the connection if its time is up."""
        now = self.loop.time()
        self._tick = self.loop.call_later(_TICK_SECONDS, self._check)
        unwritten = self.transport.get_write_buffer_size()
        if not unwritten:
            self._unwritten = None
        elif self._unwritten is None or unwritten + _WRITTEN_IN_TIME <= self._unwritten[0]:
            self._unwritten = unwritten, now
        elif now > self._unwritten[1] + self._bounds.server_write_timeout:
            self.transport.abort()
        if self._deadline is not None and now > self._deadline and self._refusal is None:
            part = "body" if self._in_body else "head"
            late = RequestTimeout(f"The {part} of the request took too long.")
            self._refuse(_stopping() if drain.ends_connections else late)

    def _refuse(self, problem: Problem) -> None:
        """Answer with the problem, unless another response is under way, and close."""
        self._refusal = problem
        self._unset_keepalive_if_required()
        cycle = self.cycle
        if self._in_body and cycle is not None and not cycle.response_complete:
            # The application waits for the rest of the body, which it will not get.
            is_answerable = not cycle.response_started and not self.pipeline
            cycle.disconnected = True
            cycle.message_event.set()
        else:
            is_answerable = not self._in_body
            if cycle is not None and not cycle.response_complete:
                # Requests that came before this one are answered first.
                cycle.keep_alive = False
                return
        if not is_answerable or self.transport.is_closing():
            self.transport.close()
            return
        response = problem.response()
        headers = [*self.server_state.default_headers, *response.raw_headers]
        lines = [b"%b: %b\r\n" % header for header in headers]
        head = b"".join([STATUS_LINE[problem.status], *lines, b"connection: close\r\n\r\n"])
        self.transport.write(head + bytes(response.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger()

    def _linger(self) -> None:
        self._tick.cancel()
        self._tick = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _make_room(self) -> None:
        """Close connections on which nothing is done, silent ones first; else refuse this one."""
        idle = [
            it
            for it in self.connections
            if isinstance(it, BoundedProtocol)
            and it is not self
            and (it.cycle is None or it.cycle.response_complete)
        ]
        idle.sort(key=lambda it: (it.cycle is not None and it._refusal is None, it._opened))
        # Several at once, because looking for them takes longer than closing them.
        for it in idle[: 1 + len(idle) // 20]:
            self.connections.discard(it)
            it.transport.abort()
        if not idle:
            self._refuse(ServiceUnavailable("The service has no connection left."))
        if self._opened > BoundedProtocol._warned_at + 60:
            BoundedProtocol._warned_at = self._opened
            logger.warning(
                "There are more connections than SERVER_MAX_CONNECTIONS (%d): idle ones are "
                "closed, and new ones refused if there are none",
                self._bounds.server_max_connections,
            )


def _stopping() -> Problem:
    return ServiceUnavailable("The service is stopping; send the request again.")
