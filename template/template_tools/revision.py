"""Write a migration: bring the database to the head, then compare it with the models."""

import sys

from alembic import command
from alembic.config import Config
from alembic.util import CommandError


def main(message: str) -> int:
    """Write a revision named ``message``, unless the models and the database agree."""
    config = Config("alembic.ini")
    try:
        # Autogenerate compares the models with the database, so that has to be at the head.
        command.upgrade(config, "head")
        command.revision(config, message, autogenerate=True)
    except CommandError as error:
        print(f"No migration was written: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
