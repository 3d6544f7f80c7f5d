"""What a developer reads in a terminal of 80 columns, and what a pipe or a file gets instead."""

import fcntl
import os
import pty
import re
import select
import shlex
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
from copier import run_update

from tests.answers import DEFAULTS, Answers
from tests.debian import Program, find_or_skip
from tests.processes import free_ports, processes_of, wait_until
from tests.projects import RELEASE, REPOSITORY, Project, commit, output, succeed
from tests.test_copier_yml import DOCUMENT, shown
from tests.test_dev import START_SECONDS, STOP_SECONDS, running

type MakeProject = Callable[[Answers], Project]

STYLE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
SECONDS = 20


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
                self.raw += os.read(self.descriptor, 65536).decode(errors="replace")
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


@dataclass
class Screen:
    """A shell in tmux, which shows what a person would see in a terminal of 80 columns."""

    tmux: Program
    folder: Path

    def run(self, *command: str) -> str:
        """Run a command of tmux, on a server of the test's own."""
        socket = str(self.folder / "tmux")
        server = ("-f", "/dev/null", "-S", socket)
        return succeed(
            self.tmux.path, *server, *command, cwd=self.folder, env={**os.environ, **self.tmux.env}
        )

    def type(self, text: str) -> None:
        """Replace what is in the field of an answer, and press Enter."""
        self.run("send-keys", "C-e", "C-u")
        if text:
            self.run("send-keys", "-l", text)
        self.run("send-keys", "Enter")

    def shows(self, text: str) -> bool:
        """Whether a line of the screen has the text."""
        return text in self.run("capture-pane", "-p", "-J")

    def wait_for(self, text: str) -> None:
        """Return when the text is shown."""
        wait_until(lambda: self.shows(text), SECONDS, lambda: self.run("capture-pane", "-p"))


class TestTheQuestions:
    @pytest.fixture
    def copy(
        self, tmp_path: Path, template: Path, shared_folder: Path
    ) -> Iterator[Callable[[str], Screen]]:
        """Copy the template into a folder of this name."""
        screen = Screen(find_or_skip("usr/bin/tmux", "tmux", shared_folder), tmp_path)

        def copy(name: str) -> Screen:
            command = (sys.executable, "-m", "copier", "copy", template, tmp_path / name)
            shell = f"{shlex.join(map(str, command))} && sleep 600"
            screen.run("new-session", "-d", "-x", "80", "-y", "50", "-c", str(tmp_path), shell)
            screen.wait_for("El idioma")
            screen.run("send-keys", "Enter")
            screen.wait_for("as people say it")
            return screen

        yield copy
        screen.run("kill-server")

    def test_each_reason_of_a_refusal_is_shown_whole(self, copy: Callable[[str], Screen]) -> None:
        screen = copy("new")
        for question, answers, then in (
            (
                "project_name",
                {" ": "Leave out the outer spaces", "x" * 61: "Write 1-60 characters on one line"},
                ("Shop", "One sentence"),
            ),
            (
                "description",
                {"x" * 201: "Write 1-200 characters on one line"},
                ("Sells.", "for machines"),
            ),
            (
                "project_slug",
                {
                    "A": "Write only a-z, 0-9 and hyphens",
                    "a": "Write 2 to 40 characters",
                    "1a": "Write a letter first",
                    "a--b": "Write words joined by single -",
                    "fastapi": "Write another: a package has it",
                },
                ("shop", "The Python"),
            ),
            ("python_version", {}, ("", "Which CI")),
            ("ci", {}, ("", "pull request")),
            ("template_updates", {}, ("", "Nothing: a bare process.")),
            ("deploy", {}, ("", "The PostgreSQL")),
            (
                "database_url",
                {
                    "x": "Write postgresql://user@host/name",
                    "postgresql://a:b@c/d": "Leave the password to .env only",
                },
                ("postgresql://a@c/d", "identity provider's issuer"),
            ),
            (
                "sso_issuer",
                {"x": "Write https://host/path, or nothing"},
                ("https://sso.example.com", "in the aud"),
            ),
            (
                "sso_audience",
                {"a b": "Write 1-255 ASCII, no space or ${"},
                ("shop", "The client at"),
            ),
            (
                "sso_client_id",
                {"a ": "Leave out the outer spaces", "a${": "Write 1 to 255 ASCII, and no ${"},
                ("shop", "client's secret"),
            ),
            (
                "sso_client_secret",
                {"a${": "Write up to 500 ASCII, no ${"},
                ("", "How a token is checked"),
            ),
            ("sso_mode", {}, ("", "a server that all replicas share")),
            ("token_cache", {}, ("", "password here")),
        ):
            for answer, reason in answers.items():
                screen.type(answer)
                screen.wait_for(f"Validation error for question '{question}': {reason}")
            screen.type(then[0])
            screen.wait_for(then[1])
        screen.type("")
        screen.wait_for("Shop is ready")
        assert screen.shows(f"cd {screen.folder}/new")
        assert screen.shows("the database's password goes into DATABASE_URL, in .env")
        assert screen.shows("the client's secret goes into CLIENT_SECRET, in .env")

    def test_without_a_provider_nothing_is_asked_about_it(
        self, copy: Callable[[str], Screen]
    ) -> None:
        screen = copy("it's new")
        following = (
            "One sentence",
            "for machines",
            "The Python",
            "Which CI",
            "pull request",
            "elsewhere",
            "The PostgreSQL",
            "identity provider's issuer",
            "How a token is checked",
            "all replicas share",
            "password here",
        )
        for question in following:
            screen.run("send-keys", "Enter")
            screen.wait_for(question)
        assert not screen.shows("The client at the provider")
        screen.run("send-keys", "Enter")
        screen.wait_for("is ready")
        # It can be pasted into a shell.
        folder = shlex.quote(f"{screen.folder}/it's new")
        assert screen.shows(f"cd {folder}")
        assert not screen.shows("CLIENT_SECRET, in .env")

    def test_an_update_says_the_release_and_the_next_commands(
        self, make_project: MakeProject, template: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = make_project(DEFAULTS).folder
        succeed("git", "init", "--quiet", cwd=folder)
        commit(folder, "Start")
        run_update(folder, defaults=True, overwrite=True)
        said = STYLE.sub("", capfd.readouterr().err)
        assert f"My Service stands on release {RELEASE} now. Next:" in said
        assert "\n  git diff --check " in said
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


@pytest.fixture(scope="module")
def seeded(make_project: MakeProject) -> Project:
    """A project with a resource of its own, whose tables are there."""
    project = make_project(DEFAULTS)
    fields = ("number:str:unique", "amount:decimal", "due:date", "status:draft,sent")
    done = project.poe("resource", "invoice", *fields, "customer:user?")
    assert done.returncode == 0, output(done)
    refused = project.poe("seed")
    assert refused.returncode == 1
    assert "try again: uv run poe migrate" in refused.stderr
    assert project.poe("migrate").returncode == 0
    return project


class TestTheDatabase:
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
            assert re.fullmatch(r"postgresql://app:[\w-]+@127\.0\.0\.1:\d+/app\S*\n", url)
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
        assert shown(DOCUMENT[name]["help"], "en").splitlines()[0] in words
    for text in ("uv run poe dev", "Service http://127.0.0.1:8000", "curl -H", '"username":"dev"'):
        assert text in words
