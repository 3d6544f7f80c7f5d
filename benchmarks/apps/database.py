"""A database with the service's schema and some users, for as long as standard input is open.

``database COUNT ISSUER``: the users are known to the issuer as subject-1, subject-2, ...
"""

import asyncio
import sys

import asyncpg

from template_tools.databases import open_test_databases

_FILL = """
    INSERT INTO user_account (id, username, email, full_name, issuer, subject)
    SELECT
        (lpad(to_hex(1700000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
        'user-' || n, 'user-' || n || '@example.com', 'User ' || n, '{issuer}', 'subject-' || n
    FROM generate_series(1, {count}) AS n
"""


async def main() -> None:
    """Print the URL of the database, and drop it at the end of the input."""
    async with open_test_databases() as databases:
        url = await databases.create()
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = await asyncpg.connect(plain)
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(_FILL.format(count=int(sys.argv[1]), issuer=sys.argv[2]))
        await connection.execute("VACUUM ANALYZE user_account")
        await connection.close()
        print(url.render_as_string(hide_password=False), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
