"""What a terminal shows and a file does not need."""

import os
import sys
from pathlib import Path
from traceback import StackSummary, TracebackException
from typing import TextIO

from template_tools.configuration import PROJECT_ROOT

BOLD, DIM, RED = 1, 2, 31


def styled(text: str, style: int, stream: TextIO) -> str:
    """Return the text in a style, unless a pipe or a file is written, or NO_COLOR is set.

    https://no-color.org
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{style}m{text}\x1b[0m"


def print_error(error: object) -> None:
    """Print a sentence about what is in the way."""
    print(styled(str(error), RED, sys.stderr), file=sys.stderr)


def print_traceback(error: BaseException, root: Path = PROJECT_ROOT) -> None:
    """Print where the project's own code has raised an error, without the frames of packages."""
    found = TracebackException.from_exception(error)
    if not _shorten(found, root) and not isinstance(error, SyntaxError):
        found = TracebackException.from_exception(error)
    print("".join(found.format()).rstrip(), file=sys.stderr)


def _shorten(found: TracebackException, root: Path) -> bool:
    """Leave the project's frames; return whether there are any."""
    own = [frame for frame in found.stack if _is_own(Path(frame.filename), root)]
    found.stack = StackSummary.from_list(own)
    behind = [it for it in (found.__cause__, found.__context__) if it is not None]
    return any([bool(own), *(_shorten(it, root) for it in behind)])


def _is_own(file: Path, root: Path) -> bool:
    is_below = file.is_relative_to(root) and "site-packages" not in file.parts
    return is_below and not file.is_relative_to(root / "template_tools")
