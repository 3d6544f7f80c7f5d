"""Installing the providers that are Python packages."""

import sys
from pathlib import Path

from tests.identity_providers.provider import NotInstallable
from tests.projects import output, run, uv


def install_packages(folder: Path, *requirements: str) -> None:
    """Make a virtual environment with the packages in ``folder``, unless it is there.

    Raises:
        NotInstallable: The packages could not be fetched.
    """
    receipt = folder / "installed"
    if receipt.exists() and receipt.read_text("utf-8").split("\n") == list(requirements):
        return
    receipt.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    venv = folder / "venv"
    for command in (
        ["venv", "--quiet", "--clear", "--python", sys.executable, str(venv)],
        ["pip", "install", "--quiet", "--compile-bytecode", "--python", str(venv), *requirements],
    ):
        done = run(*uv(), *command, cwd=folder)
        if done.returncode:
            problem = " ".join(output(done).split())
            raise NotInstallable(f"uv could not install {requirements[0]}: {problem[:300]}")
    receipt.write_text("\n".join(requirements), "utf-8")
