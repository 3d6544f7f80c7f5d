"""What the developer has configured, in the environment or in ``.env``."""

import os
from pathlib import Path

from dotenv import dotenv_values

PROJECT_ROOT = Path(__file__).resolve().parents[1]


def configured(name: str) -> str | None:
    """Return the value of a setting as the service would see it, or None where it has none."""
    try:
        in_file = dotenv_values(PROJECT_ROOT / ".env").get(name)
    except UnicodeDecodeError:
        raise SystemExit(".env is not UTF-8; save it as such.") from None
    return os.environ.get(name) or in_file or None
