"""What the log looks like: one line per record, with its time, level and logger.

``logging_config`` is a dictionary for ``logging.config.dictConfig``; a file that is given to
``python -m app.server --log-config`` replaces it.
"""

import logging
import re
import time
from logging.config import dictConfig
from typing import Any, override

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_SECRET_IN_URL = re.compile(r"\?.*|(?<=//)[^/]*(?:@|%40)", re.DOTALL)


class LineFormatter(logging.Formatter):
    """Writes control characters as escapes, so that nobody can forge a line or steer a terminal.

    The lines of a traceback are kept and indented.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        return _printable(super().formatMessage(record))

    @override
    def formatException(self, ei: Any) -> str:
        return _indented(super().formatException(ei))

    @override
    def formatStack(self, stack_info: str) -> str:
        return _indented(super().formatStack(stack_info))


class WithoutQuery(logging.Filter):
    """Removes queries and credentials from the URLs and paths that uvicorn logs."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                _SECRET_IN_URL.sub("", it) if isinstance(it, str) else it for it in record.args
            )
        return True


def logging_config(level: int) -> dict[str, Any]:
    """Return the configuration; other packages than the service are logged from warnings on."""
    server = {"level": level, "handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": LineFormatter, "fmt": _FORMAT}},
        "filters": {"without_query": {"()": WithoutQuery}},
        "handlers": {
            "console": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "line",
            }
        },
        "root": {"level": "WARNING", "handlers": ["console"]},
        "loggers": {
            "app": {"level": level},
            "uvicorn": server,
            "uvicorn.error": server | {"filters": ["without_query"]},
            "uvicorn.access": server | {"filters": ["without_query"]},
        },
    }


def log_if_nobody_does(level: int) -> None:
    """Configure the log where the server has not, such as uvicorn's own command.

    The server's handlers and levels stay.
    """
    if logging.getLogger("app").hasHandlers():
        return
    config = logging_config(level)
    dictConfig(config | {"loggers": {"app": config["loggers"]["app"]}})
    for logger in map(logging.getLogger, ("uvicorn", "uvicorn.error", "uvicorn.access")):
        logger.addFilter(WithoutQuery())
        for handler in logger.handlers:
            handler.setFormatter(LineFormatter(_FORMAT))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else ascii(it)[1:-1] for it in text)


def _indented(text: str) -> str:
    return "\n".join(f"    {_printable(line)}" for line in text.split("\n"))
