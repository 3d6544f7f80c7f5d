"""Where the project is, and what the developer has configured, in the environment or in `.env`."""

import os
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]


def configured(name: str, root: Path = PROJECT_ROOT) -> str | None:
    """Return the value of a setting as the service would see it, or None where it has none."""
    # The supervisor of the database imports this module without site-packages.
    from dotenv import dotenv_values

    try:
        in_file = dotenv_values(root / ".env").get(name)
    except UnicodeDecodeError:
        raise SystemExit(".env is not encoded in UTF-8: save it as UTF-8.") from None
    return os.environ.get(name) or in_file or None
