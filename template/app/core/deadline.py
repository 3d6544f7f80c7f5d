"""How a request ends before it has been answered: its time is up, or its client has left."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar

from starlette.types import Message, Receive, Scope, Send

from app.core.errors import DeadlineExceeded, OutcomeUnknown
from app.core.routing import route_path

logger = logging.getLogger(__name__)

# Where a request in progress is kept, in its ASGI scope.
_IN_PROGRESS = "app.in_progress"
# Where a function that handles requests keeps how long they may take.
_TIMEOUT = "__request_timeout__"


def request_timeout[F: Callable[..., object]](seconds: float) -> Callable[[F], F]:
    """Let the requests of a route take longer than ``REQUEST_TIMEOUT``.

    The time is that from the head of a request to the start of its response, and includes that of
    its body::

        @router.post("/import")
        @request_timeout(120)
        async def import_orders(file: UploadFile) -> None: ...
    """

    def set_timeout(function: F) -> F:
        setattr(function, _TIMEOUT, seconds)
        return function

    return set_timeout


class RequestInProgress:
    """A request until its response starts, after which nothing here ends it.

    Ending it cancels its task. That can take a while, such as for a connection that does not answer
    even when it is closed, and the response does not wait for it.

    Args:
        scope: The ASGI scope of the request.
        receive: What its body is received with.
        send: What the response is sent with.
        timeout: How long it may take until the response starts, in seconds, unless the route says
            otherwise.
    """

    __slots__ = (
        "_is_open",
        "_loop",
        "_receive",
        "_scope",
        "_send",
        "_task",
        "_timeout",
        "_timer",
        "answer",
        "has_ended",
        "may_have_written",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, timeout: float) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(timeout, self._check_time)
        self._is_open = True
        # What sends the response that takes the place of the application's.
        self.answer: asyncio.Task[None] | None = None
        # Whether it was ended, so that nothing more that it sends counts.
        self.has_ended = False
        # Whether a transaction that wrote has begun to commit.
        self.may_have_written = False
        scope[_IN_PROGRESS] = self
        _current.set(self)

    @property
    def has_started_response(self) -> bool:
        """Whether a status has been sent."""
        return not self._is_open

    async def send(self, message: Message) -> None:
        """Send a part of the response, unless the request was ended."""
        if self.has_ended:
            return
        if message["type"] == "http.response.start":
            self._close()
        await self._send(message)

    def finish(self) -> None:
        """End nothing any more."""
        self._close()
        # The scope and the context of the task refer to the request, and it to them: all of it
        # would live until the garbage collector finds it.
        self._scope.pop(_IN_PROGRESS, None)
        self._task = None

    def abandon(self) -> None:
        """Cancel a read, for whose response nobody waits any more; a write goes on to its end."""
        if self._is_open and self._scope["method"] in {"GET", "HEAD"}:
            self._end()

    def was_cancelled(self) -> bool:
        """Whether the request was cancelled because it was ended, and for no other reason."""
        return self.has_ended and self._task is not None and not self._task.uncancel()

    def _check_time(self) -> None:
        # The route is known before its body is read.
        allowed = getattr(self._scope.get("endpoint"), _TIMEOUT, self._timeout)
        if allowed > self._timeout:
            self._timer = self._loop.call_at(
                self._timer.when() + allowed - self._timeout, self._check_time
            )
            self._timeout = allowed
            return
        problem = OutcomeUnknown() if self.may_have_written else DeadlineExceeded()
        logger.log(
            logging.ERROR if self.may_have_written else logging.WARNING,
            "%s %s has not been answered for %g s and is ended%s",
            self._scope["method"],
            route_path(self._scope),
            allowed,
            "; what it wrote may have been stored" if self.may_have_written else "",
        )
        response = problem.response()
        self._end()
        self.answer = self._loop.create_task(response(self._scope, self._receive, self._send))

    def _end(self) -> None:
        self._close()
        self.has_ended = True
        if self._task is not None:
            self._task.cancel()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._timer.cancel()


_current = ContextVar[RequestInProgress]("request_in_progress")


def client_left(scope: Mapping[str, object]) -> None:
    """Take note that the client of a request has closed the connection."""
    request = scope.get(_IN_PROGRESS)
    if isinstance(request, RequestInProgress):
        request.abandon()


def commit_begins() -> None:
    """Take note that what the current request wrote may be stored from here on."""
    request = _current.get(None)
    if request is not None:
        request.may_have_written = True
