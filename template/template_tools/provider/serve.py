"""Running the provider: on a thread of a test process, or as a process of its own."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from template_tools.messages import _
from template_tools.provider.app import create_provider
from template_tools.provider.config import ProviderConfig, ProviderError
from template_tools.provider.running import RunningProvider
from template_tools.provider.state import provider_state

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def running_provider(
    config: ProviderConfig | None = None, port: int = 0
) -> Iterator[RunningProvider]:
    """Serve a provider on 127.0.0.1 from a thread, on a free port unless one is given.

    The issuer of `config` gets the real port; its path is kept.

    Raises:
        ProviderError: The port is taken, or ENVIRONMENT is production.
    """
    config = config or ProviderConfig()
    with listening(port) as listener:
        issuer = f"http://127.0.0.1:{listener.getsockname()[1]}{config.issuer_path}"
        app = create_provider(replace(config, issuer=issuer))
        with serving(server_config(app), listener):
            yield RunningProvider(provider_state(app))


@contextmanager
def serving(config: uvicorn.Config, listener: socket.socket) -> Iterator[None]:
    """Run a server on a thread for as long as the block lasts."""
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run, args=([listener],), name="development-provider", daemon=True
    )
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise ProviderError("The development provider did not start: see the error above.")
            time.sleep(0.001)
        yield
    finally:
        server.should_exit = True
        thread.join()


def serve_until_stopped(port: int, state_file: Path | None = None) -> None:
    """Serve until SIGINT or SIGTERM.

    One line is printed when the provider is ready. `state_file`, which only its owner can read,
    then holds what the `token` command needs; it is removed at the end.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, _leave)
    config = ProviderConfig.from_environment(os.environ)
    with published_provider(config, port, state_file) as provider:
        ready = _("The development identity provider is ready at {url}", url=provider.issuer)
        print(ready, flush=True)
        threading.Event().wait()


@contextmanager
def published_provider(
    config: ProviderConfig, port: int, state_file: Path | None
) -> Iterator[RunningProvider]:
    """Serve a provider from a thread, and have the `token` command find it."""
    with running_provider(config, port) as provider, _published(provider.config, state_file):
        yield provider


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """Listen on a port of 127.0.0.1; on a free one when it is 0."""
    with socket.socket() as listener:
        if os.name == "posix":
            # Without this a restart would wait for the old connections to be forgotten.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            raise ProviderError(
                "The development provider cannot use port {port} on 127.0.0.1 ({error}): "
                "stop the program that uses it, or choose another port with --port.",
                port=port,
                error=error,
            ) from error
        yield listener


def server_config(app: ASGIApp) -> uvicorn.Config:
    """Return the settings of a quiet server that stops at once, whatever its clients do."""
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=0,
    )


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Unwind the main thread, which cleans up; a second signal must not interrupt that."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(0)


@contextmanager
def _published(config: ProviderConfig, path: Path | None) -> Iterator[None]:
    """Keep the state file, which only its owner can read, while the provider runs."""
    if path is None:
        yield
        return
    state = {name: getattr(config, name) for name in ("issuer", "client_id", "client_secret")}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(json.dumps(state))
    except OSError as error:
        raise ProviderError(
            "The state file {path} cannot be written: {error}.", path=path, error=error
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
