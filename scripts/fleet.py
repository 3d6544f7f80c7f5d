# /// script
# requires-python = ">=3.13"
# dependencies = ["packaging>=26,<27", "pyyaml>=6.0,<7"]
#
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""Say which service stands on which release of this template, and what it is missing.

Each argument is a checkout, a folder of checkouts, or the address of a repository. The releases are
those that this clone of the template knows. Exit code: 0 if every service is current, 1 if one is
behind, 2 if one could not be read.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, override

import yaml
from packaging.version import InvalidVersion, Version

TEMPLATE = Path(__file__).resolve().parents[1]
# As a script, Python looks for modules in this folder and not above it.
sys.path.insert(0, str(TEMPLATE))

from scripts.releases import NoHistoryError, Release, git, is_shallow, releases  # noqa: E402

ANSWERS = ".copier-answers.yml"
# An answers file has 1 kB; whatever is larger is none.
_LARGEST_ANSWERS = 100_000
_LARGEST_LISTING = 30_000_000
# A folder of checkouts may have folders of teams in it.
_DEEPEST = 3
# Every release has asked these.
_OUR_QUESTIONS = {"project_slug", "sso_audience", "sso_client_id"}
_ADDRESS = re.compile(r"\A(?:[a-z][a-z0-9+.-]*://|g[hl]:|[\w.-]+@[\w.-]+:|[\w-]+(?:\.[\w-]+)+:)")
_SHORT = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}

type State = Literal["behind", "current", "unreadable", "other"]


@dataclass(frozen=True)
class SecurityFixes:
    """What the changelog says under Security in the section of a release."""

    release: str
    fixes: list[str]


@dataclass(frozen=True)
class Service:
    """One project, or a repository that holds none."""

    service: str
    """Where it is: a path or an address, without credentials."""
    state: State
    release: str | None = None
    """The release that it is based on, or the commit where it is based on none."""
    behind: int = 0
    """How many releases are newer."""
    security: list[SecurityFixes] = field(default_factory=list)
    """The security fixes among them."""
    new_questions: list[str] = field(default_factory=list)
    """What the newest release asks, and the project has not answered."""
    conflicts: list[str] = field(default_factory=list)
    """Files of a checkout in which an update's conflict was never resolved."""
    notes: list[str] = field(default_factory=list)


class UnreadableError(Exception):
    """A repository or a file of it cannot be read; the message says why."""


# --- The template ---------------------------------------------------------------------------------


class Releases:
    """The releases of the template, and what the newest one asks and has mended."""

    def __init__(self, root: Path) -> None:
        self._root = root
        found = _tagged(root) or releases(root)
        self._known = sorted(((Version(it.version), it) for it in found), key=lambda it: it[0])
        final = [it for it in self._known if not it[0].is_prerelease] or self._known
        if not final:
            raise NoHistoryError("the history of this clone tells of no release")
        self.newest = final[-1][1]
        self._final = [version for version, _ in final]
        changelog = self._text("CHANGELOG.md")
        self._security = _security_fixes(changelog)
        dated = re.search(
            rf"^## \[?{re.escape(self.newest.version)}\]?\D*([\d-]+)$", changelog, re.MULTILINE
        )
        self.date = dated[1] if dated else None
        self._questions = _questions(self._text("copier.yml"))

    def judge(self, service: str, text: bytes) -> Service:
        """Compare the answers file of a project with the newest release."""
        answers = _answers(text)
        if not answers.keys() >= _OUR_QUESTIONS:
            return Service(service, "other")
        commit, source = answers.get("_commit"), answers.get("_src_path")
        if not isinstance(commit, str) or not isinstance(source, str):
            raise UnreadableError("no release is recorded, so that it cannot take updates")
        version = self._based_on(commit)
        if version > max(it[0] for it in self._known):
            raise UnreadableError(f"it stands on {commit}, which this clone does not know yet")
        newer = [it for it in self._final if it > version]
        notes = [
            f"{it} has an answer that is no longer offered"
            for it, offered in self._questions.items()
            if offered and it in answers and answers[it] not in offered
        ]
        if source != without_credentials(source):
            notes.append("the recorded address of the template holds a credential")
        if not _ADDRESS.match(source.removeprefix("git+")):
            notes.append("the template is recorded as a folder of one machine")
        return Service(
            service,
            "behind" if newer else "current",
            release=commit,
            behind=len(newer),
            security=[it for it in self._security if Version(it.release) in newer],
            new_questions=[it for it in self._questions if it not in answers],
            notes=notes,
        )

    def _based_on(self, commit: str) -> Version:
        """Return the release of a recorded commit: a tag, `git describe`, or a hash."""
        # A hash may look like a version: 5a12345 is an alpha release to PEP 440.
        if not re.fullmatch(r"[0-9a-f]{7,64}", commit):
            with suppress(InvalidVersion):
                return Version(re.sub(r"-\d+-g[0-9a-f]+\Z", "", commit))
        else:
            for version, release in reversed(self._known):
                with suppress(NoHistoryError):
                    git(self._root, "merge-base", "--is-ancestor", release.commit, commit)
                    return version
        raise UnreadableError(f"it stands on {commit[:64]}, which this clone does not know")

    def _text(self, path: str) -> str:
        return git(self._root, "show", f"{self.newest.commit}:{path}").decode()


def _tagged(root: Path) -> list[Release]:
    """Return the tags that are versions: Copier goes by them, where a clone has any."""
    tags = git(root, "tag", "--list").decode().split()
    return [Release(it, f"refs/tags/{it}") for it in tags if _is_version(it)]


def _is_version(text: str) -> bool:
    try:
        return bool(Version(text))
    except InvalidVersion:
        return False


def _security_fixes(changelog: str) -> list[SecurityFixes]:
    found: list[SecurityFixes] = []
    for section in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        release = re.match(r"\[?([^\]\s]+)", section)
        security = re.search(r"^### Security\n(.*?)(?=^### |\Z)", section, re.DOTALL | re.MULTILINE)
        if release and security and _is_version(release[1]):
            fixes = re.findall(r"^- (.+)$", security[1], re.MULTILINE)
            found.append(SecurityFixes(release[1], fixes))
    return found


def _questions(copier_yml: str) -> dict[str, list[object]]:
    """Return what is asked and recorded, with the answers to choose from, if there are any."""
    questions: dict[str, list[object]] = {}
    for name, question in yaml.safe_load(copier_yml).items():
        if not name.startswith("_") and question.get("when") is not False:
            choices = question.get("choices") or []
            allowed = choices.values() if isinstance(choices, dict) else choices
            if not question.get("secret"):
                questions[name] = [*allowed]
    return questions


# --- The answers of a project ---------------------------------------------------------------------


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML without aliases, of which a few lines can make gigabytes; Copier writes none."""

    @override
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def _answers(text: bytes) -> dict[str, object]:
    if len(text) > _LARGEST_ANSWERS:
        raise UnreadableError(f"its {ANSWERS} is larger than 100 kB")
    try:
        answers = yaml.load(text.decode(), _PlainLoader)  # noqa: S506 - it is a safe loader
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError, TypeError) as error:
        raise UnreadableError(f"its {ANSWERS} is no YAML") from error
    if not isinstance(answers, dict) or not all(isinstance(it, str) for it in answers):
        raise UnreadableError(f"its {ANSWERS} holds no answers")
    return answers


def without_credentials(text: str) -> str:
    """Take the user, password and query out of the addresses in a text."""
    text = re.sub(r"(\w://)[^/\s'\"]*@", r"\1", text)
    return re.sub(r"(\w://[^\s'\"?#]*)[?#][^\s'\"]*", r"\1", text)


# --- Repositories ---------------------------------------------------------------------------------


class Reader:
    """Reads repositories, a few at a time, each within a time limit."""

    def __init__(self, template: Releases, jobs: int, seconds: float) -> None:
        self._template = template
        self._seconds = seconds
        self._turn = asyncio.Semaphore(jobs)
        self._environment = os.environ | {
            # Nobody is there to be asked: ssh, too, has no terminal in a session of its own.
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS": "",
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C",
        }
        # They would name one repository for all.
        for name in ("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"):
            self._environment.pop(name, None)
        # The configuration of a repository on this disk would say how a missing file is fetched.
        self._local = self._environment | {"GIT_NO_LAZY_FETCH": "1"}

    async def read(self, place: str | Path) -> list[Service]:
        """Return a row for each project of a repository."""
        name = without_credentials(str(place))
        async with self._turn:
            try:
                async with asyncio.timeout(self._seconds):
                    if isinstance(place, Path):
                        if _is_bare(place):
                            return await self._commit(name, "-C", str(place))
                        return await self._checkout(name, place)
                    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                        clone = Path(folder, "clone")
                        shallow = ("--depth=1", "--filter=blob:none", "--no-checkout")
                        address = _full_address(place)
                        await self._git("clone", "--quiet", *shallow, "--", address, str(clone))
                        return await self._commit(name, f"--git-dir={clone}/.git")
            except TimeoutError:
                return [_unreadable(name, f"no answer within {self._seconds:g} s")]
            except (UnreadableError, OSError) as error:
                return [_unreadable(name, str(error))]

    async def _commit(self, name: str, *where: str) -> list[Service]:
        """Read the projects of the newest commit."""
        listing = await self._git(*where, "ls-tree", "-r", "-z", "HEAD", largest=_LARGEST_LISTING)
        found: dict[str, str] = {}
        for entry in listing.decode("utf-8", "replace").split("\0"):
            about, _, path = entry.partition("\t")
            if path.rpartition("/")[2] == ANSWERS:
                found[path] = about
        rows: list[Service] = []
        for path, about in sorted(found.items()):
            project = _project(name, path)
            mode, _, blob = about.split()
            if mode == "120000":
                rows.append(_unreadable(project, f"its {ANSWERS} is a symbolic link"))
            else:
                text = await self._git(*where, "cat-file", "blob", blob, largest=_LARGEST_ANSWERS)
                rows.append(self._judged(project, text))
        return rows or [Service(name, "other")]

    async def _checkout(self, name: str, folder: Path) -> list[Service]:
        """Read the projects of a working tree, and look for what an update has left in it."""
        here = ("-C", str(folder), "-c", "core.fsmonitor=false")
        names = (ANSWERS, f"**/{ANSWERS}")
        listed = await self._git(*here, "ls-files", "-z", "--", *(f":(glob){it}" for it in names))
        paths = {it for it in listed.decode("utf-8", "surrogateescape").split("\0") if it}
        rows: list[Service] = []
        for path in sorted(paths | {ANSWERS}):
            row = self._read_file(_project(name, path), folder / path)
            if row.state in {"behind", "current"}:
                row = await self._state_of_work(row, here, path.removesuffix(ANSWERS) or ".")
            rows.append(row)
        # The file at the top is looked for where it is not committed either.
        return [it for it in rows if it.state != "other"] or [Service(name, "other")]

    def _read_file(self, project: str, file: Path) -> Service:
        if not os.path.lexists(file):
            return Service(project, "other")
        # A symbolic link could lead anywhere, and a pipe would never end.
        if file.is_symlink() or not file.is_file():
            return _unreadable(project, f"its {ANSWERS} is no plain file")
        with file.open("rb") as opened:
            return self._judged(project, opened.read(_LARGEST_ANSWERS + 1))

    async def _state_of_work(self, row: Service, here: Sequence[str], within: str) -> Service:
        marks = r"^(<<<<<<< before updating|>>>>>>> after updating)"
        marked = await self._git(
            *here, "grep", "-lzE", "--untracked", marks, "--", within, may_find_nothing=True
        )
        conflicts = sorted(it for it in marked.decode("utf-8", "replace").split("\0") if it)
        status = await self._git(*here, "status", "--porcelain", "--", within)
        changed = len(status.splitlines())
        notes = [f"uncommitted changes: {changed}"] if changed else []
        state: State = "behind" if conflicts else row.state
        return replace(row, state=state, conflicts=conflicts, notes=[*row.notes, *notes])

    def _judged(self, project: str, text: bytes) -> Service:
        try:
            return self._template.judge(project, text)
        except UnreadableError as error:
            return _unreadable(project, str(error))

    async def _git(
        self, *arguments: str, largest: int = 1_000_000, may_find_nothing: bool = False
    ) -> bytes:
        """Run git and return what it prints; whatever becomes of it, it is ended."""
        program = shutil.which("git")
        if program is None:
            raise UnreadableError("git is not installed")
        process = await asyncio.create_subprocess_exec(
            program,
            *("-c", f"core.hooksPath={os.devnull}", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._local if arguments[0] == "-C" else self._environment,
            start_new_session=True,
        )
        assert process.stdout is not None  # noqa: S101 - both are pipes
        assert process.stderr is not None  # noqa: S101
        try:
            printed, said = await asyncio.gather(
                _at_most(largest, process.stdout), _at_most(100_000, process.stderr)
            )
            too_large = len(printed) > largest
            code = 0 if too_large else await process.wait()
        finally:
            _end(process)
            for pipe in (process.stdout, process.stderr):
                while await pipe.read(65_536):
                    pass
        if too_large:
            raise UnreadableError(f"what it holds is larger than {largest:,} bytes")
        if code != 0 and not (may_find_nothing and code == 1):
            raise UnreadableError(_last_words(said.decode("utf-8", "replace")))
        return printed


async def _at_most(largest: int, stream: asyncio.StreamReader) -> bytes:
    found = bytearray()
    while len(found) <= largest and (more := await stream.read(65_536)):
        found += more
    return bytes(found)


def _end(process: asyncio.subprocess.Process) -> None:
    """End git and the programs that it has started, such as ssh."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)


def _last_words(said: str) -> str:
    lines = [it.strip() for it in said.splitlines() if it.strip()]
    fatal = [it for it in lines if it.startswith(("fatal:", "ERROR:", "error:"))]
    return without_credentials((fatal or lines or ["git failed"])[0])[:300]


def _unreadable(service: str, why: str) -> Service:
    return Service(service, "unreadable", notes=[without_credentials(why)])


def _project(repository: str, path: str) -> str:
    inside = path.removesuffix(ANSWERS).rstrip("/")
    return f"{repository} ({inside})" if inside else repository


def _full_address(place: str) -> str:
    for short, full in _SHORT.items():
        if place.startswith(short):
            return full + place.removeprefix(short).strip("/")
    return place


def _is_bare(folder: Path) -> bool:
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir()


def places(words: Collection[str]) -> Iterator[str | Path]:
    """Return what the words name: addresses as they are, and the repositories in folders."""
    for word in words:
        if _ADDRESS.match(word) and not Path(word).exists():
            yield word
        else:
            yield from _repositories(Path(word), _DEEPEST) if Path(word).is_dir() else [Path(word)]


def _repositories(folder: Path, deepest: int) -> Iterator[Path]:
    if (folder / ".git").exists() or _is_bare(folder) or os.path.lexists(folder / ANSWERS):
        yield folder
    elif deepest:
        with suppress(PermissionError):
            for child in sorted(folder.iterdir()):
                if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                    yield from _repositories(child, deepest - 1)


# --- What is said ---------------------------------------------------------------------------------


def table(services: Sequence[Service]) -> str:
    """Return the services as a table of Markdown, which can be read as it stands."""
    rows = [["Service", "Release", "Behind", "Security fixes", "Notes"]]
    for it in services:
        fixes = ", ".join(f"{len(part.fixes)} in {part.release}" for part in it.security)
        notes = [f"conflict in {path}" for path in it.conflicts[:3]]
        notes += [f"and in {len(it.conflicts) - 3} more files"] if len(it.conflicts) > 3 else []
        notes += ["new questions: " + ", ".join(it.new_questions)] if it.new_questions else []
        behind = "?" if it.state == "unreadable" else str(it.behind)
        rows.append([it.service, it.release or "?", behind, fixes, "; ".join(notes + it.notes)])
    cells = [[_cell(it) for it in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    # The last column is as long as it is.
    widths[-1] = len(rows[0][-1])
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]])


def _cell(text: str) -> str:
    """Return a text that neither ends a cell nor moves a terminal's cursor."""
    return "".join(it if it.isprintable() else "\N{REPLACEMENT CHARACTER}" for it in text).replace(
        "|", "\\|"
    )


def summary(services: Sequence[Service], template: Releases) -> str:
    """Return how many there are of which state, and what they are compared with."""
    count = {state: [it.service for it in services if it.state == state] for state in _ORDER}
    of = f", of {template.date}" if template.date else ""
    lines = [
        f"{len(services) - len(count['other'])} services: {len(count['current'])} current, "
        f"{len(count['behind'])} behind, {len(count['unreadable'])} could not be read. "
        f"The newest release of the template is {template.newest.version}{of}."
    ]
    if count["other"]:
        others = ", ".join(_cell(it) for it in count["other"])
        lines.append(f"Not of this template: {others}.")
    return "\n\n".join(lines)


_ORDER: list[State] = ["unreadable", "behind", "current", "other"]


def exit_code(services: Sequence[Service], fail_behind: int) -> int:
    """Return 2 if a service could not be read, 1 if one is too far behind, and 0 otherwise."""
    if any(it.state == "unreadable" for it in services):
        return 2
    late = [it.behind >= fail_behind or it.security or it.conflicts for it in services]
    return int(any(late))


def main(arguments: Sequence[str] | None = None, root: Path = TEMPLATE) -> int:
    """Print the table, or JSON, and return the exit code."""
    parser = argparse.ArgumentParser(prog="uv run scripts/fleet.py", description=__doc__)
    parser.add_argument("place", nargs="*", help="a checkout, a folder of them, or an address")
    parser.add_argument("--list", metavar="FILE", help="more of them, one a line; - for the input")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--fail-behind",
        type=_at_least_one,
        default=1,
        metavar="N",
        help="exit with 1 only for N releases, a security fix or a conflict (default: 1)",
    )
    parser.add_argument("--jobs", type=_at_least_one, default=8, help="at a time (default: 8)")
    parser.add_argument(
        "--timeout", type=_at_least_one, default=60, metavar="SECONDS", help="for each (default 60)"
    )
    options = parser.parse_args(arguments)
    try:
        words = [*options.place, *(_lines(options.list) if options.list else [])]
        template = Releases(root)
    except (NoHistoryError, OSError, UnicodeDecodeError) as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 2
    if is_shallow(root):
        print(
            "fleet: this clone of the template is shallow: releases may be missing. Run "
            "`git fetch --unshallow --tags`.",
            file=sys.stderr,
        )
    found = [*dict.fromkeys(places(words))]
    if not found:
        parser.error("name a checkout, a folder of checkouts, or an address")
    services = asyncio.run(_read_all(found, Reader(template, options.jobs, options.timeout)))
    services.sort(key=lambda it: (_ORDER.index(it.state), -it.behind, it.service))
    if options.json:
        newest = {"release": template.newest.version, "date": template.date}
        print(json.dumps({"newest": newest, "services": [asdict(it) for it in services]}, indent=2))
    else:
        if shown := [it for it in services if it.state != "other"]:
            print(f"{table(shown)}\n")
        print(summary(services, template))
    return exit_code(services, options.fail_behind)


async def _read_all(found: Sequence[str | Path], reader: Reader) -> list[Service]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(reader.read(place)) for place in found]
    return [row for task in tasks for row in task.result()]


def _lines(name: str) -> list[str]:
    text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    lines = (line.partition(" #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("write a number from 1")
    return int(text)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
