"""What the log looks like, and what it never holds."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from app.core.logs import JsonFormatter, LineFormatter, WithoutFloods, log_start, logging_config
from app.core.request_log import REQUEST
from app.core.settings import ServerSettings
from app.settings import Settings

logger = logging.getLogger("app.core.example")


@contextmanager
def written(formatter: logging.Formatter, *filters: logging.Filter) -> Iterator[io.StringIO]:
    """Let the logger write to a text, and to nothing else."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    for it in filters:
        handler.addFilter(it)
    root = logging.getLogger("app")
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class TestJson:
    def test_a_record_is_an_object_on_one_line(self) -> None:
        with written(JsonFormatter()) as stream:
            logger.warning("%s of %s", 1, "ten\n{}", extra={"order": 7, "status": "paid"})
        [line] = objects(stream)
        assert line.pop("time").endswith("Z")
        assert line == {
            "level": "warning",
            "logger": "app.core.example",
            "message": "1 of ten\n{}",
            "order": 7,
            "status": "paid",
        }

    def test_it_names_the_request(self) -> None:
        context = REQUEST.set({"request_id": "r-1", "trace_id": "t-1"})
        try:
            with written(JsonFormatter()) as stream:
                logger.info("within", extra={"request_id": "forged"})
        finally:
            REQUEST.reset(context)
        [line] = objects(stream)
        assert (line["request_id"], line["trace_id"]) == ("r-1", "t-1")

    def test_a_traceback_is_a_part_of_it(self) -> None:
        with written(JsonFormatter()) as stream:
            try:
                raise LookupError("it is\nnot there")
            except LookupError:
                logger.exception("failed")
            logger.info("here", stack_info=True)
        first, second = objects(stream)
        assert first["exception"].endswith("LookupError: it is\nnot there")
        assert "Stack (most recent call last)" in second["stack"]

    @pytest.mark.parametrize(
        "value", [object(), {1, 2}, b"bytes", SecretStr("secret-7"), [object()]]
    )
    def test_any_extra_can_be_written(self, value: object) -> None:
        with written(JsonFormatter()) as stream:
            logger.info("with", extra={"value": value})
        assert "value" in objects(stream)[0]
        assert "secret-7" not in stream.getvalue()


class TestText:
    def test_the_id_of_the_request_is_at_the_end(self) -> None:
        context = REQUEST.set({"request_id": "r-1"})
        try:
            with written(LineFormatter()) as stream:
                logger.info("within")
        finally:
            REQUEST.reset(context)
        assert stream.getvalue().endswith(" INFO app.core.example: within [r-1]\n")

    @pytest.mark.parametrize(
        ("is_terminal", "no_color", "is_coloured"),
        [(True, "", True), (True, "1", False), (False, "", False)],
    )
    def test_only_a_terminal_gets_colours(
        self,
        monkeypatch: pytest.MonkeyPatch,
        is_terminal: bool,
        no_color: str,
        is_coloured: bool,
    ) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
        monkeypatch.setenv("NO_COLOR", no_color)
        with written(LineFormatter()) as stream:
            logger.error("failed")
        assert ("\033[" in stream.getvalue()) is is_coloured


class TestFloods:
    def test_a_flood_is_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with written(LineFormatter(), WithoutFloods()) as stream:
            for number in range(2000):
                logger.info("The token %s was refused", number)
            assert stream.getvalue().count("was refused") == 10
            skip_a_minute(monkeypatch)
            logger.info("Something else")
        assert (
            "1990 more lines in the last minute were: The token %s was refused" in stream.getvalue()
        )
        assert "Something else" in stream.getvalue()

    def test_it_hides_no_other_line(self) -> None:
        with written(LineFormatter(), WithoutFloods()) as stream:
            for _ in range(20):
                logger.info("the same")
            logger.warning("the same")
            logger.info("another")
            logging.getLogger("app.core.other").info("the same")
        assert stream.getvalue().count("\n") == 13

    @pytest.mark.parametrize("name", ["app.request", "app.api.v1.user.service", "app.billing"])
    def test_lines_of_requests_and_of_the_service_itself_all_pass(self, name: str) -> None:
        with written(LineFormatter(), WithoutFloods()) as stream:
            for _ in range(50):
                logging.getLogger(name).info("the same")
        assert stream.getvalue().count("\n") == 50


def skip_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(logging.LogRecord):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:  # noqa: ANN401
            super().__init__(*arguments, **keywords)
            self.created += 61

    monkeypatch.setattr(logging, "_logRecordFactory", Later)


class TestTheStart:
    def test_it_says_with_which_settings(self, settings: Settings) -> None:
        with written(JsonFormatter()) as stream:
            log_start(ServerSettings(), settings)
        [line] = objects(stream)
        assert line["settings"]["sso_audience"] == settings.sso_audience
        assert line["settings"]["database_pool_size"] == 10
        assert line["settings"]["server_max_connections"] == 1000
        assert f"SSO_AUDIENCE={settings.sso_audience}" in line["message"]
        assert "DATABASE_POOL_SIZE" not in line["message"]

    def test_and_names_no_secret(self) -> None:
        class Own(BaseSettings):
            billing_api_key: str = "secret-7"
            smtp_password: str = "secret-7"
            sentry_dsn: str = "https://secret-7@sentry.example.com/1"
            broker_url: str = "amqp://user:secret-7@broker:5672/"
            nested: dict[str, Any] = {"password": "secret-7", "urls": ["amqp://a:secret-7@b"]}
            hidden: SecretStr = SecretStr("secret-7")
            key_size: int = 7

        with written(JsonFormatter()) as stream:
            log_start(Own())
        assert "secret-7" not in stream.getvalue()
        values = objects(stream)[0]["settings"]
        assert values["key_size"] == 7
        assert values["broker_url"] == "amqp://***@broker:5672/"


@pytest.mark.parametrize(
    ("variables", "is_json"),
    [
        ({"environment": "production"}, True),
        ({"environment": "development"}, False),
        ({"environment": "production", "log_format": "text"}, False),
        ({"environment": "development", "log_format": "json"}, True),
    ],
)
def test_production_logs_json(variables: dict[str, Any], is_json: bool) -> None:
    config = logging_config(ServerSettings(**variables))
    assert (config["formatters"]["line"]["()"] is JsonFormatter) is is_json
