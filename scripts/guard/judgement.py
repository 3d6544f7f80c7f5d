"""Applies the rules to what has changed since the last release, and says what it amounts to."""

import re
from dataclasses import dataclass
from pathlib import Path

from scripts.guard import about_code, about_files, about_questions, about_schema, about_shared
from scripts.guard.rules import Change, Finding, Kind, Rule
from scripts.guard.template import Template, template_at, template_in
from scripts.releases import NoHistoryError, is_shallow, releases

RULES = [
    rule
    for module in (about_files, about_questions, about_code, about_schema, about_shared)
    for rule in vars(module).values()
    if isinstance(rule, Rule)
]


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
        """Return each sentence with the places that it is about, and the verdict below them."""
        lines = [f"guard: {self.compared}"]
        for why in dict.fromkeys(it.why for it in self.findings):
            lines += ["", f"  {why}", *(f"    {it.where}" for it in self.findings if it.why == why)]
        lines += [f"guard: CHANGELOG.md {what}" for what in self.missing]
        return "\n".join([*lines, "", "guard: passed." if self.passed else "guard: FAILED."])


def judge(root: Path) -> Judgement:
    """Compare the work tree with the last release.

    Where nothing has changed since the last release, it is the release itself that is judged,
    against the one before: CI sees it only once it is committed.
    """
    new = template_in(root)
    try:
        found, shallow = releases(root), is_shallow(root)
    except NoHistoryError as error:
        return _without_release(new, f"no history ({error})")
    if not found:
        why = "a shallow clone, which shows no release" if shallow else "no release yet"
        return _without_release(new, why)
    past = [template_at(root, release.commit) for release in found]
    if len(past) > 1 and _same(past[-1], new):
        past.pop()
        found.pop()
    change = Change(past[-1], new, tuple(past))
    compared = f"the work tree, compared with release {found[-1].version} ({found[-1].commit[:7]})"
    findings = _findings(change)
    return Judgement(compared, findings, _missing(change, findings))


def _same(old: Template, new: Template) -> bool:
    return old.files == new.files and old.document == new.document


def _without_release(new: Template, why: str) -> Judgement:
    compared = f"{why}; only what no release may have was looked for"
    return Judgement(compared, _findings(Change(new, new, (new,))), [])


def _findings(change: Change) -> list[Finding]:
    findings = [finding for rule in RULES for finding in rule.apply(change)]
    return sorted(findings, key=lambda it: (it.kind is not Kind.FORBIDDEN, it.where, it.why))


def _missing(change: Change, findings: list[Finding]) -> list[str]:
    """Return what the changelog would have to say, and does not."""
    said = change.changelog_since(change.old)
    text = " ".join(said.split()).lower()
    if not _same(change.old, change.new) and not re.search(r"^[-*] ", said, re.MULTILINE):
        return ["has no entry: say what an updating project gets, and must do."]
    return [
        f'does not say "{finding.must_say}", because of {finding.where}.'
        for finding in findings
        if finding.must_say.lower() not in text
    ]
