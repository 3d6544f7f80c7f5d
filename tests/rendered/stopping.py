"""A rendered service, and two routes that count: ``python stopping.py`` with uvicorn's options.

It is run by the project's Python, with the project's folder in PYTHONPATH.
"""

from sqlalchemy import text

import app.server
from app.core.openapi import PUBLIC
from app.database.session import DbSession
from app.main import app as application

INSERT = text("INSERT INTO written (number) VALUES (:number)")


@application.get("/number", openapi_extra=PUBLIC)
async def read(number: int) -> int:
    return number


@application.post("/number", openapi_extra=PUBLIC)
async def write(number: int, session: DbSession) -> int:
    await (await session.connection()).execute(INSERT, {"number": number})
    return number


if __name__ == "__main__":
    app.server.main()
