"""Renew ``template/requirements.txt.jinja``: what a new project is tested with, with hashes.

The versions are the newest within the bounds of the template's pyproject.toml and before this
repository's ``exclude-newer``.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from copier import run_copy

TEMPLATE = Path(__file__).resolve().parents[1]


# The answers with which a project needs every package, and what each of these is needed for.
EVERY_PACKAGE = {"token_cache": "valkey", "local_passwords": "yes"}
CONDITIONS = {
    "argon2-cffi": "local_passwords == 'yes'",
    "argon2-cffi-bindings": "local_passwords == 'yes'",
    "libpass": "local_passwords == 'yes'",
    "valkey": "token_cache == 'valkey'",
}


def with_conditions(pins: str) -> str:
    """Return the pins with a condition around each that only some answers need.

    A pin is a line ``name==version``, with indented lines of hashes below it.
    """
    blocks = re.findall(r"^\S.*\n(?:[ \t].*\n)*", pins, re.MULTILINE)
    return "".join(
        f"{{% if {CONDITIONS[name]} -%}}\n{block}{{% endif -%}}\n" if name in CONDITIONS else block
        for block in blocks
        for name in [block.partition("==")[0]]
    )


def main() -> int:
    """Render a project, run its own ``lock`` task, and take the result over."""
    settings = tomllib.loads((TEMPLATE / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]
    environment = os.environ | {"UV_EXCLUDE_NEWER": settings["exclude-newer"]}
    environment.pop("VIRTUAL_ENV", None)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        run_copy(
            str(TEMPLATE), project, data=EVERY_PACKAGE, vcs_ref="HEAD", defaults=True, quiet=True
        )
        command = [os.environ.get("UV", "uv"), "run", "poe", "upgrade"]
        subprocess.run(command, cwd=project, env=environment, check=True)
        pins = (project / "requirements.txt").read_text("utf-8")
        target = TEMPLATE / "template" / "requirements.txt.jinja"
        target.write_text(with_conditions(pins), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
