"""One version of the template: its files, its questions, and who owns what it ships."""

import ast
import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import cast
from unicodedata import normalize

import jinja2
import yaml
from jinja2.sandbox import SandboxedEnvironment
from pathspec import PathSpec
from pathspec.pattern import Pattern

from scripts.releases import NOT_RELEASED, NoHistoryError, git, version_of

type Question = Mapping[str, object]
type Answers = Mapping[str, object]

_CONTENT = "template/"
_SUFFIX = ".jinja"
_CACHES = {"__pycache__", ".dev", ".mypy_cache", ".pytest_cache", ".ruff_cache"}

# Copier's own settings of Jinja. What it renders is no HTML.
ENVIRONMENT = SandboxedEnvironment(
    extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
    undefined=jinja2.StrictUndefined,
    line_statement_prefix="#:",
)


@dataclass(frozen=True)
class Template:
    """A version of the template.

    ``files`` holds the content of each file by the path that it has in a project, which is the
    path below ``template/`` without ``.jinja``.
    """

    version: str
    files: Mapping[str, bytes]
    document: Mapping[str, object]
    changelog: str
    _compiled: dict[str, jinja2.Template] = field(default_factory=dict, repr=False)
    _specs: dict[str, PathSpec[Pattern]] = field(default_factory=dict, repr=False)
    _seeds: dict[str, bool] = field(default_factory=dict, repr=False)

    # --- The questions ---------------------------------------------------------------------------

    @cached_property
    def entries(self) -> dict[str, Question]:
        """Every question by its name, the computed ones too."""
        return {
            name: cast("Question", value)
            for name, value in self.document.items()
            if not name.startswith("_") and isinstance(value, dict)
        }

    @property
    def asked(self) -> dict[str, Question]:
        """The questions whose answers a project keeps: those that are not just computed."""
        return {name: q for name, q in self.entries.items() if q.get("when", True) is not False}

    def choices(self, name: str) -> list[object]:
        """Return the values that a question offers; none for one that is answered freely."""
        choices = self.entries[name].get("choices") or []
        return [*(choices.values() if isinstance(choices, dict) else cast("list[object]", choices))]

    @cached_property
    def default_answers(self) -> Answers:
        """The answers of somebody who accepts every default."""
        answers: dict[str, object] = {"_copier_answers": {"_src_path": "gh:org/template"}}
        for name, question in self.entries.items():
            default = question.get("default", "")
            answer = self.render(default, answers) if isinstance(default, str) else default
            answers[name] = (
                yaml.safe_load(str(answer)) if question.get("type") == "yaml" else answer
            )
        return answers

    @cached_property
    def answer_sets(self) -> list[Answers]:
        """The defaults, and next to them one set for each other choice and each empty answer."""
        sets = [self.default_answers]
        for name in self.asked:
            others = self.choices(name) or ([] if self.default_answers[name] else ["x"])
            sets += [self.default_answers | {name: value} for value in others]  # type: ignore[operator]
        return sets

    def accepts(self, name: str, answer: object) -> bool:
        """Tell whether Copier would accept an answer."""
        choices = self.choices(name)
        if choices and answer not in choices:
            return False
        validator = self.entries[name].get("validator", "")
        try:
            text = self.render(str(validator), {**self.default_answers, name: answer})
        except (jinja2.TemplateError, TypeError, ValueError):
            return False
        return not text.strip()

    def render(self, text: str, context: Answers) -> str:
        """Render a string as Copier does: undefined names are errors."""
        if text not in self._compiled:
            self._compiled[text] = ENVIRONMENT.from_string(text)
        return self._compiled[text].render(context)

    @cached_property
    def moved(self) -> Mapping[str, str]:
        """Where each file is now that an update leaves a module for at its old place."""
        # What some answers leave out has moved for those who have it.
        context = {**self.default_answers, "token_cache": "valkey"}
        table = self.entries.get("moved_modules", {}).get("default", "")
        return {
            entry["old"]: self.path_of(entry["new"])
            for entry in yaml.safe_load(self.render(str(table), context)) or []
        }

    def path_of(self, module: str) -> str:
        """Return the path of a module, which is a package's own where there is one."""
        path = module.replace(".", "/")
        return f"{path}/__init__.py" if f"{path}/__init__.py" in self.files else f"{path}.py"

    # --- Who owns what ---------------------------------------------------------------------------

    def patterns(self, setting: str) -> list[str]:
        """Return the lines of ``_exclude`` or ``_skip_if_exists``, as they are written."""
        return [str(line) for line in cast("list[object]", self.document.get(setting) or [])]

    def _excluded(self, path: str, operation: str, answers: Answers) -> bool:
        return self._matches("_exclude", path, {**answers, "_copier_operation": operation})

    def _matches(self, setting: str, path: str, context: Answers) -> bool:
        key = f"{setting} {context}"
        if key not in self._specs:
            lines = [self.render(line, context) for line in self.patterns(setting)]
            self._specs[key] = PathSpec.from_lines(
                "gitignore",
                [normalize("NFD", line) for text in lines for line in text.splitlines()],
            )
        return bool(self._specs[key].match_file(path))

    def copied(self, path: str, answers: Answers) -> bool:
        """Tell whether a new project with these answers gets a file of this path."""
        return not self._excluded(path, "copy", answers)

    def skipped(self, path: str) -> bool:
        """Tell whether a file that exists is never overwritten."""
        return self._matches("_skip_if_exists", path, self.default_answers)

    def released(self, path: str) -> bool:
        """Tell whether no update touches a file of this path, whatever the answers are."""
        return all(self._excluded(path, "update", answers) for answers in self.answer_sets)

    def held(self, path: str) -> bool:
        """Tell whether new projects get a file of this path, and updates leave it alone."""
        receivers = [answers for answers in self.answer_sets if self.copied(path, answers)]
        return bool(receivers) and all(self._excluded(path, "update", a) for a in receivers)

    def is_seed(self, path: str) -> bool:
        """Tell whether a file is the team's from the first day."""
        if path not in self._seeds:
            self._seeds[path] = self.skipped(path) or self.held(path)
        return self._seeds[path]

    @property
    def ours(self) -> Iterator[str]:
        """The paths of what the template keeps mending: its own files, and the shared ones."""
        return (path for path in self.files if not self.is_seed(path))

    @property
    def seeds(self) -> Iterator[str]:
        """The paths of what is the team's from the first day."""
        return (path for path in self.files if self.is_seed(path))

    # --- What the files say ----------------------------------------------------------------------

    def text(self, path: str) -> str:
        """Return a file's text, or nothing if it is not there or is no text."""
        return self.files.get(path, b"").decode("utf-8", "ignore")

    def module(self, path: str) -> ast.Module | None:
        """Return the syntax tree of a Python file, if it is one that parses."""
        return _parse(self.files[path]) if path.endswith(".py") and path in self.files else None


@lru_cache(maxsize=1000)
def _parse(content: bytes) -> ast.Module | None:
    # Two releases have most files in common, and so their trees.
    try:
        return ast.parse(content)
    except SyntaxError:
        return None


@lru_cache(maxsize=100)
def template_at(root: Path, commit: str) -> Template:
    """Read the template as a commit has it."""
    contents: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(git(root, "archive", commit))) as archive:
        for member in archive:
            if member.issym():
                contents[member.name] = member.linkname.encode()
            elif file := archive.extractfile(member):
                contents[member.name] = file.read()
    return _template(contents)


def template_in(root: Path) -> Template:
    """Read the template as it stands in the work tree, uncommitted changes included."""
    try:
        listing = git(root, "ls-files", "-z", "-co", "--exclude-standard").decode()
        paths = sorted({name for name in listing.split("\0") if os.path.lexists(root / name)})
    except NoHistoryError:
        paths = sorted(
            path.relative_to(root).as_posix()
            for path in root.rglob("*")
            if not _CACHES & {*path.relative_to(root).parts}
        )
    contents: dict[str, bytes] = {}
    for name in paths:
        path = root / name
        if path.is_symlink():
            contents[name] = str(path.readlink()).encode()
        elif path.is_file():
            contents[name] = path.read_bytes()
    return _template(contents)


def _template(contents: Mapping[str, bytes]) -> Template:
    return Template(
        version=version_of(contents.get("pyproject.toml", b"").decode()) or NOT_RELEASED,
        files={
            path.removeprefix(_CONTENT).removesuffix(_SUFFIX): content
            for path, content in contents.items()
            # A name that is computed stands for the modules that have moved.
            if path.startswith(_CONTENT) and "{%" not in path
        },
        document=yaml.safe_load(contents.get("copier.yml", b"").decode()) or {},
        changelog=contents.get("CHANGELOG.md", b"").decode(),
    )
