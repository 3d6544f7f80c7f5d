"""One command says which service stands on which release, whatever its repository holds."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
import yaml

from scripts.fleet import Releases, UnreadableError, main
from tests.projects import REPOSITORY, commit, run, succeed

SCRIPT = REPOSITORY / "scripts" / "fleet.py"
SECRET = "glpat-Zm9vYmFy"
COPIER_YML = """\
project_slug: {type: str, default: my-service}
sso_audience: {type: str, default: my-service}
sso_client_id: {type: str, default: my-service}
sso_client_secret: {type: str, secret: true, default: ""}
ci: {type: str, default: github, choices: {GitHub: github, Nobody: none}}
computed: {type: str, when: false, default: ""}
"""
DEPLOY = "deploy: {type: str, default: docker, choices: [docker, none]}\n"
CHANGELOG = """\
# Changelog

## [Unreleased]

### Security

- Nobody has it yet.

## [0.3.0] - 2026-11-30

### Added

- A question.

## [0.2.0] - 2026-11-20

### Security

- A token of another audience was accepted.
- A secret was logged.

### Fixed

- A typo.

## [0.1.0] - 2026-11-10
"""
ANSWERS = """\
# Written by Copier
_commit: {commit}
_src_path: gh:acme/fastapi-sso-template
ci: github
project_slug: billing
sso_audience: billing
sso_client_id: billing
"""


def write(folder: Path, text: str | bytes, within: str = "") -> Path:
    """Write the answers file of a project."""
    file = folder / within / ".copier-answers.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def repository(folder: Path, answers: str | bytes | None, within: str = "") -> Path:
    """Make a repository with one project."""
    folder.mkdir(parents=True)
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    (folder / "README.md").write_text("A service.\n")
    if answers is not None:
        write(folder, answers, within)
    commit(folder, "Start")
    return folder


def stands_on(release: str, more: str = "") -> str:
    """Return the answers of a project of a release."""
    return ANSWERS.format(commit=release) + more


CURRENT = stands_on("0.3.0", "deploy: docker\n")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template of three releases, in a clone without tags."""
    folder = tmp_path_factory.mktemp("fleet") / "template"
    folder.mkdir()
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    for version in ("0.1.0", "0.2.0", "0.3.0"):
        (folder / "pyproject.toml").write_text(f'[project]\nname = "t"\nversion = "{version}"\n')
        questions = COPIER_YML + (DEPLOY if version == "0.3.0" else "")
        (folder / "copier.yml").write_text(questions)
        (folder / "CHANGELOG.md").write_text(CHANGELOG)
        commit(folder, f"Release {version}")
    return folder


@pytest.fixture
def fleet(tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str]) -> "Fleet":
    """A folder of checkouts, and what is said of it."""
    return Fleet(tmp_path / "fleet", template, capsys)


class Fleet:
    """A folder of checkouts, and what is said of it."""

    def __init__(self, folder: Path, template: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.template = template
        self._capsys = capsys

    def add(self, name: str, answers: str | bytes | None, within: str = "") -> Path:
        """Add a checkout."""
        return repository(self.folder / name, answers, within)

    def says(self, *arguments: str | Path) -> tuple[int, str]:
        """Return the exit code and the table, of the whole folder unless told otherwise."""
        words = [str(it) for it in arguments] or [str(self.folder)]
        code = main(words, self.template)
        return code, self._capsys.readouterr().out

    def rows(self, *arguments: str | Path) -> dict[str, dict[str, object]]:
        """Return the rows of the JSON by the last part of their name."""
        _, printed = self.says("--json", *(arguments or [self.folder]))
        found = json.loads(printed)["services"]
        return {row["service"].rpartition("/")[2]: row for row in found}


class TestWhatItSays:
    def test_the_worst_come_first_and_what_they_lack_is_named(self, fleet: Fleet) -> None:
        fleet.add("current", CURRENT)
        fleet.add("old", stands_on("0.1.0"))
        fleet.add("older-questions", stands_on("0.2.0"))
        fleet.add("another", "_src_path: gh:acme/other\n_commit: 1.0.0\n")
        fleet.add("by-hand", None)

        code, said = fleet.says()

        assert code == 1
        lines = said.splitlines()
        assert re.match(r"\| \S+/old +\| 0\.1\.0 +\| 2 +\| 2 in 0\.2\.0 +\| ", lines[2])
        assert re.match(r"\| \S+/older-questions +\| 0\.2\.0 +\| 1 +\|  +\| ", lines[3])
        assert "new questions: deploy" in lines[3]
        assert re.match(r"\| \S+/current +\| 0\.3\.0 +\| 0 +\|  +\|  +\|$", lines[4])
        assert "3 services: 1 current, 2 behind, 0 could not be read." in said
        assert "0.3.0, of 2026-11-30." in said
        assert re.search(r"Not of this template: \S+/another, \S+/by-hand\.", said)

    def test_json_has_the_sentences_of_the_changelog(self, fleet: Fleet) -> None:
        fleet.add("old", stands_on("0.1.0"))
        row = fleet.rows()["old"]
        assert (row["state"], row["release"], row["behind"]) == ("behind", "0.1.0", 2)
        assert row["security"] == [
            {
                "release": "0.2.0",
                "fixes": ["A token of another audience was accepted.", "A secret was logged."],
            }
        ]
        assert row["new_questions"] == ["deploy"]

    def test_it_ends_with_0_where_all_are_current(self, fleet: Fleet) -> None:
        fleet.add("current", CURRENT)
        assert fleet.says()[0] == 0

    def test_fail_behind_forgives_releases_but_no_security_fix(self, fleet: Fleet) -> None:
        fleet.add("a", stands_on("0.2.0"))
        assert fleet.says("--fail-behind", "2", fleet.folder)[0] == 0
        fleet.add("b", stands_on("0.1.0"))
        assert fleet.says("--fail-behind", "9", fleet.folder)[0] == 1

    def test_an_answer_that_is_no_longer_offered_is_named(self, fleet: Fleet) -> None:
        fleet.add("a", CURRENT.replace("ci: github", "ci: jenkins"))
        assert "ci has an answer that is no longer offered" in fleet.says()[1]

    def test_conflicts_that_were_committed_and_changes_that_were_not_are_seen(
        self, fleet: Fleet
    ) -> None:
        folder = fleet.add("a", CURRENT)
        (folder / "app.py").write_text("<<<<<<< before updating\n=======\n>>>>>>> after updating\n")
        commit(folder, "Update")
        (folder / "README.md").write_text("Changed.\n")

        code, said = fleet.says()

        assert code == 1
        assert "conflict in app.py; uncommitted changes: 1" in said

    def test_a_project_in_a_folder_of_a_repository_has_a_row_of_its_own(self, fleet: Fleet) -> None:
        folder = fleet.add("mono", stands_on("0.1.0"), "services/billing")
        write(folder, CURRENT, "services/shop")
        commit(folder, "Another")
        for place in (folder, f"file://{folder}"):
            rows = fleet.rows(place)
            assert rows["billing)"]["behind"] == 2, place
            assert rows["shop)"]["behind"] == 0, place
        assert fleet.rows(folder / "services" / "shop")["shop"]["state"] == "current"


class TestReleases:
    def test_tags_are_what_copier_goes_by(self, template: Path, tmp_path: Path) -> None:
        clone = tmp_path / "clone"
        succeed("git", "clone", "--quiet", template, clone, cwd=tmp_path)
        for tag, at in {
            "0.1.0": "HEAD~2",
            "0.2.0": "HEAD~1",
            "0.3.0rc1": "HEAD",
            "x": "HEAD",
        }.items():
            succeed("git", "tag", tag, at, cwd=clone)
        releases = Releases(clone)
        assert releases.newest.version == "0.2.0"
        assert releases.judge("a", stands_on("0.1.0").encode()).behind == 1
        assert releases.judge("a", stands_on("0.3.0rc1").encode()).behind == 0

    def test_a_commit_between_two_releases_stands_on_the_first(self, template: Path) -> None:
        second = succeed("git", "rev-parse", "HEAD~1", cwd=template).strip()
        releases = Releases(template)
        for recorded in (second, second[:7], "0.2.0-3-g0123abc"):
            assert releases.judge("a", stands_on(f"'{recorded}'").encode()).behind == 1
        # To PEP 440 these are versions.
        for recorded in ("5a12345", "1234567"):
            with pytest.raises(UnreadableError, match="does not know"):
                releases.judge("a", stands_on(f"'{recorded}'").encode())

    def test_a_release_that_this_clone_lacks_is_not_called_current(self, fleet: Fleet) -> None:
        fleet.add("ahead", stands_on("0.4.0"))
        fleet.add("unknown", stands_on("'0123456789'"))
        code, said = fleet.says()
        assert code == 2
        assert "it stands on 0.4.0, which this clone does not know yet" in said
        assert "it stands on 0123456789, which this clone does not know" in said


HOSTILE: dict[str, str | bytes] = {
    "no-yaml": "a: [\n",
    "binary": b"\x00\xff\xfe",
    "empty": "",
    "list": "- a\n",
    "object": "!!python/object/apply:os.system ['true']\n",
    "deep": "[" * 50_000,
    "long-number": f"a: {'9' * 5000}\n",
    "date": "a: 2026-99-99\n",
    "keys": "? [a]\n: 1\n",
    "numbers": "1: 2\n",
    "aliases": "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(9)),
    "merges": "a: &a {b: c}\nd: {<<: [*a, *a]}\n",
    "no-address": stands_on("0.3.0").replace("gh:acme/fastapi-sso-template", "[[x]]"),
    "huge": "# " + "x" * 200_000,
    "commit-is-a-list": stands_on("[1]"),
    "commit-is-a-number": stands_on("0.3"),
    "commit-is-an-option": stands_on("--output=owned"),
    "commit-moves-the-cursor": stands_on('"\\e[2J|0.3.0"'),
}


class TestHostileRepositories:
    def test_each_answers_file_gets_a_row_and_the_others_are_read(self, fleet: Fleet) -> None:
        for name, text in HOSTILE.items():
            fleet.add(name, text)
        link = fleet.add("link", None) / ".copier-answers.yml"
        link.symlink_to("/etc/passwd")
        fleet.add("pipe", None)
        os.mkfifo(fleet.folder / "pipe" / ".copier-answers.yml")
        fleet.add("good", CURRENT)

        rows = fleet.rows()
        code, said = fleet.says()

        assert code == 2
        assert rows.pop("good")["state"] == "current"
        assert {name for name, row in rows.items() if row["state"] != "unreadable"} == set()
        assert all(row["notes"] for row in rows.values())
        assert rows.keys() == {*HOSTILE, "link", "pipe"}
        assert "\x1b" not in said
        assert not (fleet.folder / "owned").exists()

    def test_the_same_holds_where_they_are_cloned(self, fleet: Fleet) -> None:
        folders = [fleet.add(name, text) for name, text in HOSTILE.items()]
        folders.append(fleet.add("link", None))
        (folders[-1] / ".copier-answers.yml").symlink_to("/etc/passwd")
        commit(folders[-1], "A link")
        rows = fleet.rows(*(f"file://{folder}" for folder in folders))
        assert rows.keys() == {folder.name for folder in folders}
        assert {row["state"] for row in rows.values()} == {"unreadable"}

    def test_a_folder_without_a_repository_and_an_empty_one_get_a_sentence(
        self, fleet: Fleet
    ) -> None:
        write(fleet.folder / "bare-files", CURRENT)
        (fleet.folder / "empty").mkdir()
        succeed("git", "init", "--quiet", "--bare", "empty", cwd=fleet.folder)
        rows = fleet.rows(fleet.folder, fleet.folder / "missing")
        assert "not a git repository" in str(rows["bare-files"]["notes"])
        assert "HEAD" in str(rows["empty"]["notes"])
        assert "No such file" in str(rows["missing"]["notes"])

    def test_no_program_that_a_repository_brings_is_run(self, fleet: Fleet) -> None:
        folder = fleet.add("a", CURRENT)
        for hook in ("post-checkout", "fsmonitor-watchman"):
            file = folder / ".git" / "hooks" / hook
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"#!/bin/sh\ntouch {fleet.folder}/owned\n")
            file.chmod(0o755)
        succeed("git", "config", "core.fsmonitor", str(file), cwd=folder)
        assert fleet.says(fleet.folder, f"file://{folder}")[0] == 0
        assert not (fleet.folder / "owned").exists()

    def test_a_mirror_is_not_asked_to_fetch_what_it_lacks(self, fleet: Fleet) -> None:
        folder = fleet.add("a", CURRENT)
        succeed("git", "config", "uploadpack.allowFilter", "true", cwd=folder)
        clone = ("clone", "--quiet", "--bare", "--filter=blob:none")
        succeed("git", *clone, f"file://{folder}", "../m.git", cwd=folder)
        program = f"touch {fleet.folder}/owned; false"
        mirror = folder.parent / "m.git"
        succeed("git", "config", "remote.origin.uploadpack", program, cwd=mirror)
        rows = fleet.rows(mirror)
        assert rows["m.git"]["state"] == "unreadable"
        assert not (fleet.folder / "owned").exists()


class TestAddresses:
    def test_a_repository_is_read_without_its_history_or_files(self, fleet: Fleet) -> None:
        old = fleet.add("old", stands_on("0.1.0"))
        shutil.move(old, fleet.folder.parent / "elsewhere")
        address = f"file://{fleet.folder.parent}/elsewhere"
        bare = fleet.folder.parent / "mirror.git"
        succeed("git", "clone", "--quiet", "--bare", address, bare, cwd=fleet.template)
        rows = fleet.rows(address, bare)
        assert [row["behind"] for row in rows.values()] == [2, 2]
        assert len(rows) == 2

    def test_a_list_may_have_comments_and_empty_lines(self, fleet: Fleet, tmp_path: Path) -> None:
        folder = fleet.add("a", CURRENT)
        (tmp_path / "list").write_text(f"# ours\n\n{folder}  # billing\nfile://{folder}\n")
        code, said = fleet.says("--list", tmp_path / "list")
        assert code == 0
        assert "2 services: 2 current" in said

    def test_no_credential_is_printed(self, fleet: Fleet) -> None:
        fleet.add("a", CURRENT.replace("gh:acme/", f"https://ci:{SECRET}@git.example.com/"))
        unreachable = f"http://ci:{SECRET}@127.0.0.1:9/a.git?private_token={SECRET}"
        for how in ([], ["--json"]):
            code, said = fleet.says(*how, fleet.folder, unreachable)
            assert code == 2
            assert SECRET not in said
            assert "http://127.0.0.1:9/a.git" in said
            assert "the recorded address of the template holds a credential" in said

    def test_a_server_that_never_answers_costs_its_own_row_alone(
        self, fleet: Fleet, silent: int
    ) -> None:
        folder = fleet.add("a", CURRENT)
        address = f"http://127.0.0.1:{silent}/never.git"
        rows = fleet.rows("--timeout", "1", address, folder)
        assert rows["a"]["state"] == "current"
        assert rows["never.git"]["notes"] == ["no answer within 1 s"]
        left = run("ps", "-eo", "args", cwd=fleet.folder).stdout
        assert address not in left

    def test_an_address_is_no_option_and_no_program(self, fleet: Fleet) -> None:
        fleet.folder.mkdir()
        rows = fleet.rows(f"ext::sh -c 'touch {fleet.folder}/owned'", "ssh://-oProxyCommand=x/a")
        assert [row["state"] for row in rows.values()] == ["unreadable", "unreadable"]
        assert not (fleet.folder / "owned").exists()

    def test_many_are_read_at_a_time(self, fleet: Fleet) -> None:
        first = fleet.add("0", CURRENT)
        for number in range(1, 40):
            shutil.copytree(first, fleet.folder / "team" / str(number))
        code, said = fleet.says("--jobs", "8", fleet.folder)
        assert code == 0
        assert "40 services: 40 current" in said


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


def test_the_script_needs_what_is_tested() -> None:
    block = re.search(
        r"\A# /// script\n(.*?)^# ///$", SCRIPT.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert block is not None
    script = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    assert script["requires-python"] == project["project"]["requires-python"]
    assert script["tool"]["uv"]["exclude-newer"] == project["tool"]["uv"]["exclude-newer"]
    assert set(script["dependencies"]) <= set(project["dependency-groups"]["dev"])


def test_it_runs_as_a_script_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "name a checkout, a folder of checkouts, or an address" in done.stderr or (
        "the history of this clone" in done.stderr
    )


PAGE = (REPOSITORY / "docs" / "fleet.md").read_text("utf-8")


def test_the_page_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"(--[a-z-]+)", capsys.readouterr().out)) - {"--help"}
    named = set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert options == named


def test_the_entry_of_a_catalogue_has_what_its_schema_requires() -> None:
    """The schema is Backstage's, of the kinds Component and API in version v1alpha1."""
    (block,) = (
        it
        for it in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
        if "backstage.io" in it
    )
    component, api = yaml.safe_load_all(block)
    for entity, kind in ((component, "Component"), (api, "API")):
        assert (entity["apiVersion"], entity["kind"]) == ("backstage.io/v1alpha1", kind)
        assert re.fullmatch(r"[a-zA-Z0-9](?:[-_.a-zA-Z0-9]{0,62})", entity["metadata"]["name"])
        assert all(entity["spec"][it] for it in ("type", "lifecycle", "owner"))
    assert component["spec"]["providesApis"] == [api["metadata"]["name"]]
    assert api["spec"]["definition"]
