"""The service's name and version, as ``pyproject.toml`` states them."""

import tomllib
from pathlib import Path

_DOCUMENT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))

TITLE: str = _DOCUMENT["tool"]["service"]["title"]
NAME: str = _DOCUMENT["project"]["name"]
DESCRIPTION: str = _DOCUMENT["project"]["description"]
VERSION: str = _DOCUMENT["project"]["version"]
