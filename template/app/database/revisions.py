"""Which revisions the code needs, and whether the database has them.

Alembic could tell, but importing it takes longer than starting the service.
"""

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

_NAMES = re.compile(
    r"^(revision|down_revision|depends_on)\s*(?::[^=\n]+)?=\s*(\([^)]*\)|\[[^]]*\]|[^\n]*)",
    re.MULTILINE,
)
_NO_TABLE = "42P01"


class HistoryUnknown(Exception):
    """The revisions could not be read; the message says why."""


@dataclass(frozen=True, slots=True)
class History:
    """The revisions that the code knows, and those of them that no other one follows."""

    revisions: frozenset[str]
    heads: frozenset[str]

    def missing(self, applied: Iterable[str]) -> frozenset[str]:
        """Return the heads that a database lacks, from the rows of its ``alembic_version``.

        A revision that the code does not know is from a newer release, which has migrated the
        database already. That this release serves on is why migrations expand before they contract.
        """
        rows = frozenset(applied)
        return frozenset() if rows - self.revisions else self.heads - rows


def read_history(folder: Path) -> History:
    """Read the history from the files of ``migrations/versions``.

    Raises:
        HistoryUnknown: There are none, or they are no history.
    """
    followed = set[str]()
    revisions = set[str]()
    for path in folder.glob("*.py"):
        try:
            found = _NAMES.findall(path.read_text("utf-8"))
            names = {name: ast.literal_eval(value) for name, value in found}
            if revision := names.pop("revision", None):
                revisions.add(revision)
                for it in names.values():
                    followed.update([it] if isinstance(it, str) else it or ())
        except (OSError, SyntaxError, TypeError, ValueError) as error:
            raise HistoryUnknown(f"{path.name} cannot be read ({type(error).__name__})") from None
    if not revisions:
        raise HistoryUnknown("migrations/versions is missing or empty")
    if unknown := followed - revisions:
        raise HistoryUnknown(f"no file of migrations/versions is {', '.join(sorted(unknown))}")
    return History(frozenset(revisions), frozenset(revisions - followed))


async def applied_revisions(connection: AsyncConnection) -> list[str]:
    """Return the rows of ``alembic_version``; there is no such table before the first migration."""
    try:
        result = await connection.execute(text("SELECT version_num FROM alembic_version"))
        return [*result.scalars()]
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _NO_TABLE:
            raise
        return []
