"""Migrations while others migrate, and while the service runs."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import StringIO
from typing import IO

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Table
from sqlmodel import SQLModel

from tests.service.database.history import History, connected

TABLE = ('op.execute("CREATE TABLE note (id int)")', 'op.execute("DROP TABLE note")')
INDEX = """
with op.get_context().autocommit_block():
    op.execute("CREATE {unique} INDEX CONCURRENTLY {exists} ix_note_id ON note (id)")
"""
NO_INDEX = 'op.execute("DROP INDEX ix_note_id")'


def index(unique: str = "", exists: str = "") -> tuple[str, str]:
    return INDEX.format(unique=unique, exists=exists), NO_INDEX


def column(name: str, table: str = "note") -> tuple[str, str]:
    return (
        f'op.execute("ALTER TABLE {table} ADD COLUMN {name} int")',
        f'op.execute("ALTER TABLE {table} DROP COLUMN {name}")',
    )


@asynccontextmanager
async def holding_the_lock(url: URL) -> AsyncIterator[None]:
    """Be another migrator: the one lock that a first one takes is the one to hold."""
    async with connected(url) as connection:
        await connection.execute("SELECT pg_advisory_lock(x'6d696772617465'::bigint)")
        yield


@asynccontextmanager
async def reading(
    url: URL, table: str = "note", isolation: str = "read_committed"
) -> AsyncIterator[None]:
    """Be a long transaction that has read a table; a repeatable one keeps what it has seen."""
    async with connected(url) as connection, connection.transaction(isolation=isolation):
        await connection.execute(f"SELECT FROM {table}")
        yield


async def run[**P](function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Run one of ``alembic.command``; it has an event loop of its own."""
    await asyncio.to_thread(function, *args, **kwargs)


async def line_with(text: str, stream: IO[str] | None) -> str:
    """Wait until a process writes a line with ``text``."""
    assert stream is not None
    async with asyncio.timeout(60):
        while line := await asyncio.to_thread(stream.readline):
            if text in line:
                return line
    raise AssertionError(f"the process has ended without saying {text!r}")


async def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit code, and what is left of the standard error."""
    _, stderr = await asyncio.to_thread(process.communicate)
    return process.returncode, stderr


async def until_said(text: str, times: int, caplog: pytest.LogCaptureFixture) -> None:
    """Wait until the log has a text so many times."""
    async with asyncio.timeout(20):
        while caplog.text.count(text) < times:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.02)


async def value(url: URL, query: str) -> object:
    async with connected(url) as connection:
        return await connection.fetchval(query)


VERSION = "SELECT version_num FROM alembic_version"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_note_id')"


class TestTogether:
    @pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
    async def test_eight_replicas_may_migrate_at_once(self, history: History) -> None:
        history.write(TABLE, column("number"), index())
        async with holding_the_lock(history.url):
            replicas = history.start("upgrade", "head", times=8)
            for _ in range(8):
                await line_with("Another process is migrating", replicas.stderr)
        code, stderr = await end_of(replicas)

        assert code == 0, stderr
        assert stderr.count("Running upgrade") == 3
        assert "Another process" not in stderr, "once is enough"
        assert await value(history.url, VALID) is True

    async def test_a_migrator_that_is_killed_makes_room_for_the_next(
        self, history: History
    ) -> None:
        slow = 'time.sleep(float(os.environ.get("DAWDLE", "0")))'
        history.write((f"{TABLE[0]}\n{slow}", TABLE[1]))
        killed = history.start("upgrade", "head", DAWDLE="600")
        await line_with("Running upgrade", killed.stderr)
        next_one = history.start("upgrade", "head")
        await line_with("Another process is migrating", next_one.stderr)
        killed.kill()
        await end_of(killed)

        code, stderr = await end_of(next_one)
        assert code == 0, stderr
        assert await value(history.url, VERSION) == "1"

    async def test_a_migrator_does_not_wait_for_ever(self, history: History) -> None:
        history.write(TABLE)
        async with holding_the_lock(history.url):
            code, stderr = await end_of(
                history.start("upgrade", "head", MIGRATION_WAIT_TIMEOUT="0.1")
            )
        assert code == 1
        assert "Another process is still migrating the database after 0.1 s" in stderr
        assert "MIGRATION_WAIT_TIMEOUT" in stderr
        assert "Traceback" not in stderr

    async def test_a_migration_that_fails_lets_go_of_the_lock(self, history: History) -> None:
        history.write(TABLE, ('raise RuntimeError("a bug")', "pass"))
        with pytest.raises(RuntimeError, match="a bug"):
            await run(command.upgrade, history.config, "head")
        assert await value(history.url, VERSION) == "1", "what came before it stays"
        await run(command.downgrade, history.config, "base")

    async def test_the_current_revision_can_be_asked_for_meanwhile(self, history: History) -> None:
        history.write(TABLE)
        await run(command.upgrade, history.config, "head")
        config = history.config
        config.stdout = StringIO()
        async with holding_the_lock(history.url):
            await run(command.current, config)
        assert config.stdout.getvalue() == "1 (head)\n"


class TestBesideTheService:
    @pytest.fixture(autouse=True)
    def short_pauses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("migrations.migrator._LONGEST_PAUSE", 0.05)

    async def test_nobody_waits_for_longer_than_the_lock_timeout(
        self, history: History, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An ALTER behind a long reader would make all other readers wait for that one's end."""
        monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", "0.2")
        history.write(TABLE, column("number"))
        await run(command.upgrade, history.config, "1")
        stop = asyncio.Event()

        async def read_on() -> None:
            async with connected(history.url) as connection:
                await connection.execute("SET lock_timeout = '10s'")
                while not stop.is_set():
                    await connection.execute("SELECT FROM note")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read_on())
            async with reading(history.url):
                migrating = tasks.create_task(run(command.upgrade, history.config, "head"))
                await until_said("Could not get a lock", 2, caplog)
            await migrating
            stop.set()
        assert await value(history.url, VERSION) == "2"

    async def test_a_table_that_never_becomes_free_ends_the_migration(
        self, history: History, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", "0.1")
        monkeypatch.setenv("MIGRATION_WAIT_TIMEOUT", "0.1")
        history.write(TABLE, column("number"))
        await run(command.upgrade, history.config, "1")
        async with reading(history.url):
            with pytest.raises(SystemExit, match="Gave up after waiting 0 s for locks"):
                await run(command.upgrade, history.config, "head")

    async def test_another_attempt_takes_back_no_more_than_asked_for(
        self, history: History, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", "0.1")
        other = ('op.execute("CREATE TABLE other ()")', 'op.execute("DROP TABLE other")')
        history.write(TABLE, other, column("number"), column("number", "other"))
        await run(command.upgrade, history.config, "head")
        async with reading(history.url):
            downgrade = asyncio.create_task(run(command.downgrade, history.config, "-2"))
            await until_said("Could not get a lock", 1, caplog)
        await downgrade
        assert await value(history.url, VERSION) == "2"

    async def test_a_revision_that_a_deadlock_has_ended_begins_again(
        self, history: History, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Which of the two a deadlock ends is nobody's choice; a sequence counts the attempts."""
        deadlock = "IF nextval('attempt') = 1 THEN RAISE SQLSTATE '40P01'; END IF;"
        history.write(
            ('op.execute("CREATE SEQUENCE attempt")', "pass"),
            (f'op.execute("DO $$ BEGIN {deadlock} END $$")', "pass"),
        )
        await run(command.upgrade, history.config, "head")
        assert caplog.text.count("Could not get a lock") == 1
        assert await value(history.url, VERSION) == "2"

    async def test_a_revision_after_one_that_has_left_its_transaction_begins_again(
        self, history: History
    ) -> None:
        busy = "IF nextval('attempt') = 1 THEN RAISE SQLSTATE '55P03'; END IF;"
        sequence = 'op.execute("CREATE SEQUENCE attempt")'
        history.write(
            (f"{TABLE[0]}\n{sequence}", "pass"),
            index(),
            (f'op.execute("DO $$ BEGIN {busy} END $$")', "pass"),
        )
        await run(command.upgrade, history.config, "head")
        assert await value(history.url, VERSION) == "3"

    async def test_an_index_may_wait_for_as_long_as_it_takes(
        self, history: History, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It holds up nobody meanwhile; and where it gives up, it leaves an invalid index."""
        monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", "0.01")
        history.write(TABLE, index())
        await run(command.upgrade, history.config, "1")
        async with (
            reading(history.url, isolation="repeatable_read"),
            connected(history.url) as connection,
        ):
            building = asyncio.create_task(run(command.upgrade, history.config, "head"))
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE%' AND"
                " wait_event_type = 'Lock' AND now() - query_start > interval '0.2 s'"
                " AND datname = current_database()"
            )
            async with asyncio.timeout(20):
                while not await connection.fetchval(query):
                    assert not building.done(), "it has not waited"
        await building
        assert await value(history.url, VALID) is True

    async def test_the_limits_of_requests_do_not_end_a_migration(self, history: History) -> None:
        history.write(('op.execute("SELECT pg_sleep(0.5)")', "pass"))
        async with connected(history.url) as connection:
            await connection.execute(
                f"ALTER DATABASE {history.url.database} SET statement_timeout = '300ms'"
            )
        await run(command.upgrade, history.config, "head")


class TestUnknownRevisions:
    @pytest.mark.parametrize("migrate", [command.upgrade, command.downgrade])
    async def test_one_that_the_folder_has_not_is_named(
        self, history: History, migrate: Callable[[Config, str], None]
    ) -> None:
        """Another branch has migrated the database, or a newer release, which is now taken back."""
        history.write(TABLE, column("number"))
        await run(command.upgrade, history.config, "head")
        (history.folder / "versions/2.py").unlink()
        with pytest.raises(
            SystemExit, match="The database is at 2, and migrations/versions has"
        ) as caught:
            await run(migrate, history.config, "1")
        assert "poe db --fresh" in str(caught.value)

        await run(command.stamp, history.config, "1", purge=True)
        await run(command.upgrade, history.config, "head")
        assert await value(history.url, VERSION) == "1"


class TestBranches:
    """What a merge of two branches leaves in the folder."""

    @pytest.fixture
    def branched(self, history: History) -> History:
        history.write(TABLE, column("number"), column("size"))
        third = history.folder / "versions/3.py"
        third.write_text(third.read_text("utf-8").replace("= '2'", "= '1'"), "utf-8")
        return history

    @pytest.mark.parametrize(
        "migrate",
        [
            lambda config: command.upgrade(config, "head"),
            lambda config: command.upgrade(config, "head", sql=True),
            lambda config: command.stamp(config, "head"),
            lambda config: command.revision(config, "more", autogenerate=True),
            command.check,
        ],
    )
    async def test_two_heads_are_named_with_the_command_that_joins_them(
        self, branched: History, migrate: Callable[[Config], None]
    ) -> None:
        await run(command.upgrade, branched.config, "2")
        with pytest.raises(SystemExit, match=r"2 heads, 2 and 3.*`uv run poe merge`"):
            await run(migrate, branched.config)
        await run(command.merge, branched.config, "heads", message="Merge branches")
        await run(command.upgrade, branched.config, "head")
        await run(command.downgrade, branched.config, "base")

    async def test_one_head_of_several_can_still_be_named(self, branched: History) -> None:
        await run(command.upgrade, branched.config, "2")
        await run(command.upgrade, branched.config, "heads")

    @pytest.mark.parametrize(
        ("before", "after", "said"),
        [
            ('revision = "3"', 'revision = "2"', "Revision 2 is present more than once"),
            ("= '1'", "= 'lost'", "Revision lost referenced from lost -> 3"),
        ],
    )
    async def test_a_folder_that_is_no_history_is_refused(
        self, branched: History, before: str, after: str, said: str
    ) -> None:
        third = branched.folder / "versions/3.py"
        third.write_text(third.read_text("utf-8").replace(before, after), "utf-8")
        with pytest.raises(SystemExit, match=said):
            await run(command.upgrade, branched.config, "head")


class TestRefusedStatements:
    @pytest.mark.parametrize(
        ("statement", "said", "advice"),
        [
            (
                "ALTER TABLE note ADD COLUMN x int NOT NULL",
                "contains null values",
                "server_default",
            ),
            ("ALTER TABLE note ALTER COLUMN no SET NOT NULL", "contains null", "server_default"),
            ("ALTER TABLE note ADD UNIQUE (id)", "could not create unique index", "change them"),
            ("ALTER TABLE note ADD CHECK (id > 1)", "is violated by some row", "change them"),
            ("ALTER TABLE note ALTER id TYPE date", "cannot be cast", "postgresql_using"),
            ("ALTER TABLE absent ADD x int", 'relation "absent" does not exist', ""),
            ("CREATE TABLE note ()", 'relation "note" already exists', ""),
            ("SELEC '100 %'", "syntax error", ""),
        ],
    )
    async def test_one_sentence_says_which_revision_failed_and_why(
        self, history: History, statement: str, said: str, advice: str
    ) -> None:
        """It was two hundred lines of traceback."""
        rows = "SELECT 1 AS id, NULL AS no FROM generate_series(1, 2)"
        table = f'op.execute("CREATE TABLE note AS {rows}")'
        history.write((table, "pass"), (f'op.execute("{statement}")', "pass"))
        code, stderr = await end_of(history.start("upgrade", "head"))
        assert code == 1
        assert "Traceback" not in stderr
        assert "2.py was rolled back: " in stderr
        assert said in stderr
        assert statement in stderr
        assert advice in stderr
        assert len(stderr.splitlines()) < 12
        assert await value(history.url, VERSION) == "1"

    async def test_the_values_of_rows_are_not_repeated(self, history: History) -> None:
        table = (
            "op.execute(\"CREATE TABLE note AS SELECT 'secret' AS id FROM generate_series(1, 2)\")"
        )
        history.write((table, "pass"), ('op.execute("ALTER TABLE note ADD UNIQUE (id)")', "pass"))
        _, stderr = await end_of(history.start("upgrade", "head"))
        assert "could not create unique index" in stderr
        assert "secret" not in stderr


class TestInvalidIndexes:
    async def test_one_that_was_left_is_named_until_it_is_gone(self, history: History) -> None:
        history.write(TABLE, index("UNIQUE", "IF NOT EXISTS"))
        await run(command.upgrade, history.config, "1")
        ours = Table("note", SQLModel.metadata)
        try:
            async with connected(history.url) as connection:
                await connection.execute("INSERT INTO note VALUES (1), (1)")
                for _ in ("it fails", "it finds an index of that name, and does nothing"):
                    with pytest.raises(SystemExit, match="DROP INDEX CONCURRENTLY ix_note_id;"):
                        await run(command.upgrade, history.config, "head")
                    assert await connection.fetchval(VERSION) == "1"
                await connection.execute("DROP INDEX ix_note_id; TRUNCATE note")
            await run(command.upgrade, history.config, "head")
        finally:
            SQLModel.metadata.remove(ours)
        assert await value(history.url, VALID) is True

    async def test_that_of_a_partitioned_table_may_wait_for_its_partitions(
        self, history: History
    ) -> None:
        statements = (
            "CREATE TABLE note (id int) PARTITION BY RANGE (id)",
            "CREATE TABLE note_1 PARTITION OF note FOR VALUES FROM (0) TO (9)",
            "CREATE INDEX ix_note_id ON ONLY note (id)",
        )
        upgrade = "\n".join(f'op.execute("{statement}")' for statement in statements)
        history.write((upgrade, TABLE[1]))
        ours = Table("note", SQLModel.metadata)
        try:
            await run(command.upgrade, history.config, "head")
        finally:
            SQLModel.metadata.remove(ours)
        assert await value(history.url, VALID) is False
        assert await value(history.url, VERSION) == "1"

    async def test_what_was_committed_half_way_does_not_begin_again(
        self, history: History, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", "0.1")
        history.write(TABLE, (index()[0] + column("number", "held")[0], "pass"))
        await run(command.upgrade, history.config, "1")
        async with connected(history.url) as connection:
            await connection.execute("CREATE TABLE held ()")
        async with reading(history.url, "held"):
            with pytest.raises(SystemExit, match=r"(?s)had committed a part.*stamp the revision"):
                await run(command.upgrade, history.config, "head")


class TestTheConnection:
    @pytest.mark.parametrize("other", ["postgresql://app@127.0.0.1:9/app", ""])
    async def test_migrations_may_have_a_url_of_their_own(
        self, history: History, monkeypatch: pytest.MonkeyPatch, other: str
    ) -> None:
        monkeypatch.setenv("MIGRATION_DATABASE_URL", os.environ["DATABASE_URL"])
        monkeypatch.setenv("DATABASE_URL", other)
        history.write(TABLE)
        await run(command.upgrade, history.config, "head")
        assert await value(history.url, VERSION) == "1"

    async def test_sql_needs_neither_a_database_nor_settings(
        self, history: History, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        history.write(TABLE, index())
        monkeypatch.delenv("DATABASE_URL")
        await run(command.upgrade, history.config, "head", sql=True)
        said = capsys.readouterr().out
        assert said.count("BEGIN;") == said.count("COMMIT;") == 3
        assert re.search(r"COMMIT;\s+CREATE\s+INDEX CONCURRENTLY [^;]+;\s+BEGIN;", said)
