"""Say which release of the template the project stands on, and what the newer ones bring.

The template's own repository is asked, with git: its tags are the releases, and its changelog says
what each of them asks of a project.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from template_tools.configuration import PROJECT_ROOT

_ANSWERS_FILE = ".copier-answers.yml"
_UPDATE = "uvx copier update --context-lines 1000"
# Copier's abbreviations of a repository's address.
_ABBREVIATIONS = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}
_RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)")
_SECONDS = 60

type Version = tuple[int, ...]


class StatusError(Exception):
    """A sentence for the developer: what could not be found out, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a project stands; ``current`` is None between two releases."""

    commit: str
    current: Version | None
    releases: dict[Version, str]
    changelog: str

    @property
    def newest(self) -> Version:
        """The newest release."""
        return max(self.releases)

    @property
    def is_behind(self) -> bool:
        """Whether there is something to update to."""
        return self.current is None or self.current < self.newest


def main(arguments: list[str] | None = None) -> int:
    """Print the status; with ``--check``, return 1 where there is a newer release."""
    parser = argparse.ArgumentParser(prog="uv run poe template-status", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 if there is a newer one")
    options = parser.parse_args(arguments)
    try:
        status = read_status(PROJECT_ROOT)
    except StatusError as error:
        print(error, file=sys.stderr)
        return 2
    print(describe(status))
    return 1 if options.check and status.is_behind else 0


def read_status(project: Path) -> Status:
    """Compare the project's answers file with the template's repository.

    Raises:
        StatusError: The file is missing, or the repository cannot be read.
    """
    commit, address = _answers(project)
    releases = _releases(address)
    if not releases:
        raise StatusError(f"{address} has no release yet: no tag of it is a version.")
    match = _RELEASE.fullmatch(commit)
    changelog = _changelog(address, releases[max(releases)])
    return Status(commit, _version(match[1]) if match else None, releases, changelog)


def describe(status: Status) -> str:
    """Return the status in words, with the changelog of every release that is still to come."""
    newest = _text(status.newest)
    if not status.is_behind:
        return f"The project stands on {status.commit} of the template, which is the newest."
    sections = [
        section
        for version, section in _sections(status.changelog)
        if status.current is None or version > status.current
    ]
    first = f"The project stands on {status.commit} of the template; the newest is {newest}."
    if status.current is None:
        first += " It was made between two releases, so the whole changelog follows."
    last = f"On a clean work tree: {_UPDATE}"
    return "\n\n".join([first, *sections, last])


def _answers(project: Path) -> tuple[str, str]:
    """Return the commit and the address that Copier has recorded.

    The two lines are Copier's own and plain, so that no YAML parser is needed.
    """
    try:
        text = (project / _ANSWERS_FILE).read_text("utf-8")
    except OSError as error:
        raise StatusError(f"{_ANSWERS_FILE} cannot be read, and it says which template.") from error
    found = dict(re.findall(r"^(_commit|_src_path): (.+)$", text, re.MULTILINE))
    if len(found) < 2:
        raise StatusError(f"{_ANSWERS_FILE} names no template; it lacks _commit or _src_path.")
    commit, address = (found[name].strip("'\"") for name in ("_commit", "_src_path"))
    for abbreviation, base in _ABBREVIATIONS.items():
        if address.startswith(abbreviation):
            address = f"{base}{address.removeprefix(abbreviation)}.git"
    return commit, address.removeprefix("git+")


def _releases(address: str) -> dict[Version, str]:
    """Return the tag of each release in the repository."""
    tags = re.findall(
        r"refs/tags/(\S+?)(?:\^\{\})?$", _git("ls-remote", "--tags", address), re.MULTILINE
    )
    return {_version(match[1]): tag for tag in tags if (match := _RELEASE.fullmatch(tag))}


def _changelog(address: str, tag: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        options = ["--quiet", "--depth=1", f"--branch={tag}", "--no-checkout"]
        _git("clone", *options, "--", address, folder)
        return _git("-C", folder, "show", "HEAD:CHANGELOG.md")


def _git(*arguments: str) -> str:
    # A question for a password would wait for an answer that a workflow cannot give.
    command = ["git", "-c", "core.askPass=true", "-c", "advice.detachedHead=false", *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            timeout=_SECONDS,
        )
    except FileNotFoundError as error:
        raise StatusError("git is needed to read the template, and it is not installed.") from error
    except subprocess.TimeoutExpired as error:
        raise StatusError("The template's repository does not answer: try again.") from error
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["git says no more"])[-1]
        raise StatusError(
            f"The template's repository cannot be read ({reason}). "
            f"{_ANSWERS_FILE} says where it is, in _src_path."
        )
    return done.stdout


def _sections(changelog: str) -> list[tuple[Version, str]]:
    """Return the section of each release, as it is written, the newest first."""
    parts = re.split(r"^## \[?v?(\d+(?:\.\d+)*)\]?", changelog, flags=re.MULTILINE)[1:]
    return [
        (_version(number), f"## {number}{text.rstrip()}")
        for number, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def _version(number: str) -> Version:
    parts = [int(part) for part in number.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()  # 1.0 and 1.0.0 are the same release.
    return tuple(parts)


def _text(version: Version) -> str:
    return ".".join(str(part) for part in (*version, 0, 0)[: max(3, len(version))])


if __name__ == "__main__":
    sys.exit(main())
