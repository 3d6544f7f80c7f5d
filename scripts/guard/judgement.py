"""Applies the rules to what has changed since the last release, and says what it amounts to."""

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from scripts.guard import about_code, about_files, about_questions, about_schema, about_shared
from scripts.guard.rules import Change, Finding, Kind
from scripts.guard.template import Template, template_at, template_in
from scripts.releases import NoHistoryError, Release, is_shallow, releases

RULES = (
    *about_files.RULES,
    *about_questions.RULES,
    *about_code.RULES,
    *about_schema.RULES,
    *about_shared.RULES,
)


@dataclass(frozen=True)
class Judgement:
    """What the guard has found, and against what it compared."""

    compared: str
    findings: list[Finding]
    missing: list[str]

    @property
    def passed(self) -> bool:
        """Whether the work tree could be released."""
        return not self.missing and all(f.kind is not Kind.FORBIDDEN for f in self.findings)

    def report(self) -> str:
        """Return the table, and the verdict below it."""
        lines = [f"guard: {self.compared}", *_table(self.findings), ""]
        forbidden = sum(f.kind is Kind.FORBIDDEN for f in self.findings)
        if forbidden:
            lines.append(f"guard: FORBIDDEN, {forbidden}: the sentences say how to do it right.")
        lines += [f"guard: CHANGELOG.md {what}" for what in self.missing]
        if self.passed:
            lines.append("guard: passed.")
        return "\n".join(lines)


def judge(root: Path, since: str | None = None) -> Judgement:
    """Compare the work tree with the last release.

    Where nothing has changed since the last release, it is the release itself that is judged,
    against the one before: CI sees it only once it is committed.

    Args:
        root: The repository.
        since: A release to compare with instead.

    Raises:
        NoHistoryError: There is no such release.
    """
    new = template_in(root)
    try:
        found, shallow = releases(root), is_shallow(root)
    except NoHistoryError as error:
        return _without_release(new, f"no history ({error})")
    if since is not None:
        found = _until(found, since)
    if not found:
        why = "a shallow clone, which shows no release" if shallow else "no release yet"
        return _without_release(new, why)
    past = [template_at(root, release.commit) for release in found]
    if since is None and len(past) > 1 and _same(past[-1], new):
        past.pop()
        found.pop()
    change = Change(past[-1], new, tuple(past))
    compared = f"the work tree, compared with release {found[-1].version} ({found[-1].commit[:7]})"
    findings = _findings(change)
    return Judgement(compared, findings, _missing(change, findings))


def _until(found: list[Release], version: str) -> list[Release]:
    for position, release in enumerate(found):
        if release.version == version:
            return found[: position + 1]
    names = ", ".join(release.version for release in found) or "none"
    raise NoHistoryError(f"there is no release {version} in the history, which has: {names}")


def _same(old: Template, new: Template) -> bool:
    return old.files == new.files and old.document == new.document


def _without_release(new: Template, why: str) -> Judgement:
    compared = f"{why}; only what no release may have was looked for"
    return Judgement(compared, _findings(Change(new, new, (new,))), [])


def _findings(change: Change) -> list[Finding]:
    findings = [finding for rule in RULES for finding in rule.apply(change)]
    serious = {finding.where for finding in findings if finding.kind is not Kind.SAFE}
    kinds = list(Kind)
    return sorted(
        (f for f in findings if f.kind is not Kind.SAFE or f.where not in serious),
        key=lambda finding: (-kinds.index(finding.kind), finding.where, finding.why),
    )


# --- The changelog -------------------------------------------------------------------------------


def _missing(change: Change, findings: list[Finding]) -> list[str]:
    """Return what the changelog would have to say, and does not."""
    sections = {"Unreleased"}
    if change.new.version != change.old.version:
        sections.add(change.new.version)
    entries = _entries(change.new.changelog, sections)
    noted = [finding for finding in findings if finding.kind is Kind.CHANGELOG]
    named = " or ".join(f"[{name}]" for name in sorted(sections, reverse=True))
    if noted and not entries:
        return [f"has no entry under {named}: say what an updating project gets, and must do."]
    return [
        f'does not say "{finding.must_say}" under {named}, because of {finding.where}.'
        for finding in noted
        if finding.must_say.lower() not in " ".join(entries).lower()
    ]


def _entries(changelog: str, sections: set[str]) -> list[str]:
    """Return the text of the entries in some sections."""
    entries = []
    for part in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        if re.sub(r"[\[\]]|\s.*", "", title).removeprefix("v") in sections:
            entries += re.split(r"^[-*] ", text, flags=re.MULTILINE)[1:]
    return [" ".join(entry.split()) for entry in entries]


# --- The table -----------------------------------------------------------------------------------


def _table(findings: list[Finding]) -> list[str]:
    """Return a line for each finding, its place written once."""
    rows = [
        (where if first else "", finding.kind.value, finding.why)
        for where, group in groupby(findings, key=lambda finding: finding.where)
        for first, finding in zip([True] + [False] * len(findings), group, strict=False)
    ]
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    head = ("PATH", "KIND", "WHY")
    return [""] + [
        f"  {row[0]:<{min(widths[0], 60)}}  {row[1]:<{widths[1]}}  {row[2]}"
        for row in [head, *rows]
    ]
