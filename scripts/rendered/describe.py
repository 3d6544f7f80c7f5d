"""Print, as JSON, the settings and the API of the project in which it runs."""

import json
import os
import sys
from pathlib import Path
from typing import Literal, TypeAliasType, Union, get_args, get_origin

# A script's own folder is on the path, and not the one that it runs in.
sys.path.insert(0, str(Path.cwd()))
os.environ |= {
    "ENVIRONMENT": "test",
    "DATABASE_URL": "postgresql://app@localhost/app",
    "SSO_ISSUER": "https://sso.example.com",
    "SSO_AUDIENCE": "service",
    "CLIENT_ID": "service",
    "CLIENT_SECRET": "secret",
}

from annotated_types import Ge, Gt, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from app.core import settings as core
from app.main import app
from app.settings import Settings

# What the value of a type looks like in the environment.
WORDS = {
    "DatabaseUrl": "PostgreSQL URL",
    "EndpointUrl": "URL",
    "HttpUrl": "URL",
    "Origin": "origin",
    "ReadableFile": "path of a file",
    "SecretStr": "secret",
    "bool": "`true` or `false`",
    "float": "number",
    "int": "whole number",
    "str": "text",
}
KINDS = (
    core.DatabaseSettings,
    core.CoreSettings,
    Settings,
    core.ServerSettings,
    core.MigrationSettings,
)


def kind(annotation: object) -> str:
    """Say what may be written."""
    name: str = getattr(annotation, "__name__", "")
    if name in WORDS:
        return WORDS[name]
    if isinstance(annotation, TypeAliasType):
        return kind(annotation.__value__)
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"{kind(get_args(annotation)[0])}, or several with commas between"
    if get_origin(annotation) in {Union, type(int | None)}:
        return " or ".join(kind(it) for it in get_args(annotation) if it is not type(None))
    raise TypeError(f"describe.py has no words for {annotation}")


def bounds(field: FieldInfo) -> str:
    """Say how small and how large a number may be."""
    found = {type(it): it for it in field.metadata}
    low, above, high = found.get(Ge), found.get(Gt), found.get(Le)
    if low and high:
        return f", {low.ge:,} to {high.le:,}"
    if low:
        return f", {low.ge:,} or more"
    if above and high:
        return f", more than {above.gt:,}, at most {high.le:,}"
    return f", more than {above.gt:,}" if above else ""


def default(name: str, field: FieldInfo) -> str:
    """Say what holds where the setting is missing."""
    methods = get_args(core.ClientAuthMethod.__value__)
    if needed := core._NEEDED_TO_INTROSPECT.get(name):
        named = " or ".join(f"`{it}`" for it in methods if it in needed)
        return "required to introspect" + ("" if {*methods} == needed else f" with {named}")
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined:
        value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value in {"", ()}:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def described(name: str, field: FieldInfo) -> dict[str, str]:
    """Return the row of a setting."""
    row = {
        "kind": kind(field.annotation) + bounds(field),
        "default": default(name, field),
        "description": field.description or "",
    }
    # A number in the code, and a word in the environment.
    if name == "log_level":
        row |= {"kind": "`debug` or `info` or `warning` or `error`", "default": "`info`"}
    return row


def rows(kind: type[BaseSettings]) -> dict[str, dict[str, str]]:
    """Return the rows of a class: of the settings that it adds or changes."""
    return {name: described(name, kind.model_fields[name]) for name in kind.__annotations__}


print(json.dumps({"settings": {it.__name__: rows(it) for it in KINDS}, "openapi": app.openapi()}))
