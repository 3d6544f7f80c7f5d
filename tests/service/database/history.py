"""Migrations of the tests' own: the service's may be of any kind, and there may be none."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

import asyncpg
from alembic.config import Config
from sqlalchemy import URL

from template_tools.configuration import PROJECT_ROOT

_REVISION = """\
import os
import time

from alembic import op

revision = "{revision}"
down_revision = {before!r}


def upgrade() -> None:
{upgrade}

def downgrade() -> None:
{downgrade}
"""

_RUN = """
import os, sys
import alembic.config, sqlalchemy.dialects.postgresql.asyncpg
import app.database.model, app.database.session, migrations.autogenerate, migrations.migrator

count, *arguments = sys.argv[1:]
if count == "1":
    sys.exit(alembic.config.main(arguments))
children = []
for _ in range(int(count)):
    if child := os.fork():
        children.append(child)
    else:
        sys.exit(alembic.config.main(arguments))
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


@asynccontextmanager
async def connected(url: URL) -> AsyncIterator[asyncpg.Connection]:
    """Connect without SQLAlchemy, to be somebody else."""
    connection = await asyncpg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False)
    )
    try:
        yield connection
    finally:
        await connection.close()


@dataclass(frozen=True)
class History:
    """A folder of migrations with the project's own ``env.py``, on a database of the tests'."""

    folder: Path
    url: URL

    def write(self, *revisions: tuple[str, str]) -> None:
        """Write revisions 1, 2 and so on, from the code of each upgrade and downgrade."""
        versions = self.folder / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        project = PROJECT_ROOT / "migrations"
        for name in ("env.py", "script.py.mako"):
            (self.folder / name).write_text((project / name).read_text("utf-8"), "utf-8")
        for number, (upgrade, downgrade) in enumerate(revisions, start=1):
            code = _REVISION.format(
                revision=number,
                before=str(number - 1) if number > 1 else None,
                upgrade=indent(upgrade, "    "),
                downgrade=indent(downgrade, "    "),
            )
            (versions / f"{number}.py").write_text(code, "utf-8")

    @property
    def config(self) -> Config:
        """What ``alembic.command`` wants in this process; the logging stays as it is."""
        config = Config()
        config.set_main_option("script_location", str(self.folder).replace("%", "%%"))
        return config

    def ini(self) -> Path:
        """Write the project's alembic.ini for this folder."""
        ini = self.folder / "alembic.ini"
        ours = (PROJECT_ROOT / "alembic.ini").read_text("utf-8")
        location = str(self.folder).replace("%", "%%")
        ini.write_text(
            ours.replace("script_location = migrations\n", f"script_location = {location}\n"),
            "utf-8",
        )
        return ini

    def start(self, *arguments: str, times: int = 1, **environment: str) -> subprocess.Popen[str]:
        """Start ``alembic`` with the project's own alembic.ini, as a deployment does.

        Several are one program, which divides itself when it has imported what they need. It
        ends with 0 if each of them does.
        """
        url = self.url.render_as_string(hide_password=False)
        return subprocess.Popen(
            [sys.executable, "-c", _RUN, str(times), "-c", str(self.ini()), *arguments],
            cwd=PROJECT_ROOT,
            env=os.environ | {"DATABASE_URL": url} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
