"""Runs the service: ``python -m app.server``, with the options and variables of uvicorn.

It differs from ``uvicorn app.main:app`` in its defaults: connections are bounded, and the service's
line for each request, which has no query string, takes the place of the server's. Several workers
stop as one process does.
"""

import logging
import os
import signal
import sys
import time
from copy import copy
from importlib import import_module
from typing import Any, override

from uvicorn.main import main as uvicorn_command
from uvicorn.supervisors import Multiprocess

from app.core.draining import refuse_connections
from app.core.logs import logging_config
from app.core.settings import ServerSettings, load_settings
from app.settings import Settings

_GRACEFUL_SECONDS = 15
# Options, and variables such as UVICORN_PORT, have precedence.
_DEFAULTS = {
    "http": "app.core.http_protocol:BoundedProtocol",
    "server_header": False,
    "access_log": False,
    "timeout_graceful_shutdown": _GRACEFUL_SECONDS,
    # Longer than proxies keep idle connections, so that none is closed under a request.
    "timeout_keep_alive": 75,
    # A worker answers first when it has imported everything. On a busy machine that takes more than
    # uvicorn's 5 s, after which it would be killed, and its successors too.
    "timeout_worker_healthcheck": 30,
}


def _check_order(graceful: float | None) -> None:
    """Refuse a deadline that a stop of the server would not wait for.

    Raises:
        SystemExit: The setting was made, and is wrong.
    """
    settings = load_settings(Settings)
    is_set = "request_timeout" in settings.model_fields_set
    if is_set and graceful is not None and graceful <= settings.request_timeout:
        raise SystemExit(
            "The service cannot start: REQUEST_TIMEOUT must be shorter than "
            f"UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN, which is {graceful:g}, so that a stop waits for "
            "the last requests."
        )


def _check_metrics(settings: ServerSettings, workers: int) -> None:
    """Refuse one port for several workers, of which each answer would be about another.

    Raises:
        SystemExit: There are several.
    """
    if settings.metrics_port is not None and workers > 1:
        raise SystemExit(
            "The service cannot start: METRICS_PORT is for one worker. Run more replicas of one "
            "worker each, or set OTEL_EXPORTER_OTLP_ENDPOINT instead: a collector tells workers "
            "apart."
        )


class Supervisor(Multiprocess):
    """Stops listening when its workers do, and ends them at a second signal.

    uvicorn's holds the socket open until the last worker has ended. Until then nobody serves those
    who connect.
    """

    @override
    def join_all(self) -> None:
        stops_at = time.monotonic() + load_settings(ServerSettings).drain_seconds
        while any(it.process.is_alive() for it in self.processes):
            if {signal.SIGINT, signal.SIGTERM} & {*self.signal_queue}:
                for it in self.processes:
                    it.process.kill()
            if time.monotonic() >= stops_at and self.sockets:
                refuse_connections(self.sockets)
                for own in self.sockets:
                    own.close()
                self.sockets = []
            time.sleep(0.05)
        super().join_all()


def _options() -> list[str]:
    """Return the options of the command line; run it instead if it is another command.

    A container starts with this module, whatever its command is: ``uvicorn app.main:app`` with
    options, options alone, or another one such as ``alembic upgrade head``.
    """
    arguments = sys.argv[1:]
    if arguments[:2] == ["uvicorn", "app.main:app"]:
        return arguments[2:]
    if arguments and not arguments[0].startswith("-"):
        try:
            os.execvp(arguments[0], arguments)  # noqa: S606 - as whoever starts it says
        except OSError as error:
            raise SystemExit(f"{arguments[0]} cannot be run: {error.strerror}.") from None
    return arguments


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    arguments = _options()
    settings = load_settings(ServerSettings)
    # Else they would be the only lines of the log without its form.
    logging.captureWarnings(capture=True)

    def run(log_config: str | None, **options: Any) -> None:  # noqa: ANN401 - uvicorn's
        assert uvicorn_command.callback is not None  # noqa: S101 - click's type
        # Nobody waits for the last requests of a developer, whose debugger may hold one for long.
        if not options["reload"]:
            _check_order(options["timeout_graceful_shutdown"])
        _check_metrics(settings, options["workers"] or int(os.environ.get("WEB_CONCURRENCY", "1")))
        uvicorn_command.callback(log_config=log_config or logging_config(settings), **options)

    command = copy(uvicorn_command)
    command.callback = run
    # The package has a function of the module's name.
    import_module("uvicorn.main").Multiprocess = Supervisor  # type: ignore[attr-defined]
    command.main(
        ["app.main:app", *arguments],
        prog_name="python -m app.server",
        default_map=_DEFAULTS,
    )


if __name__ == "__main__":
    main()
