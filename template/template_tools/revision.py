"""Write a migration: upgrade the database to the head, then compare it with the models."""

import sys

from alembic import command
from alembic.config import Config
from alembic.util import CommandError


def main(message: str) -> int:
    """Write a revision named ``message``, unless the database matches the models."""
    config = Config("alembic.ini")
    try:
        command.upgrade(config, "head")
        command.revision(config, message, autogenerate=True)
    except CommandError as error:
        print(f"No migration was written: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
