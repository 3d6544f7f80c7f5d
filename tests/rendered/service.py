"""A service with one protected route, made of a rendered project's own code.

It is run by the project's Python, in the project's folder: ``python service.py PORT``.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from app.core.errors import add_exception_handlers
from app.core.settings import load_settings
from app.settings import Settings
from app.utils.sso.introspection import CurrentToken
from app.utils.sso.resource_server.introspector import open_introspector


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.settings = load_settings(Settings)
    async with open_introspector(app.state.settings) as app.state.introspector:
        yield


app = FastAPI(lifespan=lifespan)
add_exception_handlers(app)


@app.get("/ready")
async def ready() -> None: ...


@app.get("/token")
async def read_token(token_data: CurrentToken) -> dict[str, object]:
    return token_data.model_dump() | {"subject": token_data.subject}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
