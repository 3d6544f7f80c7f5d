"""What a developer reads in a terminal of 80 columns, and what a pipe or a file gets instead."""

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.answers import DEFAULTS, Answers
from tests.processes import free_ports, processes_of, wait_until
from tests.projects import RELEASE, REPOSITORY, Project, commit, output, succeed
from tests.test_copier_yml import DOCUMENT
from tests.test_dev import START_SECONDS, STOP_SECONDS, running

type MakeProject = Callable[[Answers], Project]

STYLE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
SECONDS = 60


@dataclass
class Terminal:
    """A program in a terminal of 80 columns."""

    process: subprocess.Popen[bytes]
    descriptor: int
    raw: str = ""
    seen: int = field(default=0, init=False)

    def type(self, keys: str) -> None:
        """Press keys, which the program gets as soon as it reads."""
        os.write(self.descriptor, keys.encode())

    def read_until(self, text: str) -> str:
        """Return what was written since the last call, without styles, once it has the text."""
        deadline = time.monotonic() + SECONDS
        while text not in (new := STYLE.sub("", self.raw[self.seen :])):
            assert time.monotonic() < deadline, new
            if select.select([self.descriptor], [], [], 0.1)[0]:
                try:
                    self.raw += os.read(self.descriptor, 65536).decode(errors="replace")
                except OSError:
                    # Linux reports the end of a terminal so.
                    assert text in STYLE.sub("", self.raw[self.seen :]), self.raw
        self.seen = len(self.raw)
        return new

    def read_to_end(self) -> str:
        """Return everything that was written, once the program has ended."""
        with suppress(OSError):
            while data := os.read(self.descriptor, 65536):
                self.raw += data.decode(errors="replace")
        self.process.wait(SECONDS)
        return self.raw.replace("\r\n", "\n")


@contextmanager
def terminal(*command: str | Path, cwd: Path, env: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a program in a terminal, which is closed at the end."""
    descriptor, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    try:
        yield Terminal(process, descriptor)
    finally:
        process.kill()
        process.wait()
        os.close(descriptor)


def coloured(project: Project, **more: str) -> dict[str, str]:
    """Return the environment of somebody who has not asked for another."""
    others = ("NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS", "CI")
    kept = {name: value for name, value in project.env.items() if name not in others}
    return kept | {"TERM": "xterm-256color"} | more


class TestTheQuestions:
    def test_each_reason_of_a_refusal_is_shown_whole(self, tmp_path: Path, template: Path) -> None:
        command = (sys.executable, "-m", "copier", "copy", template, tmp_path / "new")
        with terminal(*command, cwd=tmp_path, env=os.environ | {"TERM": "xterm"}) as copier:
            self.refuse(copier, "project_name", " ", "Leave out the outer spaces")
            self.refuse(copier, "project_name", "x" * 61, "Write 1-60 characters on one line")
            self.answer(copier, "Shop", "One sentence")
            self.refuse(copier, "description", "x" * 201, "Write 1-200 characters on one line")
            self.answer(copier, "Sells.", "machines")
            self.refuse(copier, "project_slug", "A", "Write only a-z, 0-9 and hyphens")
            self.refuse(copier, "project_slug", "a", "Write 2 to 40 characters")
            self.refuse(copier, "project_slug", "1a", "Write a letter first")
            self.refuse(copier, "project_slug", "a--b", "Write words joined by single -")
            self.refuse(copier, "project_slug", "fastapi", "Write another: a package has it")
            self.answer(copier, "shop", "Python")
            for question in ("CI", "pull request", "elsewhere", "PostgreSQL"):
                copier.type("\r")
                copier.read_until(question)
            self.refuse(copier, "database_url", "x", "Write postgresql://user@host/name")
            secret = "postgresql://a:b@c/d"
            self.refuse(copier, "database_url", secret, "Leave the password to .env only")
            self.answer(copier, "", "issuer")
            self.refuse(copier, "sso_issuer", "x", "Write https://host/path, or nothing")
            self.answer(copier, "https://sso.example.com", "aud of its tokens")
            self.refuse(copier, "sso_audience", "a b", "Write 1-255 ASCII, no space or ${")
            self.answer(copier, "shop", "The client at the provider")
            self.refuse(copier, "sso_client_id", "ñ", "Write 1 to 255 ASCII, and no ${")
            self.answer(copier, "shop", "secret")
            self.refuse(copier, "sso_client_secret", "ñ", "Write up to 500 ASCII, no ${")
            self.answer(copier, "", "How a token is checked")
            for question in ("Valkey", "password here", "Shop is ready"):
                copier.type("\r")
                copier.read_until(question)
            said = copier.read_to_end()
        assert f"cd {tmp_path}/new" in said
        assert "the client's secret goes into CLIENT_SECRET, in .env" in said
        assert "the database's password" not in said

    def answer(self, copier: Terminal, text: str, then: str) -> None:
        """Replace what is in the field, and wait for the next question."""
        copier.type(f"\x05\x15{text}\r")
        copier.read_until(then)

    def refuse(self, copier: Terminal, question: str, text: str, reason: str) -> None:
        """Give an answer that is refused."""
        copier.type(f"\x05\x15{text}\r")
        shown = copier.read_until(f"question '{question}': {reason}")
        assert "Traceback" not in shown

    def test_without_a_provider_nothing_is_asked_about_it(
        self, tmp_path: Path, template: Path
    ) -> None:
        command = (sys.executable, "-m", "copier", "copy", template, tmp_path / "it's new")
        with terminal(*command, cwd=tmp_path, env=os.environ | {"TERM": "xterm"}) as copier:
            for question in ("name", "One sentence", "machines", "Python", "CI", "pull request"):
                copier.read_until(question)
                copier.type("\r")
            for question in ("elsewhere", "PostgreSQL", "issuer", "How a token is checked"):
                copier.read_until(question)
                copier.type("\r")
            for question in ("Valkey", "password here"):
                copier.read_until(question)
                copier.type("\r")
            copier.read_until("is ready")
            said = copier.read_to_end()
        assert "The client at the provider" not in STYLE.sub("", said)
        # It can be pasted into a shell.
        assert f"cd '{tmp_path}/it'\"'\"'s new'" in said
        assert "CLIENT_SECRET, in .env" not in said

    def test_an_update_says_the_release_and_the_next_commands(
        self, tmp_path: Path, template: Path
    ) -> None:
        copier = (sys.executable, "-m", "copier")
        folder = tmp_path / "new"
        succeed(*copier, "copy", "--quiet", "--defaults", template, folder, cwd=tmp_path)
        succeed("git", "init", "--quiet", cwd=folder)
        commit(folder, "Start")
        command = [*copier, "update", "--defaults", "--context-lines", "1000"]
        with terminal(*command, cwd=folder, env=os.environ | {"TERM": "xterm"}) as update:
            said = STYLE.sub("", update.read_to_end())
        assert f"My Service stands on release {RELEASE} now. Next:" in said
        assert "    git diff --check " in said
        assert f"{template}/CHANGELOG.md" in said
        assert f"{template}/docs/questions.md#answered-anew" in said

    @pytest.mark.parametrize("message", ["_message_after_copy", "_message_after_update"])
    def test_no_line_of_what_is_said_at_the_end_is_wrapped(self, message: str) -> None:
        lines = [line for line in DOCUMENT[message].splitlines() if "{" not in line]
        assert len(lines) > 5
        assert all(len(line) <= 80 for line in lines)


class TestTheMenu:
    def test_poe_alone_lists_the_groups_in_the_order_of_use(self, project: Project) -> None:
        with terminal(*project.uv_run("poe"), cwd=project.folder, env=project.env) as poe:
            said = STYLE.sub("", poe.read_to_end()).partition("Configured tasks:")[2]
        groups = re.findall(r"^ (\S.*)$", said, re.MULTILINE)
        assert groups == ["Run", "Database", "Checks", "Packages", "Template"]
        assert all(len(line) <= 80 for line in said.splitlines())
        assert "Global options" not in said

    def test_a_command_of_the_teams_comes_first_and_may_replace_ours(
        self, make_project: MakeProject
    ) -> None:
        project = make_project(DEFAULTS)
        pyproject = project.folder / "pyproject.toml"
        text = pyproject.read_text("utf-8")
        own = '[tool.poe.tasks]\nseed = { cmd = "echo ours", help = "Our rows" }\n'
        pyproject.write_text(text.replace("[tool.poe.tasks]\n", own), "utf-8")
        said = output(project.poe()).partition("Configured tasks:\n")[2]
        assert said.splitlines()[0].split() == ["seed", "Our", "rows"]
        assert "made-up rows" not in said
        assert project.poe("seed").stdout == "ours\n"


class TestTheDatabase:
    @pytest.fixture(scope="class")
    def seeded(self, make_project: MakeProject) -> Project:
        project = make_project(DEFAULTS)
        fields = ("number:str:unique", "amount:decimal", "due:date", "status:draft,sent")
        done = project.poe("resource", "invoice", *fields, "customer:user?")
        assert done.returncode == 0, output(done)
        refused = project.poe("seed")
        assert refused.returncode == 1
        assert "try again: uv run poe migrate" in refused.stderr
        assert project.poe("migrate").returncode == 0
        return project

    def test_every_table_gets_rows(self, seeded: Project) -> None:
        done = seeded.poe("seed", "--rows", "50")
        assert (done.returncode, done.stdout) == (0, "  user_account: 50\n  invoice: 50\n")
        more = seeded.poe("seed", "invoice", "--rows", "3")
        assert more.stdout == "  invoice: 3\n", output(more)

    def test_a_name_that_is_no_tables_is_answered_with_the_nearest(self, seeded: Project) -> None:
        done = seeded.poe("seed", "invoices")
        assert (done.returncode, done.stdout) == (1, "")
        assert "There is no table called invoices; did you mean invoice?" in done.stderr

    def test_a_database_elsewhere_is_not_filled(self, seeded: Project) -> None:
        env = {**seeded.env, "DATABASE_URL": "postgresql://app:hunter2@db.example.com/app"}
        done = replace(seeded, env=env).poe("seed")
        assert done.returncode == 1
        assert "uv run poe seed --database db.example.com/app" in done.stderr
        assert "hunter2" not in output(done)

    @pytest.mark.parametrize("own", [True, False], ids=["of the system", "of the wheel"])
    def test_a_terminal_gets_psql(self, seeded: Project, tmp_path: Path, own: bool) -> None:
        env = coloured(seeded, PAGER="cat", PSQL_PAGER="cat")
        if own and not shutil.which("psql"):
            pytest.skip("This machine has no psql.")
        if not own:
            # A PATH with uv and Python, and no psql.
            for program in ("uv", "python3"):
                if found := shutil.which(program, path=env["PATH"]):
                    (tmp_path / program).symlink_to(found)
            env["PATH"] = str(tmp_path)
        with terminal(*seeded.uv_run("poe", "db"), cwd=seeded.folder, env=env) as psql:
            shown = psql.read_until("app=# ")
            assert re.search(r"postgresql://app@127\.0\.0\.1:\d+/app ", shown)
            assert not [it for it in processes_of(seeded.folder).values() if "app:" in it]
            psql.type("SELECT 'rows: ' || count(*) FROM invoice;\r")
            assert "rows: " in psql.read_until("(1 row)")
            psql.type("\\q\r")
            psql.read_to_end()
        assert psql.process.returncode == 0

    def test_a_pipe_gets_the_url_and_so_does_who_asks_for_it(
        self, seeded: Project, tmp_path: Path
    ) -> None:
        python = seeded.program("python")
        held = (python, "-m", "template_tools.postgres", "run", "--", "sleep", "600")
        with running(seeded, *held, port=0, log=tmp_path / "held.log") as database:
            wait_until(lambda: seeded.poe("db").returncode == 0, START_SECONDS, database.said)
            url = seeded.poe("db").stdout
            assert re.fullmatch(r"postgresql://app:\w+@127\.0\.0\.1:\d+/app\S*\n", url)
            command = seeded.uv_run("poe", "db", "--url")
            with terminal(*command, cwd=seeded.folder, env=seeded.env) as asked:
                assert asked.read_to_end() == url


class TestDev:
    def test_fresh_begins_with_empty_tables(
        self, make_project: MakeProject, tmp_path: Path
    ) -> None:
        project = make_project(DEFAULTS)
        assert project.poe("migrate").returncode == 0
        assert project.poe("seed").returncode == 0
        (port,) = free_ports(1)
        dev = project.uv_run("poe", "dev", "--fresh", "--port", str(port))
        with running(project, *dev, port=port, log=tmp_path / "dev.log") as service:
            wait_until(service.is_healthy, START_SECONDS, service.said)
            assert "dev: emptying the development database" in service.said()
            said = project.poe("seed", "--rows", "1")
            assert said.stdout == "  user_account: 1\n"
            url = project.poe("db").stdout.strip()
            query = (
                "import asyncio, asyncpg, sys\n"
                "async def main():\n"
                "    connection = await asyncpg.connect(sys.argv[1])\n"
                "    print(await connection.fetchval('SELECT count(*) FROM user_account'))\n"
                "asyncio.run(main())"
            )
            assert project.tool("python", "-c", query, url).stdout == "1\n"

    def test_fresh_refuses_a_database_that_is_configured(self, project: Project) -> None:
        env = {**project.env, "DATABASE_URL": "postgresql://app:hunter2@127.0.0.1:9/app"}
        (port,) = free_ports(1)
        done = replace(project, env=env).poe("dev", "--fresh", "--port", str(port))
        assert done.returncode == 1
        assert "only the embedded development database is ever dropped" in done.stderr
        assert "Nothing was changed." in done.stderr
        assert "hunter2" not in output(done)

    def test_an_application_that_cannot_be_imported_is_waited_for(
        self, make_project: MakeProject, tmp_path: Path
    ) -> None:
        project = make_project(DEFAULTS)
        router = project.folder / "app/api/v1/router.py"
        text = router.read_text("utf-8")
        router.write_text(text + "\nmisspelt()\n", "utf-8")
        (port,) = free_ports(1)
        dev = project.uv_run("poe", "dev", "--port", str(port))
        with running(project, *dev, port=port, log=tmp_path / "dev.log") as service:
            waits = "dev: the service could not be imported; it starts when that is saved."
            wait_until(lambda: waits in service.said(), START_SECONDS, service.said)
            assert "NameError: name 'misspelt' is not defined" in service.said()
            assert 'router.py", line' in service.said()
            # Nothing of what uvicorn and importlib do in between.
            assert not re.search("site-packages|<frozen|template_tools", service.said())
            router.write_text(text, "utf-8")
            wait_until(service.is_healthy, START_SECONDS, service.said)
            wait_until(lambda: "/api/v1/user/me" in service.said(), START_SECONDS, service.said)

    def test_settings_that_cannot_be_imported_are_a_short_traceback(
        self, make_project: MakeProject
    ) -> None:
        project = make_project(DEFAULTS)
        settings = project.folder / "app/settings.py"
        settings.write_text(settings.read_text("utf-8") + "\nimport no_such_module\n", "utf-8")
        (port,) = free_ports(1)
        done = project.poe("dev", "--port", str(port))
        assert done.returncode == 1
        assert "ModuleNotFoundError: No module named 'no_such_module'" in done.stderr
        assert "app/settings.py could not be imported, so the service was not" in done.stderr
        assert not re.search("site-packages|<frozen|template_tools", done.stderr)
        left = (project.folder, project.database_folder())
        wait_until(lambda: not processes_of(*left), STOP_SECONDS, lambda: processes_of(*left))

    def test_only_a_terminal_sees_colour(self, project: Project) -> None:
        env = {"DATABASE_URL": "postgresql://app@127.0.0.1:9/app"}
        command = project.uv_run("poe", "dev", "--fresh", "--port", str(free_ports(1)[0]))
        red = "\x1b[31mDATABASE_URL is set"
        for more, expected in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
            shown = coloured(project, **env, **more)
            with terminal(*command, cwd=project.folder, env=shown) as dev:
                assert (red in dev.read_to_end()) == expected
        piped = replace(project, env=coloured(project, **env, FORCE_COLOR="1"))
        assert "\x1b" not in output(piped.poe(*command[command.index("dev") :]))


def test_the_recorded_session_shows_the_questions_as_they_are() -> None:
    """`uv run scripts/record_session.py` renews it."""
    picture = (REPOSITORY / "docs" / "session.svg").read_text("utf-8")
    assert len(picture.encode()) < 100_000
    assert "<script" not in picture
    assert "http://www.w3.org/2000/svg" in picture
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", picture)).replace("&amp;", "&")
    for name in ("project_name", "description", "project_slug", "database_url", "sso_issuer"):
        assert DOCUMENT[name]["help"].splitlines()[0] in words
    for text in ("uv run poe dev", "Service http://127.0.0.1:8000", "curl -H", '"username":"dev"'):
        assert text in words
