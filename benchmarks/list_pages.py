"""How much longer the last page of a list takes than the first, with a million rows.

Run it in the folder of a rendered project, with that project's Python:

    uv run python /path/to/benchmarks/list_pages.py
"""

import asyncio
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))
os.environ |= {"ENVIRONMENT": "test", "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/unset"}

from sqlalchemy import text
from sqlmodel import func, select

from app.core.pagination import PageQuery
from app.core.settings import DatabaseSettings
from app.database.model.user import User
from app.database.queries import list_rows
from app.database.session import Database, open_database
from template_tools.databases import open_test_databases

_ROWS = 1_000_000
_ROUNDS = 200
# Keys in the order of the rows, as UUIDv7 makes them.
_FILL = f"""
    INSERT INTO user_account (id, username, email)
    SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008000000000000000')::uuid,
        'user-' || n, 'user-' || n || '@example.com'
    FROM generate_series(1, {_ROWS}) AS n
"""


async def main() -> None:
    async with open_test_databases() as databases:
        url = await databases.create()
        settings = DatabaseSettings(
            database_url=url, database_statement_timeout=600, database_command_timeout=601
        )
        async with open_database(settings) as database:
            async with database.engine.begin() as connection:
                await connection.execute(text(_FILL))
            async with database.engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.execute(text("VACUUM ANALYZE user_account"))
            await compare(database)


async def compare(database: Database) -> None:
    """Read the first and the last page in turns, and print the ratio of the medians."""
    async with database.sessionmaker() as session:
        newest = select(User.id).order_by(User.id.desc()).offset(101).limit(1)
        cursor = (await session.exec(newest)).one()
        assert (await session.exec(select(func.count()).select_from(User))).one() == _ROWS
        pages = {
            "first": PageQuery(limit=100),
            "last": PageQuery.model_construct(cursor=cursor, limit=100),
        }
        times: dict[str, list[float]] = {name: [] for name in pages}
        for _ in range(_ROUNDS):
            for name, query in pages.items():
                begin = time.perf_counter()
                rows = await list_rows(session, User, query)
                times[name].append(time.perf_counter() - begin)
                assert len(rows.items) == 100
                session.expunge_all()
    first, last = (statistics.median(times[name]) for name in ("first", "last"))
    print(f"first page {first * 1000:.2f} ms, last page {last * 1000:.2f} ms: {last / first:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
