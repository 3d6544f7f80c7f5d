"""Running the provider: on a thread of a test process, or as a process of its own."""

import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from devtools.provider.app import create_provider
from devtools.provider.config import ProviderConfig, ProviderError
from devtools.provider.faults import Faults
from devtools.provider.state import ProviderState, provider_state
from devtools.provider.tokens import SigningKeys, TokenRequest

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RunningProvider:
    """A provider that runs in this process. Its methods act at once, without HTTP."""

    def __init__(self, state: ProviderState) -> None:
        """Wrap the memory of the provider that is being served."""
        self._state = state

    @property
    def config(self) -> ProviderConfig:
        """The configuration, with the real port in its issuer."""
        return self._state.config

    @property
    def issuer(self) -> str:
        """The issuer's URL, such as http://127.0.0.1:40123."""
        return self.config.issuer

    @property
    def faults(self) -> Faults:
        """The faults in force; assign `Faults(...)` to make the provider misbehave."""
        return self._state.faults.current

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._state.faults.set(faults)

    @property
    def introspection_calls(self) -> int:
        """How many introspection requests arrived, refused ones included."""
        return self._state.calls["introspection"]

    @property
    def discovery_calls(self) -> int:
        """How many requests for a discovery document arrived."""
        return self._state.calls["discovery"]

    @property
    def jwks_calls(self) -> int:
        """How many requests for the keys arrived."""
        return self._state.calls["jwks"]

    def mint(self, **claims: object) -> str:
        """Return a new access token; the keywords are the fields of `TokenRequest`, or claims."""
        return self._state.tokens.mint(TokenRequest.model_validate(claims)).value

    def revoke(self, token: str) -> None:
        """Make a token inactive."""
        self._state.tokens.revoke(token)

    def rotate_keys(self) -> None:
        """Replace the signing keys, so that the JWKS no longer has the old ones."""
        self._state.tokens.keys = SigningKeys()

    def reset(self) -> None:
        """Forget all tokens, logins, counts and faults; the keys stay."""
        self._state.reset()


@contextmanager
def running_provider(
    config: ProviderConfig | None = None, port: int = 0
) -> Iterator[RunningProvider]:
    """Serve a provider on 127.0.0.1 from a thread, on a free port unless one is given.

    The issuer of `config` gets the real port; its path is kept. Raises ProviderError when the
    port is taken or ENVIRONMENT is production.
    """
    listener = _listen(port)
    try:
        real_port = listener.getsockname()[1]
        config = config or ProviderConfig()
        issuer = f"http://127.0.0.1:{real_port}{urlsplit(config.issuer).path}"
        app = create_provider(replace(config, issuer=issuer))
    except BaseException:
        listener.close()
        raise
    server = uvicorn.Server(_server_config(app))
    thread = threading.Thread(
        target=server.run, args=([listener],), name="development-provider", daemon=True
    )
    thread.start()
    try:
        _wait_until_started(server, thread)
        yield RunningProvider(provider_state(app))
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def serve_until_stopped(
    port: int, state_file: Path | None = None, *, exit_on_stdin_close: bool = False
) -> None:
    """Serve until SIGINT, SIGTERM or, on demand, the end of standard input.

    One line is printed when the provider is ready. `state_file` then holds, for the owner's eyes
    only, what the `token` command needs; it is removed at the end.
    """
    stop = threading.Event()
    for number in _STOP_SIGNALS:
        signal.signal(number, _leave)
    if exit_on_stdin_close:
        threading.Thread(target=_stop_at_end_of_stdin, args=(stop,), daemon=True).start()
    config = ProviderConfig.from_environment(os.environ)
    with running_provider(config, port) as provider, _published(provider.config, state_file):
        print(f"The development identity provider is ready at {provider.issuer}", flush=True)
        stop.wait()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":
        # Without this a restart would wait for the old connections to be forgotten.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ProviderError(
            f"The development provider cannot use port {port} on 127.0.0.1 ({error}): "
            "stop the program that uses it, or choose another port with --port."
        ) from error
    return listener


def _server_config(app: FastAPI) -> uvicorn.Config:
    """Return settings for a quiet server that stops at once, whatever its clients do."""
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


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    while not server.started:
        if not thread.is_alive():
            raise ProviderError("The development provider did not start: see the error above.")
        time.sleep(0.001)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Unwind the main thread, which tidies up; a second signal must not disturb that.

    Setting the event here instead could deadlock with the `wait` that the signal interrupts.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(0)


def _stop_at_end_of_stdin(stop: threading.Event) -> None:
    """Wait for the parent's end of the pipe to close, which the kernel does however it dies."""
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    stop.set()


@contextmanager
def _published(config: ProviderConfig, path: Path | None) -> Iterator[None]:
    """Keep the state file while the provider runs; a file that a later provider wrote stays."""
    if path is None:
        yield
        return
    content = json.dumps(
        {
            "issuer": config.issuer,
            "client_id": config.client_id,
            "client_secret": config.client_secret,
        }
    )
    _write_private(path, content)
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_text() == content:
                path.unlink()


def _write_private(path: Path, content: str) -> None:
    """Write a file that only its owner can read, and that others see whole or not at all."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text(content)
        draft.replace(path)
    except OSError as error:
        raise ProviderError(f"The state file {path} cannot be written: {error}.") from error
