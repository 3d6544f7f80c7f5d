"""Where the project is, and what the developer has configured, in the environment or in `.env`."""

import os
import sys
from functools import cache
from pathlib import Path

from template_tools.messages import _

PROJECT_ROOT = Path(__file__).resolve().parents[1]


def configured(name: str, root: Path = PROJECT_ROOT) -> str | None:
    """Return the value of a setting as the service would see it, or None where it has none."""
    # The supervisor of the database imports this module without site-packages.
    from dotenv import dotenv_values

    _keep_from_others(root / ".env")
    try:
        in_file = dotenv_values(root / ".env").get(name)
    except UnicodeDecodeError:
        raise SystemExit(_(".env is not encoded in UTF-8: save it as UTF-8.")) from None
    return os.environ.get(name) or in_file or None


def roles_claim() -> str:
    """Return the name of the claim in which the service looks for roles.

    The service takes a name with dots for a name first, and for a path if there is none.
    """
    return configured("SSO_ROLES_CLAIM") or "roles"


@cache
def _keep_from_others(file: Path) -> None:
    """Let other users of the machine not read a file that holds secrets, and say so."""
    try:
        mode = file.stat().st_mode
        # One that a group may read was made so on purpose.
        if os.name != "posix" or not mode & 0o007:
            return
        file.chmod(mode & 0o700)
        print(
            _("{file} can hold secrets: only you can read it now.", file=file.name),
            file=sys.stderr,
        )
    except FileNotFoundError:
        return
    except OSError:
        print(
            _(
                "Every user of this machine can read {file}, and it can hold secrets; its owner "
                "changes that with: chmod 600 {file}",
                file=file.name,
            ),
            file=sys.stderr,
        )
