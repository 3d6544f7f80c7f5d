"""What the tools say, in the language of the project.

The messages are written in English where they are said. A project in another language has a
catalogue beside this file, which names the translation of each; what it lacks is said in English.

The supervisor of the database imports this module without site-packages: it may import the standard
library only.
"""

import json
from functools import cache
from pathlib import Path

_CATALOGUE = Path(__file__).with_name("spanish.json")


def _(message: str, /, **values: object) -> str:
    """Return a message in the language of the project, with its ``{placeholders}`` filled in.

    The message is written where this is called, so that a test finds it. Without values it is
    returned as it stands, whatever braces it has.
    """
    return translated(message, **values)


def translated(message: str, /, **values: object) -> str:
    """Return the same for a message that is written elsewhere."""
    text = _translations().get(message, message)
    return text.format(**values) if values else text


class Problem(Exception):
    """A sentence for the developer: what is in the way, and what to do about it."""

    def __init__(self, message: str, /, **values: object) -> None:
        """`message` is in English, with ``{placeholders}`` for the values."""
        super().__init__(translated(message, **values))


@cache
def _translations() -> dict[str, str]:
    """Read the catalogue once, when the first message is said."""
    try:
        return dict(json.loads(_CATALOGUE.read_text("utf-8")))
    except (OSError, ValueError):
        # There is none in English. One that an update has left in conflict stops no command.
        return {}
