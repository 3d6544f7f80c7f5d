"""Debian's nginx, with the configuration that the documentation shows."""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.debian import Program
from tests.processes import free_ports, is_open, wait_until
from tests.projects import REPOSITORY

_PAGE = REPOSITORY / "docs" / "production.md"
_MAIN = """
daemon off;
pid nginx.pid;
{user}
worker_processes 1;
error_log error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{service}
}}
"""


def documented() -> str:
    """Return the configuration of the documentation."""
    blocks = re.findall(
        r"^```nginx\n(.*?)^```$", _PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (block,) = blocks
    return str(block)


def between(port: int, instances: Sequence[int]) -> str:
    """Return it with the addresses of this machine, and without TLS."""
    text = documented()
    for number, instance in enumerate(instances):
        text = text.replace(f"10.0.0.1{number + 1}:8000", f"127.0.0.1:{instance}")
    assert "10.0.0." not in text
    text, count = re.subn(r"listen 443 ssl;", f"listen 127.0.0.1:{port};", text)
    assert count == 1
    return re.sub(r"^ *ssl_certificate.*\n", "", text, flags=re.MULTILINE)


@contextmanager
def running(
    program: Program, folder: Path, instances: Sequence[int], **edits: str
) -> Iterator[int]:
    """Run nginx before the instances, and yield its port; edits replace values of directives."""
    [port] = free_ports(1)
    service = between(port, instances)
    for directive, value in edits.items():
        service, count = re.subn(rf"\b{directive} [^;]+;", f"{directive} {value};", service)
        assert count == 1, directive
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(_MAIN.format(user=user, service=service))
    log = folder / "error.log"
    command: list[str | Path] = [program.path, "-p", folder, "-e", log, "-c", configuration]
    process = subprocess.Popen(command, env=os.environ | program.env, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_open(port), 30, lambda: log.read_text()[-2000:])
        yield port
    finally:
        process.terminate()
        process.wait(30)
