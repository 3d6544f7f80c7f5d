"""The service's name and version, and the answers that its code depends on, from pyproject.toml."""

import tomllib
from pathlib import Path

_DOCUMENT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))

TITLE: str = _DOCUMENT["tool"]["service"]["title"]
NAME: str = _DOCUMENT["project"]["name"]
DESCRIPTION: str = _DOCUMENT["project"]["description"]
VERSION: str = _DOCUMENT["project"]["version"]
# A project that is older than this setting introspects.
SSO_MODE: str = _DOCUMENT["tool"]["service"].get("sso_mode", "introspect")
# Where messages refer to the template's documentation.
DOCUMENTATION: str = _DOCUMENT["tool"]["service"].get("template_docs", "docs")
