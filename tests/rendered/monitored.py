"""A rendered service that fails as asked: ``python monitored.py`` with uvicorn's options.

It is run by the project's Python, with the project's folder in PYTHONPATH.
"""

from sqlalchemy import text

import app.server
from app.core.openapi import PUBLIC
from app.database.session import DbSession
from app.main import app as application


@application.get("/items/{number}/bug", openapi_extra=PUBLIC)
async def fail(number: int) -> int:
    return number // 0


@application.get("/sleep", openapi_extra=PUBLIC)
async def sleep(seconds: float, session: DbSession) -> None:
    """Hold a connection."""
    connection = await session.connection()
    await connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})


@application.get("/error", openapi_extra=PUBLIC)
async def raise_error(state: str, session: DbSession) -> None:
    """Have the database report an error with an SQLSTATE, such as 53300."""
    assert state.isalnum()
    connection = await session.connection()
    await connection.execute(
        text(f"DO $$ BEGIN RAISE EXCEPTION 'asked for' USING ERRCODE = '{state}'; END $$")
    )


if __name__ == "__main__":
    app.server.main()
