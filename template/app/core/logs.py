"""What the log looks like: one line per record, as JSON in production and readable elsewhere.

``logging_config`` is a dictionary for ``logging.config.dictConfig``; a file that is given to
``python -m app.server --log-config`` replaces it.
"""

import json
import logging
import os
import re
import sys
import time
from functools import lru_cache
from logging.config import dictConfig
from typing import Any, override

from pydantic_settings import BaseSettings

from app.core.project import NAME, VERSION
from app.core.request_log import REQUEST
from app.core.settings import ServerSettings

logger = logging.getLogger("app")

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_COLORS = {"WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31;1m"}

_OURS = ("app.core.", "app.database.", "app.health", "app.utils.sso.")
_MINUTE = 60
_MOST = 10
_HIDDEN = "***"
_SECRET_NAME = re.compile(r"(?:secret|pass\w*|token|key|pin|credentials?|dsn)$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=//)[^/?#]*@")
_encode = json.JSONEncoder(default=str).encode
_SECRET_IN_URL = re.compile(r"\?.*|(?<=//)[^/]*(?:@|%40)", re.DOTALL)
# What every record has; the rest was given as ``extra``.
_STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message"}


class JsonFormatter(logging.Formatter):
    """Writes a JSON object per line: ``time``, ``level``, ``logger``, ``message``, and what else.

    Within a request there are its ``request_id``, and its ``trace_id`` if the caller named one.
    A traceback is ``exception``. What was logged with ``extra`` follows by its own names.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **REQUEST.get({}),
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return _encode(line)


class LineFormatter(logging.Formatter):
    """Writes control characters as escapes, so that nobody can forge a line or steer a terminal.

    The lines of a traceback are kept and indented. Warnings and errors have a colour in a terminal.
    """

    def __init__(self, fmt: str = _FORMAT) -> None:
        super().__init__(fmt)
        self._colors = _COLORS if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else {}

    @override
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _time(record)

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        line = _printable(super().formatMessage(record))
        if found := REQUEST.get(None):
            line += f" [{found['request_id']}]"
        color = self._colors.get(record.levelname)
        return f"{color}{line}\033[0m" if color else line

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


class WithoutFloods(logging.Filter):
    """Lets ten lines of a kind pass in a minute, and then says how many there were beside them.

    It is about what callers cause, in the template's code: your own lines all pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._since = 0.0
        self._counts: dict[tuple[str, int, str], int] = {}

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if record.created >= self._since + _MINUTE or record.created < self._since:
            counts, self._counts, self._since = self._counts, {}, record.created
            for (name, level, message), count in counts.items():
                if count > _MOST:
                    line = "%s more lines in the last minute were: %s"
                    logging.getLogger(name).log(level, line, count - _MOST, message)
        if not record.name.startswith(_OURS):
            return True
        # What a caller writes is in the arguments.
        kind = record.name, record.levelno, str(record.msg)
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return self._counts[kind] <= _MOST


def logging_config(settings: ServerSettings) -> dict[str, Any]:
    """Return the configuration; other packages than the service are logged from warnings on."""
    level = settings.log_level
    server = {"level": level, "handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": type(_formatter(settings))}},
        "filters": {
            "without_floods": {"()": WithoutFloods},
            "without_query": {"()": WithoutQuery},
        },
        "handlers": {
            "console": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "line",
                "filters": ["without_floods"],
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


def log_if_nobody_does(settings: ServerSettings) -> None:
    """Configure the log where the server has not, such as uvicorn's own command.

    The server's handlers and levels stay; its line per request would be the second one.
    """
    if logging.getLogger("app").hasHandlers():
        return
    config = logging_config(settings)
    dictConfig(config | {"loggers": {"app": config["loggers"]["app"]}})
    logging.getLogger("uvicorn.access").disabled = True
    for logger in map(logging.getLogger, ("uvicorn", "uvicorn.error")):
        logger.addFilter(WithoutQuery())
        for handler in logger.handlers:
            handler.setFormatter(_formatter(settings))


def log_start(*settings: BaseSettings) -> None:
    """Write which version starts, and with which settings: all as JSON, else those that were set.

    A secret is left out, also one that is kept as plain text under a name like ``api_key``.
    """
    values: dict[str, object] = {}
    chosen: set[str] = set()
    for it in settings:
        dumped = it.model_dump(mode="json", fallback=lambda value: type(value).__name__)
        values |= _without_secrets(dumped)
        chosen |= it.model_fields_set
    listed = ", ".join(f"{name.upper()}={values[name]}" for name in sorted(chosen))
    logger.info("%s %s starts: %s", NAME, VERSION, listed, extra={"settings": values})


def _without_secrets(values: dict[str, object]) -> dict[str, object]:
    return {
        name: _HIDDEN if value and _SECRET_NAME.search(name) else _without_secret(value)
        for name, value in values.items()
    }


def _without_secret(value: object) -> object:
    match value:
        case dict():
            return _without_secrets(value)
        case list():
            return [_without_secret(it) for it in value]
        case str():
            return _CREDENTIALS.sub(f"{_HIDDEN}@", value)
    return value


def _formatter(settings: ServerSettings) -> logging.Formatter:
    return JsonFormatter() if settings.logs_json else LineFormatter()


def _time(record: logging.LogRecord) -> str:
    """Return when the record was made, in UTC (RFC 3339)."""
    return f"{_second(int(record.created))}.{int(record.msecs):03}Z"


@lru_cache(maxsize=1)
def _second(timestamp: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(timestamp))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else ascii(it)[1:-1] for it in text)


def _indented(text: str) -> str:
    return "\n".join(f"    {_printable(line)}" for line in text.split("\n"))
